/**
 * The column Live of docs/configuration.md is what a reload does, for every key of the schema: planReload applies those
 * that are live and names the others; and for each live key it is said below who reads it, and how a reload gets there.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { z } from 'zod';
import { keyPath } from '../../src/config/key-path.ts';
import { planReload } from '../../src/config/reload.ts';
import { type Config, configSchema } from '../../src/config/schema.ts';
import { entryOf, inner, isLive, shapeOf } from '../../src/config/shape.ts';
import { settingsOf } from '../../src/session/settings.ts';

const ROOT = join(import.meta.dirname, '../..');

interface Leaf {
  /** As the reference writes it: `delivery.routes.*.host`, `policy.rates.limits[].burst`. */
  name: string;
  path: string[];
  schema: z.ZodType;
  live: boolean;
}

/** Every key that has no keys below it. What is in a list, or in a live section, is part of one value. */
function leavesOf(schema: z.ZodType, path: string[] = [], name = '', live = false): Leaf[] {
  return Object.entries(shapeOf(schema) ?? {}).flatMap(([key, below]) => {
    const here = { name: name === '' ? key : `${name}.${key}`, path: [...path, key] };
    const isLiveHere = live || isLive(below);
    if (shapeOf(below) !== null) return leavesOf(below, here.path, here.name, isLiveHere);
    const value = entryOf(below);
    if (value !== null && shapeOf(value) !== null)
      return leavesOf(value, [...here.path, 'a.test'], `${here.name}.*`, isLiveHere);
    const { element } = inner(below).def as { element?: z.ZodType };
    if (element !== undefined && shapeOf(element) !== null)
      return leavesOf(element, [...here.path, '0'], `${here.name}[]`, isLiveHere);
    return [{ ...here, schema: below, live: isLiveHere }];
  });
}

const LEAVES = leavesOf(configSchema);

/** A config where something stands at every path, so that each key can be told by itself. */
function full(): Config {
  const hop = { host: 'hop.test', tls: { server_name: 'x.test' }, auth: { username: 'u', password: 'p' } };
  // A default is one object for all who parse.
  const whole = configSchema.parse({
    delivery: {
      smarthost: hop,
      routes: { 'a.test': hop },
      tls: { destinations: { 'a.test': { mode: 'none' } } },
      dane: { destinations: { 'a.test': { mode: 'off' } } },
    },
    auth: {
      backends: [{ type: 'memory', users: [{ username: 'u', password: 'p' }] }],
      users: { 'a.test': {} },
    },
    attributes: { rules: [{ set: { class: 'bulk' } }] },
    tenants: [{ name: 'shop' }],
    dkim: { keys: [{ domain: 'a.test', selector: 's', file: 's.pem' }] },
    adaptive: { providers: { 'a.test': {} } },
    rules: [{ name: 'a', threshold: { count: 1 }, action: 'alert' }],
    warmup: [{ source: '' }],
    egress: {
      sources: [{ name: 'a' }],
      pools: [{ name: 'p', members: [{ source: 'a' }] }],
      routing: [{ match: {}, pool: 'p', next_hop: { host: 'a.test', tls: {} } }],
    },
    tls: { certificates: [{ cert_file: 'x.pem' }] },
    policy: { dnsbl: { zones: [{ zone: 'list.test' }] } },
  });
  return structuredClone(whole);
}

type Tree = Record<string, unknown>;
const parentOf = (config: object, path: readonly string[]): Tree | undefined =>
  path.slice(0, -1).reduce<Tree | undefined>((at, step) => at?.[step] as Tree | undefined, config as Tree);

/** The config with another value at the path: planReload compares, and does not look at what it is. */
function changed(path: readonly string[], value: unknown = 'changed'): Config {
  const next = full();
  (parentOf(next, path) as Tree)[path.at(-1) as string] = value;
  return next;
}

/** Keys of other drivers than the default: planReload treats them all as one. */
const OTHER_DRIVER = /^database\.(?!driver$|path$|max_mb$|max_messages$)/;

