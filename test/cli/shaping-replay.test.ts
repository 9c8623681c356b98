/** `protorelay shaping replay`: past events, plain and compressed, told to rules and to the adaptive control. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import { run } from '../support/child.ts';
import { MAIN } from '../support/relay-fixture.ts';

const dir = mkdtempSync(join(tmpdir(), 'replay-'));
after(() => rmSync(dir, { recursive: true }));

const GMAIL =
  '421 4.7.28 Our system has detected an unusual rate of unsolicited mail originating from your IP address';
let ids = 0;

function event(type: string, time: string, changes: Record<string, unknown> = {}): string {
  return `${JSON.stringify({
    type,
    time,
    node: 'mx1',
    queue_id: `id${++ids}`,
    sender: 'news@shop.example',
    destination: 'gmail.com',
    attempt: 1,
    reply: type === 'delivered' ? '250 2.0.0 OK' : GMAIL,
    peer_host: 'gmail-smtp-in.l.google.com',
    transfer_ms: 100,
    recipient: 'r@gmail.com',
    ...changes,
  })}\n`;
}

const at = (s: number): string => new Date(Date.UTC(2026, 2, 1, 10) + s * 1000).toISOString();

test('says per rule and target what would have been done, the limits, and the curve; from plain and compressed files', async () => {
  const first = Array.from({ length: 100 }, (_, i) => event('delivered', at(i / 10))).join('');
  const refused = Array.from({ length: 12 }, (_, i) => event('deferred', at(10 + i)));
  // Several recipients of one attempt are one answer; what the relay itself says is none of a peer.
  const twice = [refused[0], refused[0]?.replace('r@gmail.com', 's@gmail.com')].join('');
  const own = event('deferred', at(11), { reply: undefined, peer_host: undefined, reason: 'suspended' });
  const later = Array.from({ length: 5 }, (_, i) => event('delivered', at(60 + i))).join('');
  writeFileSync(join(dir, '2026-03-01-0001.jsonl.zst'), zstdCompressSync(first + twice));
  writeFileSync(
    join(dir, '2026-03-01-0002.jsonl'),
    `${refused.slice(1).join('')}${own}${later}not an event\n`,
  );
  const rules = join(dir, 'rules.json');
  writeFileSync(
    rules,
    `// What is tried
    { "rules": [
      { "name": "gmail", "match": { "providers": ["google"], "classes": ["rate_limit"] }, "threshold": { "count": 10, "window_s": 60 },
        "action": "pause", "target": "from_domain", "for_ms": 60000 },
      { "name": "never", "match": { "tenants": ["other"] }, "threshold": { "ratio": 0.1, "min_count": 1 }, "action": "alert" } ] }`,
  );
  const args = [MAIN, 'shaping', 'replay', '--events', dir, '--rules', rules];
  const { code, stdout, stderr } = await run(process.execPath, [...args, '--json']);
  assert.equal(code, 65);
  assert.match(stderr, /1 damaged lines were passed over/);
  const answer = JSON.parse(stdout);
  assert.equal(answer.answers, 100 + 12 + 5);
  assert.equal(answer.refusals, 12);
  const [gmail, never] = answer.rules;
  assert.deepEqual(
    { ...gmail.targets[0], reply: '' },
    {
      value: 'shop.example',
      site: 'google',
      firings: 1,
      first_at: at(19),
      last_at: at(19),
      messages: 7,
      reply: '',
    },
  );
  assert.deepEqual(never, { rule: 'never', action: 'alert', target: 'source', firings: 0, targets: [] });
  assert.equal(answer.actions[0].matched, 10);
  const [cut, probe] = answer.limits;
  assert.deepEqual([cut.cause, cut.now.closed_until, cut.reply], ['rate_limit', at(11), GMAIL]);
  assert.ok(probe !== undefined && answer.limits.at(-1).cause === 'probe_accepted');
  const [curve] = answer.curves;
  assert.equal(curve.site, 'google');
  assert.equal(
    curve.points.reduce((sum: number, point: { accepted: number }) => sum + point.accepted, 0),
    105,
  );
  assert.equal(curve.points[0].messages_per_s, null);
  assert.ok(curve.points.at(-1).messages_per_s > 0);

  const text = await run(process.execPath, [...args, '--since', at(50)]);
  assert.match(text.stdout, /^5 answers of peers from .*, 0 of them refusals by rate\n/);
  assert.match(text.stdout, /source \(default\) at google: no limit/);
});

test('sources and providers have the names of the config, by the address and the host that events have', async () => {
  const events = join(dir, 'named');
  mkdirSync(events);
  const rejected = (s: number, source_address: string): string =>
    event('bounced', at(s), {
      destination: 'corp.example',
      reply: '550 5.7.1 Spam',
      peer_host: 'corp-example.mail.protection.outlook.com',
      source_address,
    });
  writeFileSync(
    join(events, '2026-03-01-0001.jsonl'),
    [rejected(0, '192.0.2.1'), rejected(1, '192.0.2.2'), rejected(2, '192.0.2.1')].join(''),
  );
  const rule = {
    name: 'block',
    match: { providers: ['office365'], sources: ['a1'] },
    threshold: { count: 2 },
  };
  const config = join(dir, 'named.json');
  const sources = [
    { name: 'a1', address: '192.0.2.1' },
    { name: 'a2', address: '192.0.2.2' },
  ];
  writeFileSync(config, JSON.stringify({ egress: { sources }, rules: [{ ...rule, action: 'pause' }] }));
  const args = [MAIN, '-c', config, 'shaping', 'replay', '--events', events, '--json'];
  const { code, stdout, stderr } = await run(process.execPath, args);
  assert.equal(code, 0, stderr);
  const [{ targets }] = JSON.parse(stdout).rules;
  assert.deepEqual(
    targets.map(({ value, site, firings, first_at }: Record<string, unknown>) => [
      value,
      site,
      firings,
      first_at,
    ]),
    [['a1', 'office365', 1, at(2)]],
  );
});

test('rules that are wrong are refused, each with file, line and key', async () => {
  const rules = join(dir, 'wrong.json');
  writeFileSync(
    rules,
    `[
      { "name": "a", "threshold": { "count": 1 }, "action": "stop" },
      { "name": "a", "threshhold": { "count": 1 }, "action": "pause" } ]`,
  );
  const { code, stderr } = await run(process.execPath, [
    MAIN,
    'shaping',
    'replay',
    '--events',
    dir,
    '--rules',
    rules,
  ]);
  assert.equal(code, 78);
  assert.match(stderr, /wrong\.json:2: \[0\]\.action: .*"pause"/);
  assert.match(stderr, /wrong\.json:3: \[1\]\.threshhold: unknown key \(did you mean "threshold"\?\)/);
});
