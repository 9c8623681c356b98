/** GET /metrics of a running relay: who gets it, both formats, that docs and alert rules name what is there. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fastify from 'fastify';
import { loadConfig } from '../../src/config/load.ts';
import { mergeStatus } from '../../src/control/status.ts';
import { formatFor, Samples } from '../../src/http/metrics/exposition.ts';
import { FAMILIES, type Family } from '../../src/http/metrics/families.ts';
import { relayFigures } from '../../src/http/metrics/relay-figures.ts';
import { RelayLink } from '../../src/http/relay-link.ts';
import { metricsRoutes } from '../../src/http/routes/metrics.ts';
import { makeSelfSigned } from '../../src/native.ts';
import { programPath, skipWithout } from '../support/programs.ts';
import { Talk } from '../support/talk.ts';
import { eventually } from '../support/wait.ts';
import { withPlane } from './plane-fixture.ts';

const root = join(import.meta.dirname, '../..');
const ALERTS = join(root, 'packaging/prometheus/alerts.yml');
const folder = mkdtempSync(join(tmpdir(), 'metrics-'));
test.after(() => rmSync(folder, { recursive: true, force: true }));

const families: Record<string, Family> = FAMILIES;

/** As `name{label="text"} 1`: each name with the sets of labels that it comes with. */
function seriesIn(text: string): Map<string, Record<string, string>[]> {
  const found = new Map<string, Record<string, string>[]>();
  for (const line of text.split('\n')) {
    const [, name, pairs = ''] = /^([a-z_]+)(?:\{(.*)\})? -?[\d.e+-]+$/.exec(line) ?? [];
    if (name === undefined) {
      assert.match(line, /^(# (HELP|TYPE) .*|# EOF|)$/);
      continue;
    }
    const labels = [...pairs.matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g)].map(([, label, is]) => [label, is]);
    found.set(name, [...(found.get(name) ?? []), Object.fromEntries(labels)]);
  }
  return found;
}

const figure = (text: string, series: string): number =>
  Number(
    text
      .split('\n')
      .find((line) => line.startsWith(`${series} `))
      ?.slice(series.length + 1) ?? 'NaN',
  );

/** What is there only with a journal, several shards, Redis. */
const ELSEWHERE = /^protorelay_(journal_|shard_up|redis_up)/;

test('a live answer: who gets it, what it says, in both formats; every series is in the docs and in the rules', async (t) => {
  const made = makeSelfSigned(['relay.test'], 10, 'ecdsa');
  const cert = join(folder, 'cert.pem');
  writeFileSync(cert, made.certificate + made.key, { mode: 0o600 });
  const { get, relay, token } = await withPlane(
    t,
    { behind_proxy: true, trusted_proxies: ['127.0.0.1'] },
    {
      accept_processes: 2,
      session_threads: 1,
      delivery_threads: 1,
      database: { driver: 'sqlite', max_mb: 64 },
      tls: { cert_file: cert },
      metrics: { anonymous_networks: ['192.0.2.0/24'] },
      delivery: { enabled: false },
    },
  );
  const from = (ip: string, accept = 'text/plain') =>
    get('/metrics', undefined, { headers: { 'X-Forwarded-For': ip, Accept: accept } });
  const scrape = async (): Promise<string> => String((await from('192.0.2.7')).body);

  assert.equal((await from('192.0.3.7')).status, 401);
  assert.equal(
    (
      await get('/metrics', `pr_${'x'.repeat(8)}_${'x'.repeat(32)}`, {
        headers: { 'X-Forwarded-For': '192.0.2.7' },
      })
    ).status,
    401,
  );
  assert.equal((await get('/metrics', await token('--role', 'viewer'))).status, 200);
  assert.equal((await get('/metrics', await token('--role', 'inject'))).status, 403);
  assert.equal((await get('/metrics', await token('--role', 'admin', '--tenant', 'shop'))).status, 403);
  // Without a token it is only this that is told.
  const status = await get('/api/v1/status', undefined, { headers: { 'X-Forwarded-For': '192.0.2.7' } });
  assert.equal(status.status, 401);

  const talk = await Talk.hello({ port: relay.port });
  assert.match(await talk.send({ to: 'b@b.test' }), /^250 /);
  await eventually(async () => {
    const text = await scrape();
    assert.equal(figure(text, 'protorelay_queue_messages{state="pending"}'), 1, text);
    const accepted = [0, 1].map((process) =>
      figure(text, `protorelay_smtp_accepted_messages_total{process="${process}"}`),
    );
    assert.deepEqual(accepted.sort(), [0, 1]);
    assert.equal(figure(text, 'protorelay_smtp_sessions'), 1);
  });
  talk.destroy();

  const answer = await from('192.0.2.7');
  assert.equal(answer.headers.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8');
  const text = String(answer.body);
  assert.equal(figure(text, 'protorelay_up'), 1);
  assert.equal(figure(text, 'protorelay_delivery_held{reason="delivery_disabled"}'), 1);
  assert.equal(figure(text, 'protorelay_queue_file_limit_bytes'), 2 * 64 * 2 ** 20);
  const ends = figure(text, 'protorelay_certificate_expiry_seconds{certificate="tls.cert_file"}');
  assert.ok(ends > 9 * 86_400 && ends < 11 * 86_400, `${ends}`);
  for (const process of ['0', '1']) {
    assert.equal(figure(text, `protorelay_faults_total{process="${process}",ended="sessions"}`), 0);
    assert.ok(figure(text, `nodejs_eventloop_lag_seconds{process="${process}"}`) > 0);
  }
  for (const process of ['0', '1', 'supervisor', 'http']) {
    assert.ok(figure(text, `process_resident_memory_bytes{process="${process}"}`) > 2 ** 20);
    const startS = figure(text, `process_start_time_seconds{process="${process}"}`);
    assert.ok(Math.abs(startS - Date.now() / 1000) < 300, `${startS}`);
    assert.ok(figure(text, `process_cpu_seconds_total{process="${process}"}`) > 0);
    assert.ok(figure(text, `process_open_fds{process="${process}"}`) > 5);
  }

  const live = seriesIn(text);
  assert.deepEqual(
    Object.keys(FAMILIES).filter((name) => !live.has(name) && !ELSEWHERE.test(name)),
    [],
  );
  for (const [name, sets] of live) {
    const shown = sets.map((labels) => JSON.stringify(labels));
    assert.equal(new Set(shown).size, shown.length, `${name} twice`);
    for (const labels of sets)
      assert.deepEqual(Object.keys(labels).sort(), [...(families[name]?.labels ?? [])].sort());
  }
  rulesName(live);

  const open = await from('192.0.2.7', 'application/openmetrics-text;version=1.0.0,text/plain;q=0.5');
  assert.match(open.headers.get('content-type') ?? '', /^application\/openmetrics-text; version=1\.0\.0/);
  const openText = String(open.body);
  assert.ok(openText.endsWith('\n# EOF\n'));
  assert.match(openText, /^# TYPE process_cpu_seconds counter$/m);
  assert.deepEqual([...seriesIn(openText).keys()], [...live.keys()]);

  if (programPath('promtool') === null)
    t.diagnostic('promtool is not installed: the format was not checked by it');
  else promtool(['check', 'metrics'], text);
});

/** Every name of a series in the rules, with each label and value that it is chosen by, is in the answer. */
function rulesName(live: ReturnType<typeof seriesIn>): void {
  const rules = readFileSync(ALERTS, 'utf8');
  const found = [...rules.matchAll(/\b((?:protorelay|process|nodejs)_[a-z_]+)(?:\{([^}]*)\})?/g)];
  const names = new Set(found.map(([, name = '']) => name).filter((name) => name in FAMILIES));
  assert.ok(names.size >= 12, [...names].join());
  for (const line of rules.split('\n').filter((one) => one.includes('expr:')))
    for (const [, name = '', chosen = ''] of line.matchAll(
      /\b(up|(?:protorelay|process|nodejs)_[a-z_]+)(?:\{([^}]*)\})?/g,
    )) {
      // Prometheus makes `up` itself.
      if (name === 'up') continue;
      assert.ok(live.has(name), `${name} of the rules is not told`);
      for (const [, label = '', values = ''] of chosen.matchAll(/([a-z_]+)=~?"([^"]*)"/g))
        for (const value of values.split('|'))
          assert.ok(
            live.get(name)?.some((labels) => labels[label] === value),
            `${name} has no ${label} ${value}`,
          );
    }
  // Labels that texts of an alert show, and rules group by: each is one of the series, or set by Prometheus.
  for (const alert of rules.split('- alert: ').slice(1)) {
    const [, name = ''] = /(?:expr:.*?)\b(up|protorelay_[a-z_]+)/.exec(alert) ?? [];
    for (const [, label = ''] of alert.matchAll(/\$labels\.([a-z_]+)/g))
      assert.ok(
        label === 'instance' || families[name]?.labels.includes(label),
        `${name} has no label ${label}`,
      );
  }
}

function promtool(words: string[], input = ''): void {
  const { status, stdout, stderr } = spawnSync('promtool', words, {
    input,
    encoding: 'utf8',
    timeout: 60_000,
  });
  assert.equal(status, 0, stdout + stderr);
}

test('the alert rules are good, and fire when they should', { skip: skipWithout('promtool') }, () => {
  promtool(['check', 'rules', ALERTS]);
  const cases = readFileSync(join(import.meta.dirname, 'alerts.test.yml'), 'utf8');
  const path = join(folder, 'alerts.test.yml');
  writeFileSync(path, cases.replace('ALERTS', ALERTS));
  promtool(['test', 'rules', path]);
  // Every alert has a case in which it fires.
  const alerts = [...readFileSync(ALERTS, 'utf8').matchAll(/- alert: (\w+)/g)].map(([, name]) => name);
  const fired = [...cases.matchAll(/alertname: (\w+)\n\s+exp_alerts:\n/g)].map(([, name]) => name);
  assert.deepEqual(fired.sort(), alerts.sort());
});

test('docs/metrics.md has every series as it is', () => {
  const page = readFileSync(join(root, 'docs/metrics.md'), 'utf8');
  const rows = Object.entries(families).map(
    ([name, { type, labels, help }]) =>
      `| \`${name}\` | ${type} | ${labels.map((label) => `\`${label}\``).join(', ')} | ${help} |`,
  );
  const told = page.split('\n').filter((line) => line.startsWith('| `'));
  assert.deepEqual(told, rows);
  for (const [name, { type }] of Object.entries(families))
    assert.equal(name.endsWith('_total'), type === 'counter');
});