test('every key: a reload applies it where it is live, and else names it and keeps the old value', () => {
  for (const { name, path, live } of LEAVES) {
    if (OTHER_DRIVER.test(name) || parentOf(full(), path) === undefined) {
      assert.match(name, OTHER_DRIVER, `nothing stands at ${name}`);
      assert.ok(!live, name);
      continue;
    }
    const next = changed(path);
    const { config, applied, needsRestart } = planReload(full(), next);
    const [named, others] = live ? [applied, needsRestart] : [needsRestart, applied];
    assert.equal(named.length, 1, `${name}: ${JSON.stringify({ applied, needsRestart })}`);
    assert.deepEqual(others, [], name);
    const written = keyPath(path.map((step) => (/^\d+$/.test(step) ? Number(step) : step)));
    assert.ok(written.startsWith(named[0] as string), `${written} is named ${named[0]}`);
    const used = parentOf(config, path)?.[path.at(-1) as string];
    assert.equal(used === 'changed', live, name);
  }
});

test('routes: what is said of a next hop changes live; to have one more or one less takes a restart', () => {
  const routed = (routes: object) => configSchema.parse({ delivery: { routes } });
  const one = routed({ 'a.test': { host: 'x.test' }, 'b.test': { host: 'y.test' } });
  const moved = planReload(
    one,
    routed({ 'a.test': { host: 'z.test', port: 26 }, 'b.test': { host: 'y.test' } }),
  );
  const at = 'delivery.routes["a.test"]';
  assert.deepEqual([moved.applied, moved.needsRestart], [[`${at}.host`, `${at}.port`], []]);
  assert.deepEqual(moved.config.delivery.routes['a.test'], { host: 'z.test', port: 26 });
  const fewer = planReload(one, routed({ 'a.test': { host: 'z.test' } }));
  assert.deepEqual([fewer.applied, fewer.needsRestart], [[], ['delivery.routes']]);
});

test('the keeping of failed messages begins and ends with the relay', () => {
  const keeping = (keep_failed_messages: number) => configSchema.parse({ queue: { keep_failed_messages } });
  assert.deepEqual(planReload(keeping(0), keeping(5)).needsRestart, ['queue.keep_failed_messages']);
  assert.deepEqual(planReload(keeping(5), keeping(0)).needsRestart, ['queue.keep_failed_messages']);
  assert.deepEqual(planReload(keeping(5), keeping(6)).applied, ['queue.keep_failed_messages']);
});

/**
 * How a reload reaches those who read live keys: the text in a file that hands them the new config, or makes them anew
 * from it. A reader that is in no row has to be looked at, and be given one.
 */
