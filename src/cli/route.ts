/** `protorelay route RCPT`: which way mail to a recipient goes, and what limits it there. Asks DNS itself, and the relay if one runs. */
import { type Command, Option } from 'commander';
import { RelayPolicy } from '../admission/relay-policy.ts';
import { domainForm, domainKey, domainOf } from '../base/domain.ts';
import { EXIT } from '../base/exit-codes.ts';
import { printableJson, printableLines } from '../base/printable.ts';
import { steadyMs, timeOfDayMs } from '../base/steady.ts';
import { configFor } from '../config/load.ts';
import type { Config } from '../config/schema.ts';
import { timeOrNull } from '../control/words.ts';
import { type Decision, type Result, Routing } from '../egress/routing.ts';
import { MAIL_CLASSES } from '../mail/attributes.ts';
import type { AskedEntry, Blocker, Explained } from '../mail/blocker.ts';
import { destinationOf, SMARTHOST } from '../mail/destination.ts';
import { domainIn } from '../shaping/message-gates.ts';
import { addressOf } from './arguments.ts';
import type { CommandLine } from './command-line.ts';
import { columns } from './format.ts';
import { learnedLimitLines, learnedLimitsBySite, type ShownLearnedLimit } from './learned-limits-shown.ts';
import { learnedLines, type ShownLearned } from './learned-shown.ts';

/** What of the config says where mail goes. */
const KEYS = [
  'data_dir',
  'hostname',
  'relay_domains',
  'dns',
  'egress',
  'shaping',
  'adaptive',
  'warmup',
  ...['routes', 'smarthost.host', 'smarthost.port', 'mx_port', 'source_address', 'ehlo_name'].map(
    (key) => `delivery.${key}`,
  ),
];

interface RouteOptions {
  from?: string;
  tenant?: string;
  campaign?: string;
  class?: string;
  pool?: string;
  id?: string;
  json: boolean;
}

export interface MxAnswer {
  hosts: { preference: number; exchange: string }[];
  /** Why they are not known, or that the domain takes no mail. */
  error: string | null;
  /** DNS gave no answer now. */
  isTemporary: boolean;
}

interface RouteAnswer {
  recipient: string;
  class: string;
  destination: string;
  /** mx, smarthost, route, or literal: an address in place of a domain. */
  way: 'mx' | 'smarthost' | 'route' | 'literal';
  /** Of a smarthost or route. */
  next_hop: string | null;
  mx: { preference: number; exchange: string }[];
  mx_error: string | null;
  site: string | null;
  provider: string | null;
  /** What of the shaping data the provider was found by, as `mx_suffix google.com`, and where it stands. */
  provider_rule: string | null;
  provider_rule_at: string | null;
  /** What `egress.routing` says: that the mail leaves from a pool (or from the default source), goes to a next hop, or does not go. */
  result: Result;
  /** The rule that says so, as `egress.routing[2]`, with its name where it has one; null: none, or the message names its pool. */
  rule: string | null;
  rule_name: string | null;
  /** The class, and the rules that made it so. */
  mail_class: string | null;
  class_rules: string[];
  pool: string | null;
  /** What named the pool: `--pool`, or `egress.routing[2]`. */
  pool_rule: string | null;
  pool_members: { source: string; weight: number; share: number }[];
  /** null: none may send. '' is the default one. */
  source: string | null;
  limits: {
    limit: string;
    value: unknown;
    used: number | null;
    since: string | null;
    until: string | null;
    set_by: string | null;
  }[];
  learned: ShownLearned[];
  learned_limits: ShownLearnedLimit[];
  blockers: {
    kind: Blocker['kind'];
    key: string;
    limit: number | null;
    used: number | null;
    since: string | null;
    until: string | null;
    set_by: string | null;
  }[];
  /** Whether a running relay was asked: else nothing is known of what is used. */
  relay_running: boolean;
}

