/** What replies mean, in a running relay of two processes: events, own rules, a reload that brings wrong ones, unknown replies. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { MessageAnswer } from '../../src/control/queue-answers.ts';
import { RelayFixture } from '../support/relay-fixture.ts';
import { ScriptedSink } from '../support/scripted-sink.ts';
import { Talk } from '../support/talk.ts';

const sink = await ScriptedSink.start();
const relay = new RelayFixture({
  accept_processes: 2,
  delivery: { smarthost: { host: '127.0.0.1', port: sink.port }, suspend_after_failures: 1000 },
  retry: { initial_delay_ms: 3_600_000 },
  replies: { file: 'own.json' },
});
after(async () => {
  await relay.destroy();
  await sink.stop();
});

const rule = { pattern: 'xyzzy', class: 'policy', scope: 'recipient_domain', move: 'bounce', source: 'test' };
const write = (...rules: object[]): void =>
  writeFileSync(
    join(relay.dataDir, 'own.json'),
    `{"rules": [\n${rules.map((one) => JSON.stringify(one)).join(',\n')}]}`,
  );

async function fateOf(to: string, reply: string): Promise<Record<string, unknown>> {
  sink.options.faults = { rcpt: `=${reply}` };
  const talk = await Talk.hello({ port: relay.port, host: '127.0.0.1' });
  await talk.accepted({ from: '', to });
  await talk.quit();
  return relay.events.one(
    `a fate of ${to}`,
    ({ recipient, type }) => recipient === to && type !== 'accepted',
  );
}

const saidOf = ({
  type,
  reason,
  class: replyClass,
  scope,
  move,
  rule: id,
}: Record<string, unknown>): string => [type, reason, replyClass, scope, move, id ?? '-'].join(' ');

test('a file of rules that is wrong keeps the relay from starting, and names its line', async () => {
  write({ ...rule, id: 'a', class: 'nonsense' });
  relay.launch();
  const { code } = await relay.exited();
  assert.equal(code, 78, relay.output());
  assert.match(relay.output(), /own\.json:2: rules\[0\]\.class/);
});

test('own rules come first, and their change counts from the reload on; wrong ones change nothing', async () => {
  write({ ...rule, id: 'a' }, { ...rule, id: 'temporary', code: '4xx', pattern: 'plugh' });
  await relay.start();
  const say = async (to: string, reply: string): Promise<string> => saidOf(await fateOf(to, reply));
  assert.equal(await say('a@x.test', '550 5.1.1 xyzzy'), 'bounced peer_5xx policy recipient_domain bounce a');
  assert.equal(
    await say('b@x.test', '450 4.1.1 plugh'),
    'bounced peer_4xx policy recipient_domain bounce temporary',
  );
  const known = await say('c@x.test', '452 4.2.2 mailbox is full');
  assert.match(known, /^deferred peer_4xx mailbox_full recipient retry_later \S+$/);
  const [entry] = await relay.queueEntries('--recipient', 'c@x.test');
  const shown = await relay.queueJson<MessageAnswer>('show', String(entry?.queue_id));
  const { class: kind, scope, move } = shown.recipients[0]?.verdict ?? {};
  assert.deepEqual([kind, scope, move], ['mailbox_full', 'recipient', 'retry_later']);
  assert.deepEqual(shown.entries[0]?.verdict, shown.recipients[0]?.verdict);
  const why = await relay.queue('why', String(entry?.queue_id));
  assert.match(why.stdout, /means +mailbox_full \(recipient\) +retry_later/);
  const page = await relay.queue('show', String(entry?.queue_id));
  assert.match(page.stdout, /mailbox_full, recipient, retry_later: peer_4xx: 452 4\.2\.2/);

  write({ ...rule, id: 'a', move: 'nonsense' });
  const failed = relay.logLine('relay.reload_refused');
  relay.signal('SIGHUP');
  assert.match(JSON.stringify(await failed), /own\.json:2: rules\[0\]\.move/);
  assert.match(await say('d@x.test', '550 5.1.1 xyzzy'), / policy recipient_domain bounce a$/);

  write({ ...rule, id: 'b', move: 'retry_later', treat_as: 'deferred' });
  await relay.reload();
  assert.equal(
    await say('e@x.test', '550 5.1.1 xyzzy'),
    'deferred peer_5xx policy recipient_domain retry_later b',
  );
});

test('replies unknown counts over the processes by text', async () => {
  for (const [i, to] of ['f@x.test', 'g@x.test', 'h@x.test'].entries())
    assert.match(saidOf(await fateOf(to, `550 frotz ${i}`)), /^bounced peer_5xx unknown message bounce -$/);
  assert.match(saidOf(await fateOf('i@x.test', '450 4.9.9 gnusto')), / unknown message retry_later -$/);
  const { code, stdout, stderr } = await relay.command('replies', 'unknown', '--json');
  assert.equal(code, 0, stderr);
  const { unknown_replies: replies } = JSON.parse(stdout) as { unknown_replies: Record<string, unknown>[] };
  assert.deepEqual(
    replies.map(({ provider, code: replyCode, enhanced, text, replies: count }) => [
      provider,
      replyCode,
      enhanced,
      text,
      count,
    ]),
    [
      [null, 550, null, 'frotz {n}', 3],
      [null, 450, '4.9.9', 'gnusto', 1],
    ],
  );
  assert.match(String(replies[0]?.example), /^frotz \d$/);
  const table = await relay.command('replies', 'unknown');
  assert.match(table.stdout, /^REPLIES +PROVIDER +CODE +STATUS +TEXT\n3 +- +550 +- +frotz \{n\}\n1 /);
  await relay.stop();
  assert.equal((await relay.command('replies', 'unknown')).code, 69);
});