const REACHED: Record<string, readonly [file: string, text: string]> = {
  'src/admission/postmaster.ts': ['src/session/thread.ts', 'postmaster: new Postmaster(from)'],
  'src/admission/pressure.ts': ['src/relay/relay.ts', 'pressure.reconfigure(config)'],
  'src/relay/suppression.ts': ['src/relay/stages.ts', 'settings: () => this.config,'],
  'src/feedback/suppression-rules.ts': [
    'src/relay/suppression.ts',
    'suppressionOrders(item.result, suppression.rules',
  ],
  'src/auth/authenticator.ts': ['src/auth/login-desk.ts', 'this.#authenticator?.reconfigure(auth)'],
  'src/auth/login-desk.ts': ['src/relay/relay.ts', 'logins.reconfigure(config)'],
  'src/auth/file-backend.ts': ['src/auth/authenticator.ts', 'this.#backends = this.#createBackends();'],
  'src/auth/memory-backend.ts': ['src/auth/authenticator.ts', 'this.#backends = this.#createBackends();'],
  'src/auth/remote-backends.ts': ['src/auth/authenticator.ts', 'this.#backends = this.#createBackends();'],
  'src/auth/rules.ts': ['src/auth/authenticator.ts', 'rules: rulesOf(this.#auth, name, rules)'],
  'src/delivery/client/auth.ts': [
    'src/delivery/sender.ts',
    'this.#router = this.#ports.createRouter(config)',
  ],
  'src/delivery/client/blame.ts': ['src/delivery/lane-terms.ts', 'return this.ports.config.delivery;'],
  'src/delivery/client/content.ts': ['src/delivery/lane-terms.ts', 'return this.ports.config.delivery;'],
  'src/delivery/client/envelope.ts': ['src/delivery/lane-terms.ts', 'return this.ports.config.delivery;'],
  'src/delivery/client/hello.ts': ['src/delivery/lane-terms.ts', 'return this.ports.config.delivery;'],
  'src/delivery/client/session.ts': ['src/delivery/lane-terms.ts', 'return this.ports.config.delivery;'],
  'src/delivery/client/tls.ts': ['src/delivery/lane-terms.ts', 'return this.ports.config.delivery;'],
  'src/delivery/destination.ts': ['src/delivery/sender.ts', 'this.config = config;'],
  'src/delivery/lane-terms.ts': ['src/delivery/sender.ts', 'this.config = config;'],
  'src/delivery/detours.ts': ['src/delivery/lane-terms.ts', 'return this.ports.config.delivery;'],
  'src/delivery/dials.ts': ['src/delivery/lane-terms.ts', 'return this.ports.config.delivery;'],
  'src/delivery/host-choice.ts': ['src/delivery/lane-terms.ts', 'return this.ports.config.delivery;'],
  'src/delivery/names/dns.ts': ['src/delivery/thread.ts', 'dns = new Dns(config.dns);'],
  'src/delivery/names/validated-dns.ts': ['src/delivery/thread.ts', 'validated = undefined;'],
  'src/delivery/route.ts': ['src/delivery/thread.ts', 'return new Router(config, {'],
  'src/delivery/security/dane.ts': ['src/delivery/route.ts', 'daneModeOf(this.#config.delivery'],
  'src/delivery/security/sts-refresh.ts': ['src/relay/sts.ts', 'rules: () => current().delivery.mta_sts'],
  'src/delivery/security/tls-policy.ts': ['src/delivery/thread.ts', 'return new Router(config, {'],
  'src/delivery/sender.ts': ['src/delivery/thread.ts', 'sender.reconfigure(message.config)'],
  'src/delivery/settle.ts': ['src/delivery/sender.ts', 'return sender.config;'],
  'src/delivery/suspension.ts': ['src/delivery/sender.ts', 'this.config = config;'],
  'src/delivery/thread.ts': ['src/delivery/thread.ts', 'sender.config.delivery.mta_sts.fetch_timeout_ms'],
  'src/delivery/transcripts.ts': ['src/delivery/thread.ts', 'transcripts.reconfigure(message.config)'],
  'src/dns/resolvers.ts': ['src/delivery/thread.ts', 'dns = new Dns(config.dns);'],
  'src/listener/listener.ts': ['src/relay/relay.ts', 'listener?.reconfigure(config)'],
  'src/policy/bans.ts': ['src/session/thread.ts', 'const policy = new Policy(from,'],
  'src/policy/gate.ts': ['src/listener/listener.ts', 'this.#gate?.reconfigure(config)'],
  'src/policy/keeper.ts': ['src/relay/host-policy.ts', 'forgetMs: () => current().policy.bans.forget_ms'],
  'src/policy/share-limits.ts': ['src/relay/relay.ts', 'shares.reconfigure(config)'],
  'src/shaping/shaping-file.ts': ['src/relay/relay.ts', 'shaping.reconfigure(config)'],
  'src/relay/replies.ts': ['src/relay/relay.ts', 'replies.reconfigure(config)'],
  'src/relay/journal.ts': ['src/relay/stages.ts', 'this.commits, () => this.config)'],
  'src/relay/host-policy.ts': ['src/run.ts', 'current: () => config'],
  'src/relay/relay.ts': ['src/relay/relay.ts', 'this.#stages.config = config;'],
  'src/relay/scheduling.ts': ['src/relay/stages.ts', 'settings: () => this.config'],
  'src/relay/stages.ts': ['src/relay/relay.ts', 'this.#stages.config = config;'],
  'src/relay/sts.ts': ['src/relay/stages.ts', 'current: () => this.config'],
  'src/relay/egress.ts': ['src/relay/relay.ts', 'void sources.start();'],
  'src/relay/adaptive.ts': ['src/relay/learning.ts', 'this.#adaptive.reconfigure(config)'],
  'src/shaping/adaptive/settings.ts': [
    'src/relay/adaptive.ts',
    'settingsOf(() => this.#config.adaptive, sharing)',
  ],
  'src/relay/delivery-rules.ts': ['src/relay/learning.ts', 'this.#rules.reconfigure(config)'],
  'src/shaping/rules/matcher.ts': ['src/shaping/rules/rule-engine.ts', 'matcherOf('],
  'src/shaping/rules/rule-engine.ts': [
    'src/relay/delivery-rules.ts',
    'this.#engine = new RuleEngine(rules);',
  ],
  'src/shaping/warmup/plans.ts': [
    'src/relay/warm-up.ts',
    'plansOf(sourceWarmUps(config), this.#setup.processes)',
  ],
  'src/egress/egress.ts': ['src/delivery/thread.ts', 'createEgress: (config) => new Egress(config)'],
  'src/egress/overflow.ts': ['src/egress/egress.ts', 'this.overflow = new Overflow(config);'],
  'src/egress/pools.ts': ['src/egress/egress.ts', 'new Pools(config.egress)'],
  'src/egress/routing.ts': ['src/egress/egress.ts', 'new Routing(routing)'],
  'src/egress/source-checks.ts': ['src/relay/egress.ts', 'rules: () => {'],
  'src/delivery/open-connections.ts': ['src/delivery/sender.ts', 'return sender.config.delivery;'],
  'src/relay/tls-reports.ts': ['src/relay/relay.ts', 'current: () => this.#stages.config'],
  'src/report/events.ts': ['src/relay/relay.ts', 'events.reconfigure(config)'],
  'src/report/dsn.ts': ['src/delivery/thread.ts', 'return sender.config;'],
  'src/report/tls-report-sender.ts': ['src/relay/tls-reports.ts', 'config: current,'],
  'src/report/tls-rpt.ts': ['src/relay/relay.ts', 'tlsReports.reconfigure(config)'],
  'src/run.ts': ['src/run.ts', 'log.setLevel(next.log.level)'],
  'src/scheduler/retry.ts': ['src/delivery/settle.ts', 'this.#ports.config.retry'],
  'src/session/attribute-rules.ts': ['src/session/settings.ts', 'attributes: new AttributeRules(config)'],
  'src/session/submission.ts': ['src/session/settings.ts', 'added: new AddedFields(config.added_headers)'],
  'src/session/settings.ts': ['src/session/thread.ts', 'Object.assign(context, reloadable(message.config))'],
  'src/session/thread.ts': ['src/relay/relay.ts', "sessions.postAll({ type: 'config'"],
  'src/feedback/return-path-keys.ts': ['src/relay/reports.ts', 'readReturnPathKeys(current())'],
  'src/relay/reports.ts': ['src/relay/stages.ts', 'current: () => this.config'],
  'src/signing/key-book.ts': ['src/relay/signing.ts', 'this.#book.reconfigure('],
  'src/supervisor/process-config.ts': ['src/supervisor/relay-process.ts', 'relay.reload(processConfig('],
  'src/supervisor/relay-process.ts': [
    'src/supervisor/relay-process.ts',
    'this.#log.setLevel(config.log.level)',
  ],
  'src/supervisor/supervisor.ts': ['src/supervisor/supervisor.ts', 'timing: () => {'],
  'src/tls/tls-contexts.ts': ['src/relay/relay.ts', 'tls.reconfigure(config)'],
  'src/supervisor/plane-keeper.ts': ['src/supervisor/plane-keeper.ts', 'this.#config = next;'],
};
for (const file of [
  'http/access.ts',
  'http/certificate.ts',
  'http/engine.ts',
  'http/routes/metrics.ts',
  'http/server.ts',
  'supervisor/plane-process.ts',
])
  REACHED[`src/${file}`] = ['src/supervisor/plane-keeper.ts', "{ type: 'start', config: this.#config }"];