export function addRoute(program: Command, line: CommandLine): void {
  program
    .command('route <recipient>')
    .description('which way mail to a recipient goes: hosts, site, provider, pool, source, and every limit')
    .option('--from <address>', 'the sender')
    .option('--tenant <name>', 'the tenant')
    .option('--campaign <name>', 'the campaign')
    .addOption(new Option('--class <class>', 'the class').choices(MAIL_CLASSES))
    .option('--pool <name>', 'the pool that the message names')
    .option('--id <id>', 'a queue id: which member of a pool a message takes, goes by its id')
    .option('--json', 'print JSON', false)
    .action(async (written: string, options: RouteOptions) => {
      const recipient = addressOf(written);
      const domain = domainOf(recipient);
      const isLiteral = domain.startsWith('[') && domain.endsWith(']');
      if (!recipient.includes('@') || (!isLiteral && domainForm(domain) === null))
        line.usage(`${written} is no address of a recipient`);
      const config = configFor(KEYS, line.configPath());
      const { answer, isTemporary } = await routeOf(config, recipient, domain, options);
      line.out.write(
        options.json
          ? `${printableJson(JSON.stringify(answer, null, 2))}\n`
          : printableLines(routeText(answer)),
      );
      if (isTemporary) line.endsWith(EXIT.temporary);
    });
}

async function routeOf(
  config: Config,
  recipient: string,
  domain: string,
  options: RouteOptions,
): Promise<{ answer: RouteAnswer; isTemporary: boolean }> {
  const { delivery, egress } = config;
  const table = {
    smarthost: delivery.smarthost !== undefined,
    routed: new Set(Object.keys(delivery.routes)),
  };
  const destination = destinationOf(domain, table);
  const hop = destination === SMARTHOST ? delivery.smarthost : delivery.routes[destination];
  const isLiteral = domain.startsWith('[');
  const way =
    hop !== undefined ? (destination === SMARTHOST ? 'smarthost' : 'route') : isLiteral ? 'literal' : 'mx';
  const mx = way === 'mx' ? await mxOf(config, domain) : NO_HOSTS;
  const found = way === 'mx' && mx.error === null ? await siteOf(config, domain, mx) : null;
  const asked: AskedEntry = {
    queueId: options.id ?? '',
    destination,
    sender: addressOf(options.from ?? ''),
    tenant: options.tenant ?? '',
    campaign: options.campaign ?? '',
    class: options.class ?? '',
    pool: options.pool ?? '',
    site: found?.site,
  };
  const { explained, isRunning } = await explainedBy(config, asked);
  const { site, provider, pool, source } = explained;
  const members = egress.pools.find(({ name }) => name === pool)?.members ?? [];
  const weights = members.reduce((sum, { weight }) => sum + weight, 0);
  const decision = decisionOn(config, asked, provider, domain);
  const ruled = ruledHop(config, decision);
  const rule = decision.rule === null ? null : ruleAt(decision.rule);
  return {
    isTemporary: mx.isTemporary,
    answer: {
      recipient,
      class: new RelayPolicy([], config.relay_domains).isRelayDomain(domain) ? 'relay' : 'external',
      destination,
      way: ruled === undefined ? way : 'route',
      next_hop: (ruled ?? hop) === undefined ? null : hopText(ruled ?? hop),
      mx: mx.hosts,
      mx_error: mx.error,
      site,
      provider: provider === '' ? null : provider,
      provider_rule: found?.rule ?? null,
      provider_rule_at: found?.ruleAt ?? null,
      result: decision.result,
      rule,
      rule_name: decision.rule === null ? null : (egress.routing[decision.rule]?.name ?? null),
      mail_class: decision.class === '' ? null : decision.class,
      class_rules: decision.classRules.map(ruleAt),
      pool: pool === '' ? null : pool,
      pool_rule: pool === '' ? null : (rule ?? '--pool'),
      pool_members: members.map((one) => ({
        source: one.source,
        weight: one.weight,
        share: Math.round((one.weight / weights) * 1000) / 1000,
      })),
      source,
      limits: explained.limits.map(({ sinceMs, untilMs, setBy, ...limit }) => ({
        ...limit,
        since: timeOrNull(sinceMs),
        until: timeOrNull(untilMs),
        set_by: setBy || null,
      })),
      ...(isRunning || site === null ? NOTHING_LEARNED : await learnedAt(config, site, source ?? '')),
      blockers: explained.blockers.map(({ sinceMs, untilMs, setBy, ...blocker }) => ({
        ...blocker,
        since: timeOrNull(sinceMs),
        until: timeOrNull(untilMs),
        set_by: setBy || null,
      })),
      relay_running: isRunning,
    },
  };
}