test('a relay that does not answer is told as such, beside what the plane knows itself', async (t) => {
  const path = join(folder, 'relay.json');
  writeFileSync(path, JSON.stringify({ hostname: 'mx.test' }));
  const app = fastify();
  t.after(() => app.close());
  metricsRoutes(app, loadConfig(path).config, new RelayLink(join(folder, 'nobody.sock')), Date.now);
  const { statusCode, body } = await app.inject({ url: '/metrics' });
  assert.equal(statusCode, 200);
  assert.equal(figure(body, 'protorelay_up'), 0);
  const others = [...seriesIn(body).keys()].filter((name) => !/^(process|nodejs)_/.test(name));
  assert.deepEqual(others, ['protorelay_up']);
  assert.ok(figure(body, 'process_open_fds{process="http"}') > 5);
});

test('journal, shards and Redis are told where there are any; texts of labels are escaped', () => {
  const samples = new Samples();
  const merged = mergeStatus([]);
  const cluster = {
    up: false,
    sinceMs: 0,
    lastError: '',
    processes: 1,
    silent: 0,
    announced: 0,
    taken: 0,
    outages: 1,
  };
  const status = {
    ...merged,
    pid: 1,
    version: '1.0.0',
    startedAtMs: 0,
    listeners: [],
    reload: null,
    processes: [],
    scheduler: { ...merged.scheduler, cluster },
    journal: { bytes: 5, maxBytes: 50, waiting: 2, oldestMs: 4000, shards: [] },
    shards: [{ name: 'a"\\\n', up: false, error: 'gone' }],
    pressure: 'journal',
  };
  relayFigures(samples, status, 10_000);
  const text = samples.text('prometheus');
  for (const [series, value] of [
    ['protorelay_journal_bytes', 5],
    ['protorelay_journal_limit_bytes', 50],
    ['protorelay_journal_messages', 2],
    ['protorelay_journal_oldest_seconds', 6],
    ['protorelay_redis_up', 0],
    ['protorelay_shard_up{shard="a\\"\\\\\\n"}', 0],
    ['protorelay_pressure{gauge="journal"}', 1],
    ['protorelay_pressure{gauge="disk"}', 0],
  ] as const)
    assert.equal(figure(text, series), value, text);
  assert.ok(!seriesIn(text).has('protorelay_queue_messages'), 'what was not counted is not told as none');
});

test('the format is the one that Accept prefers', () => {
  const prometheus =
    'application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1';
  for (const [accept, format] of [
    [prometheus, 'openmetrics'],
    ['', 'prometheus'],
    ['*/*', 'prometheus'],
    ['text/html,*/*;q=0.8', 'prometheus'],
    ['application/openmetrics-text;q=0.3, text/plain', 'prometheus'],
    ['application/openmetrics-text; q=0', 'prometheus'],
    ['Application/OpenMetrics-Text; q=x, ;;,', 'prometheus'],
    ['application/openmetrics-text', 'openmetrics'],
  ] as const)
    assert.equal(formatFor(accept), format, accept);
});