const PARTS = [
  'address-validation', 'dns', 'dnsbl', 'greylist', 'helo', 'part', 'policy', 'rates', 'reverse-dns', 'sender-domain',
]; // biome-ignore format: a list
for (const part of PARTS)
  REACHED[`src/policy/${part}.ts`] = ['src/session/thread.ts', 'const policy = new Policy(from,'];
const POLICY = Object.keys(REACHED).filter((file) => file.startsWith('src/policy/'));

const BACKENDS = ['file', 'memory', 'remote']
  .map((kind) => `src/auth/${kind}-backend${kind === 'remote' ? 's' : ''}.ts`)
  .concat('src/auth/authenticator.ts', 'src/auth/rules.ts');

/** Keys with names that much else has too: who reads them. The first row that fits counts. */
const READERS: readonly [keys: RegExp, ...files: string[]][] = [
  [/^suppression\.rules\./, 'src/feedback/suppression-rules.ts'],
  // For the start, the check and the editor alone.
  [/^(\$schema|include|allow_open_relay)$/],
  [
    /^dns\./,
    'src/dns/resolvers.ts',
    'src/delivery/names/dns.ts',
    'src/delivery/names/validated-dns.ts',
    'src/policy/dns.ts',
  ],
  [/^policy\.bans\.max_failures\./, 'src/policy/bans.ts'],
  [/^policy\.shares\./, 'src/policy/share-limits.ts'],
  [/^policy\.bans\.forget_ms$/, 'src/policy/bans.ts', 'src/relay/host-policy.ts'],
  [/^policy\./, ...POLICY],
  [/^retry\./, 'src/scheduler/retry.ts', 'src/delivery/settle.ts', 'src/delivery/sender.ts'],
  [/^log\.mail$/, 'src/report/events.ts'],
  [/^adaptive\.mode$/, 'src/relay/adaptive.ts'],
  [/^adaptive\./, 'src/shaping/adaptive/settings.ts'],
  [/^rules\[\]\.(match\.|target$)/, 'src/shaping/rules/matcher.ts', 'src/shaping/rules/rule-engine.ts'],
  [/^rules\[\]\./, 'src/shaping/rules/rule-engine.ts', 'src/relay/delivery-rules.ts'],
  [/^warmup\[\]\.overflow_pool$/, 'src/egress/overflow.ts'],
  [/^warmup\[\]\./, 'src/shaping/warmup/plans.ts'],
  [/^egress\.(check_interval_s|dnsbls)$/, 'src/relay/egress.ts', 'src/egress/source-checks.ts'],
  [/^egress\.routing\[\]\.next_hop\./, 'src/egress/routing.ts', 'src/delivery/security/tls-policy.ts'],
  [/^egress\.routing\[\]\./, 'src/egress/routing.ts'],
  [/^egress\.pools\[\]\./, 'src/egress/pools.ts', 'src/egress/egress.ts'],
  [/^egress\.|^delivery\.(ehlo_name|source_address)$/, 'src/egress/egress.ts'],
  [/^shaping\./, 'src/shaping/shaping-file.ts'],
  [/^delivery\.(ip_family|idle_connection_ms)$/, 'src/delivery/route.ts', 'src/delivery/lane-terms.ts'],
  [/^replies\.file$/, 'src/relay/replies.ts'],
  [/^replies\.unknown_kept$/, 'src/delivery/thread.ts', 'src/relay/stages.ts'],
  [/^log\.transcripts\./, 'src/session/thread.ts', 'src/delivery/transcripts.ts'],
  [/^log\.level$/, 'src/run.ts', 'src/session/thread.ts', 'src/supervisor/relay-process.ts'],
  [/^postmaster$/, 'src/admission/postmaster.ts'],
  // To and from after_journal takes a restart, and nothing else tells the others apart.
  [/^inbound_ack_mode$/, 'src/session/settings.ts'],
  // Whether any is kept is of the start: from and to 0 takes a restart.
  [/^queue\.keep_failed_m/, 'src/relay/stages.ts', 'src/supervisor/process-config.ts'],
  [/^database\.max_mb$/, 'src/admission/pressure.ts'],
  [/^hostname$/, 'src/session/settings.ts', 'src/listener/listener.ts', 'src/report/dsn.ts'],
  [/^tls\.(cert|key)_file$|^tls\.certificates/, 'src/tls/tls-contexts.ts'],
  [/^delivery\.tls\.(cert|key|ca|crl)_file$/, 'src/tls/tls-contexts.ts'],
  [/^(delivery\.)?tls\.(ciphers|ciphersuites|client_ca_file|client_crl_file)$/, 'src/tls/tls-contexts.ts'],
  [/^smtp\.vrfy$/, 'src/session/settings.ts'],
  [/^smtp\.overload_hold_ms$/, 'src/admission/pressure.ts'],
  [/^auth\.backends\[\]\.(users\[\]|type|path|query|service|config_dir|url|headers|timeout_ms)/, ...BACKENDS],
  [/^auth\.users\./, 'src/auth/rules.ts'],
  [/^(attributes|tenants)\b/, 'src/session/attribute-rules.ts'],
  [/^dkim\./, 'src/signing/key-book.ts'],
  [/^return_path\./, 'src/feedback/return-path-keys.ts'],
  [/^http\.(host|port|tokens_file)/, 'src/supervisor/plane-process.ts'],
  [/^http\.(max_connections|request_timeout_ms)$/, 'src/http/engine.ts'],
  [/^http\.(max_body_kb|max_concurrent_requests|behind_proxy|trusted_proxies)$/, 'src/http/server.ts'],
  [/^http\.(allowed_hosts|requests_per_min)$/, 'src/http/access.ts'],
  [/^http\.tls\./, 'src/http/certificate.ts'],
  [/^metrics\.anonymous_networks$/, 'src/http/routes/metrics.ts'],
  [/^metrics\.enabled$/, 'src/http/server.ts'],
  [/^http\.enabled$/, 'src/supervisor/plane-keeper.ts'],
  [/^added_headers\./, 'src/session/submission.ts'],
  [/^auth\.mechanisms$/, 'src/auth/login-desk.ts', 'src/session/settings.ts'],
  [/^auth\.(sender_policy|(messages|recipients)_per)/, 'src/auth/rules.ts'],
  [/^auth\.cache_/, 'src/auth/authenticator.ts'],
  [/^delivery\.(smarthost|routes\.\*)\.auth\./, 'src/delivery/client/auth.ts'],
  [/^delivery\.(smarthost|routes\.\*)\./, 'src/delivery/route.ts', 'src/delivery/security/tls-policy.ts'],
  [
    /^delivery\.(tls|dane)\.(destinations\.\*\.)?mode$/,
    'src/delivery/security/tls-policy.ts',
    'src/delivery/security/dane.ts',
  ],
  [
    /^delivery\.tls_rpt\./,
    'src/report/tls-rpt.ts',
    'src/report/tls-report-sender.ts',
    'src/relay/tls-reports.ts',
  ],
  [/^delivery\.source_address$/, 'src/delivery/sender.ts'],
];