const NO_HOSTS: MxAnswer = { hosts: [], error: null, isTemporary: false };

async function mxOf({ dns }: Config, domain: string): Promise<MxAnswer> {
  const { Queries } = await import('../dns/queries.ts');
  const { isNullMx } = await import('../delivery/names/mx.ts');
  try {
    const records = (await new Queries(dns).resolveMx(domain)).map(({ priority, exchange }) => ({
      preference: priority,
      exchange: exchange.toLowerCase().replace(/\.$/, ''),
    }));
    if (isNullMx(records)) return { ...NO_HOSTS, error: 'it takes no mail (null MX)' };
    return { ...NO_HOSTS, hosts: records.sort((a, b) => a.preference - b.preference) };
  } catch (error) {
    const { code = '', message } = error as NodeJS.ErrnoException;
    // The domain is its own host then (RFC 5321 §5.1).
    if (code === 'ENODATA') return { ...NO_HOSTS, hosts: [{ preference: 0, exchange: domain }] };
    if (code === 'ENOTFOUND') return { ...NO_HOSTS, error: `${domain} does not exist` };
    return { hosts: [], error: message, isTemporary: true };
  }
}

async function siteOf(
  { shaping }: Config,
  domain: string,
  { hosts }: MxAnswer,
): Promise<{ site: { key: string; provider: string }; rule: string | null; ruleAt: string | null }> {
  const { loadShaping } = await import('../shaping/shaping-file.ts');
  const { Sites } = await import('../shaping/sites.ts');
  const loaded = loadShaping(shaping);
  const sites = new Sites(loaded.data.providers, loaded.data.rollup);
  const site = sites.of(domain, hosts);
  const match = site.provider === '' ? null : sites.matchOf(domain, hosts);
  if (match === null) return { site, rule: null, ruleAt: null };
  const place = loaded.placeOfMatch(site.provider, match.list, match.name);
  return {
    site,
    rule: `${match.list} ${match.name}`,
    ruleAt: place === null ? null : `${place.file}:${place.line}`,
  };
}

async function explainedBy(
  config: Config,
  asked: AskedEntry,
): Promise<{ explained: Explained; isRunning: boolean }> {
  const { runningRelay } = await import('../control/running-relay.ts');
  const client = await runningRelay(config.data_dir);
  if (client !== null)
    try {
      const [explained] = await client.explain([asked]);
      if (explained !== undefined) return { explained, isRunning: true };
    } finally {
      client.close();
    }
  const { explainStopped } = await import('../relay/explain.ts');
  return { explained: explainStopped(config, asked), isRunning: false };
}

const NOTHING_LEARNED = { learned: [], learned_limits: [] };

/** What was learned lies in files, which a stopped relay leaves. */
async function learnedAt(
  config: Config,
  site: string,
  source: string,
): Promise<Pick<RouteAnswer, 'learned' | 'learned_limits'>> {
  const { learnedBySite } = await import('./learned-shown.ts');
  const { settingsOf } = await import('../shaping/adaptive/settings.ts');
  const nowMs = timeOfDayMs(steadyMs());
  const learned = learnedBySite(
    config.data_dir,
    settingsOf(() => config.adaptive),
    nowMs,
  );
  const limits = learnedLimitsBySite(config.data_dir, nowMs).get(site) ?? [];
  return {
    learned: (learned.get(site) ?? []).filter(({ scope, value }) => scope !== 'source' || value === source),
    learned_limits: limits.filter((one) => one.source === source),
  };
}