const sources = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts') && !/^(config|check|cli|lint|base\/log-)\b/.test(file))
  .map((file) => `src/${file}`);
const texts = new Map(sources.map((file) => [file, readFileSync(join(ROOT, file), 'utf8')]));
const textOf = (file: string): string => texts.get(file) ?? readFileSync(join(ROOT, file), 'utf8');

/** Without comments, which name keys too. */
const code = new Map(sources.map((file) => [file, textOf(file).replaceAll(/^ *(\*|\/\/|\/\*\*).*$/gm, '')]));
const known = new Map<string, string[]>();

/** Files that read a property of that name; where it is one plain word, of those that have the config in hands. */
function readersOf(key: string): string[] {
  const read = new RegExp(`[\\s{.,(]${key.replace('$', '\\$')}\\b(?!')`);
  const reads = (file: string): boolean => {
    const text = code.get(file) ?? '';
    if (!read.test(text)) return false;
    return key.includes('_') || REACHED[file] !== undefined || text.includes("config/schema.ts'");
  };
  const found = known.get(key) ?? sources.filter(reads);
  known.set(key, found);
  return found;
}

test('of every live key it is known who reads it, and how a reload gets there', () => {
  const unknown: string[] = [];
  const used = new Set<string>();
  for (const { name } of LEAVES.filter(({ live }) => live)) {
    const key = name.split('.').at(name.includes('.max_failures.') ? -2 : -1) as string;
    const [, ...named] = READERS.find(([keys]) => keys.test(name)) ?? [];
    if (/^(\$schema|include|allow_open_relay)$/.test(name)) continue;
    // The config itself makes plans of sources of it (sourceWarmUps).
    if (name === 'warmup[].pool') continue;
    const reading = readersOf(key);
    const readers = named.length === 0 ? reading : named.filter((file) => reading.includes(file));
    if (readers.length === 0) unknown.push(`${name}: nobody`);
    for (const file of readers) {
      used.add(file);
      if (REACHED[file] === undefined) unknown.push(`${name}: ${file}`);
    }
  }
  assert.deepEqual(
    unknown,
    [],
    'look whether a reload reaches it, and add it to REACHED, or the key to READERS',
  );
  assert.deepEqual(
    Object.keys(REACHED).filter((file) => !used.has(file)),
    [],
  );
  const broken = Object.entries(REACHED).filter(([, [file, text]]) => !textOf(file).includes(text));
  assert.deepEqual(broken, []);
});

test('questions to DNS are asked by the rules of the last reload, whoever asks', () => {
  const makers = sources.filter((file) => /new (Dns|ValidatedDns|PolicyDns)\(/.test(textOf(file)));
  assert.deepEqual(makers.sort(), [
    'src/delivery/thread.ts',
    'src/policy/policy.ts',
    'src/relay/current-dns.ts',
  ]);
});

test('what sessions go by is made of the new config: every live key that they read makes a difference', () => {
  const other: Record<string, unknown> = {
    bare_newlines: 'normalize',
    nul_bytes: 'accept',
    untrusted_routing: 'accept',
    inbound_ack_mode: 'after_enqueue',
    hostname: 'other.test',
    kept_headers: ['x-other'],
    client_fingerprints: ['ab'],
    mechanisms: ['PLAIN'],
  };
  const read = LEAVES.filter(
    ({ name, live }) => live && /^(smtp\.|auth\.(?!backends|users)|tls\.|[a-z_]+$)/.test(name),
  ).filter(({ path }) => readersOf(path.at(-1) as string).includes('src/session/settings.ts'));
  assert.ok(read.length > 25, String(read.length));
  for (const { name, path } of read) {
    const was = parentOf(full(), path)?.[path.at(-1) as string];
    const key = path.at(-1) as string;
    const is =
      other[key] ?? (typeof was === 'boolean' ? !was : typeof was === 'number' ? was + 1 : undefined);
    assert.notEqual(is, undefined, `${name} needs another value here`);
    assert.notDeepEqual(settingsOf(changed(path, is)), settingsOf(full()), name);
  }
});