function decisionOn({ egress }: Config, asked: AskedEntry, provider: string, domain: string): Decision {
  const { tenant, campaign, pool, sender } = asked;
  const routed = {
    tenant,
    campaign,
    class: asked.class,
    pool: egress.pools.some(({ name }) => name === pool) ? pool : '',
    fromDomain: domainIn(sender),
    recipientDomain: domainKey(domain),
    provider,
  };
  return new Routing(egress.routing).decide(routed);
}

const ruleAt = (rule: number): string => `egress.routing[${rule}]`;

type NextHop = { host: string; port: number };

const hopText = ({ host, port }: NextHop = { host: '', port: 0 }): string => `${host}:${port}`;

/** The next hop that a rule names. */
function ruledHop({ delivery, egress }: Config, { result, value, rule }: Decision): NextHop | undefined {
  if (result !== 'route' || rule === null) return undefined;
  const hop = egress.routing[rule]?.next_hop;
  if (hop !== undefined) return hop;
  return value === SMARTHOST ? delivery.smarthost : delivery.routes[value];
}

const RESULT_TEXT: Readonly<Record<Result, string>> = {
  pool: 'goes',
  route: 'goes to the next hop of the rule',
  hold: 'held until "queue release"',
  discard: 'discarded',
};

const ruleText = ({ result, rule, rule_name }: RouteAnswer): string =>
  `${rule}${rule_name === null ? '' : ` (${rule_name})`}: ${RESULT_TEXT[result]}`;

function routeText(answer: RouteAnswer): string {
  const { next_hop, mx, mx_error, site, provider, provider_rule, provider_rule_at, pool, source } = answer;
  const hosts = mx.map(({ preference, exchange }) => `${preference} ${exchange}`).join(', ');
  const members = answer.pool_members.map((one) => `${one.source} ${Math.round(one.share * 100)} %`);
  const rows = [
    ['Recipient', `${answer.recipient} (${answer.class})`],
    ['Way', next_hop === null ? answer.way : `${answer.way} ${next_hop}`],
    ...(answer.way === 'mx' ? [['MX', mx_error ?? hosts]] : []),
    ...(site === null ? [] : [['Site', site]]),
    ...(provider === null ? [] : [['Provider', `${provider}, by ${provider_rule} (${provider_rule_at})`]]),
    ...(answer.rule === null || answer.result === 'pool' ? [] : [['Rule', ruleText(answer)]]),
    ...(answer.class_rules.length === 0
      ? []
      : [['Class', `${answer.mail_class}, by ${answer.class_rules.join(', ')}`]]),
    ['Pool', pool === null ? 'none' : `${pool} (${answer.pool_rule}): ${members.join(', ')}`],
    ['Source', source === null ? 'none may send' : source === '' ? 'the default one' : source],
  ];
  const limits = answer.limits.map(({ limit, value, used, since, until, set_by }) => [
    `  ${limit}`,
    typeof value === 'object' ? JSON.stringify(value) : String(value),
    used === null ? '' : `${used} used`,
    `${set_by ?? ''}${since === null ? '' : `, since ${since}`}${until === null ? '' : `, until ${until}`}`,
  ]);
  const blockers = answer.blockers.map(({ kind, key, until, set_by }) => [
    `  ${kind}`,
    key,
    until === null ? '' : `until ${until}`,
    set_by ?? '',
  ]);
  const part = (title: string, lines: string): string => (lines === '' ? '' : `${title}\n${lines}`);
  return [
    columns(rows),
    part('Limits', columns(limits)),
    [...learnedLines(answer.learned), ...learnedLimitLines(answer.learned_limits)]
      .map((one) => `${one}\n`)
      .join(''),
    part('Keeps mail now', columns(blockers)),
    answer.relay_running ? '' : 'No relay is running: what is used of limits is not known.\n',
  ].join('');
}
