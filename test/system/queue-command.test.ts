/** An operator's hand on a running relay through `protorelay queue`, and what it does to the mail. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { ActionAnswer, EntryAnswer } from '../../src/control/queue-answers.ts';
import { run } from '../support/child.ts';
import { fate, fatesOf } from '../support/fates.ts';
import { RelayFixture } from '../support/relay-fixture.ts';
import { ScriptedSink, type SinkMessage } from '../support/scripted-sink.ts';
import { Talk } from '../support/talk.ts';
import { eventually } from '../support/wait.ts';
import { wrongWords } from '../support/wrong-words.ts';

const EVERY_COMMAND = join(import.meta.dirname, '../support/every-command.ts');

let sink: ScriptedSink;
let relay: RelayFixture;

before(async () => {
  sink = await ScriptedSink.start();
  relay = await RelayFixture.start({
    delivery: { smarthost: { host: '127.0.0.1', port: sink.port }, suspend_after_failures: 1000 },
    auth: { backends: [{ type: 'file', path: 'users' }] },
    // Nothing comes back by itself within this test.
    retry: { initial_delay_ms: 600_000, max_delay_ms: 600_000 },
  });
});

after(async () => {
  await relay?.destroy();
  await sink?.stop();
});

async function deferred(address: string, from = 'sender@queue.test'): Promise<string> {
  const talk = await Talk.hello({ port: relay.port, host: '127.0.0.1' });
  const queueId = await talk.accepted({
    from,
    to: address,
    content: `Subject: ${address}\r\n\r\n.dotted\r\n`,
  });
  await talk.quit();
  await fate(relay.events, address, 'deferred');
  return queueId;
}

async function queue(...args: string[]): Promise<string> {
  const ran = await relay.queue(...args);
  assert.equal(ran.code, 0, `queue ${args.join(' ')}: ${ran.stdout}${ran.stderr}`);
  return ran.stdout;
}

test('list and show say why a message waits; cat prints it byte for byte', { timeout: 60_000 }, async () => {
  const address = 'once-defer-451+list@queue.test';
  const queueId = await deferred(address);
  assert.match(await queue('list'), new RegExp(queueId));
  const shown = await queue('show', queueId);
  assert.match(shown, /451/);
  assert.ok(shown.includes(address));
  const text = await queue('cat', queueId);
  assert.match(text, /^Received: /);
  assert.ok(text.endsWith(`Subject: ${address}\r\n\r\n.dotted\r\n`), JSON.stringify(text));
  await queue('delete', queueId);
});

test('flush sends at once what would have waited', { timeout: 60_000 }, async () => {
  const address = 'once-defer-451+retry@queue.test';
  const queueId = await deferred(address);
  await queue('flush', queueId);
  await fate(relay.events, address, 'delivered');
});

test('flush sends at once although the destination is suspended', { timeout: 60_000 }, async (t) => {
  const down = await ScriptedSink.start({ greeting: '421 4.3.2 down' });
  t.after(() => down.stop());
  const other = await RelayFixture.start({
    delivery: {
      smarthost: { host: '127.0.0.1', port: down.port },
      suspend_after_failures: 1,
      suspend_ms: 600_000,
    },
    retry: { initial_delay_ms: 600_000, max_delay_ms: 600_000 },
  });
  t.after(() => other.destroy());
  const address = 'a@suspended.test';
  const talk = await Talk.hello({ port: other.port, host: '127.0.0.1' });
  await talk.accepted({ to: address });
  const given = 'b@suspended.test';
  const givenId = await talk.accepted({ to: given });
  await talk.quit();
  await fate(other.events, address, 'deferred');
  // Nothing waits for the destination to come back.
  await other.queue('fail', givenId);
  await fate(other.events, given, 'bounced');
  down.options.greeting = '220 back';
  await other.queue('flush', '--destination', 'smarthost');
  await fate(other.events, address, 'delivered');
});

test('a held message is not sent by flush; release sends it', { timeout: 60_000 }, async () => {
  const address = 'once-defer-451+hold@queue.test';
  const queueId = await deferred(address);
  await queue('hold', queueId);
  assert.match(await queue('show', queueId), /held/);
  const other = 'once-defer-451+other@queue.test';
  const otherId = await deferred(other);
  await queue('flush', otherId);
  await fate(relay.events, other, 'delivered');
  assert.match(await queue('show', queueId), /held/);
  await queue('release', queueId);
  // An operator's release makes it due.
  await fate(relay.events, address, 'delivered');
});

test('delete removes the message, its fate is logged once', { timeout: 60_000 }, async () => {
  const address = 'once-defer-451+delete@queue.test';
  const queueId = await deferred(address);
  await queue('delete', queueId);
  const removed = await fate(relay.events, address, 'removed');
  assert.equal(removed.queue_id, queueId);
  assert.doesNotMatch(await queue('list'), new RegExp(queueId));
  assert.notEqual((await relay.queue('show', queueId)).code, 0);
});

test('fail ends a message with what the operator said, and a report', { timeout: 60_000 }, async () => {
  const address = 'once-defer-451+fail@queue.test';
  const queueId = await deferred(address, 'failed@sender.test');
  const quiet = await deferred('once-defer-451+null@queue.test', '');
  await queue('hold', queueId);
  assert.match(
    await queue('fail', '--text', 'Kunde gekündigt', queueId, quiet),
    /^fail: 2 recipients in 2 entries$/m,
  );
  const { destination, reason, status, detail } = await fate(relay.events, address, 'bounced');
  assert.deepEqual(
    [destination, reason, status, detail],
    ['smarthost', 'failed_by_operator', '5.7.0', 'Kunde gekündigt'],
  );
  const isReport = ({ recipients }: SinkMessage) => recipients[0]?.address === 'failed@sender.test';
  await sink.until(() => sink.messages.some(isReport));
  const report = sink.messages.find(isReport)?.content.toString('latin1') ?? '';
  assert.match(report, /^Status: 5\.7\.0\r$/m);
  assert.match(report, /Kunde gek=C3=BCndigt/);
  assert.match(await queue('show', queueId), /smarthost +failed/);
  await fate(relay.events, 'once-defer-451+null@queue.test', 'bounced');
  const told = relay.events.events.filter(({ type, sender }) => type === 'accepted' && sender === '');
  assert.equal(told.length, 2, 'the null sender gets no report: one report, and the message itself');
});

test('fail ends one recipient of an entry, the others go on', { timeout: 60_000 }, async () => {
  const [gone, stays] = ['once-defer-451+gone@queue.test', 'once-defer-451+stays@queue.test'];
  const talk = await Talk.hello({ port: relay.port, host: '127.0.0.1' });
  await talk.accepted({ from: '', to: [gone, stays] });
  await talk.quit();
  await fate(relay.events, stays, 'deferred');
  assert.match(await queue('fail', '--recipient', gone), /^fail: 1 recipient in 1 entry$/m);
  await fate(relay.events, gone, 'bounced');
  await queue('flush', '--recipient', stays);
  await fate(relay.events, stays, 'delivered');
  assert.match(
    await queue('reroute', '--default', '--all', '--dry-run'),
    /would change 0 recipients in 0 entries/,
  );
});

test('reroute sends to another next hop at once, and default back', { timeout: 60_000 }, async (t) => {
  const second = await ScriptedSink.start();
  t.after(() => second.stop());
  second.seen.add('once-defer-451+there@queue.test');
  const to = `127.0.0.1:${second.port}`;
  const [there, back] = ['once-defer-451+there@queue.test', 'once-defer-451+back@queue.test'];
  const ids = [await deferred(there), await deferred(back)];
  // A next hop that is this relay itself is no way out.
  await queue('reroute', '--to', `127.0.0.1:${relay.port}`, ...ids);
  await relay.events.one(
    'a loop',
    ({ recipient, detail }) => recipient === back && /itself/.test(`${detail}`),
  );
  await queue('reroute', '--to', to, ids[0] as string);
  const { destination } = await fate(relay.events, there, 'delivered');
  assert.equal(destination, `via:${to}`);
  assert.deepEqual(
    second.messages.map(({ recipients }) => recipients[0]?.address),
    [there],
  );
  await queue('reroute', '--default', ids[1] as string);
  assert.equal((await fate(relay.events, back, 'delivered')).destination, 'smarthost');
  assert.notEqual((await relay.queue('reroute', '--to', 'no host', '--all')).code, 0);
  assert.equal((await relay.queue('fail', '--text', 'a\u001b[31m', '--all')).code, 64);
});

test('delivery.enabled false keeps everything but what is failed; enabled again, it goes', {
  timeout: 60_000,
}, async (t) => {
  const kept = await RelayFixture.start({
    delivery: { enabled: false, smarthost: { host: '127.0.0.1', port: sink.port } },
  });
  t.after(() => kept.destroy());
  const talk = await Talk.hello({ port: kept.port, host: '127.0.0.1' });
  const queueId = await talk.accepted({ to: 'kept@queue.test' });
  const heldId = await talk.accepted({ to: 'held@queue.test' });
  const rerouted = await talk.accepted({ to: 'rerouted@queue.test' });
  const failing = Array.from({ length: 100 }, (_, i) => `u${i}@queue.test`);
  const given: string[] = [];
  for (const to of failing) given.push(await talk.accepted({ from: '', to }));
  await talk.quit();
  const hold = await kept.queue('hold', heldId);
  assert.equal(hold.code, 0, hold.stderr);
  assert.match((await kept.queue('list')).stdout, new RegExp(queueId));
  const stats = (await kept.queue('stats')).stdout;
  assert.match(stats, /^Held back +nothing is sent: delivery\.enabled is false$/m);
  assert.match(stats, /^smarthost +103 +103 +102 +0 +0 +1 /m);
  // Counted every so often.
  await eventually(async () => {
    const status = await kept.status();
    assert.equal(status.code, 0, 'what is configured is no impairment');
    assert.match(status.stdout, /^ProtoRelay .*, healthy, running for /);
    assert.match(status.stdout, /^Held back +nothing is sent/m);
    assert.match(status.stdout, /^Waiting +103 recipients, oldest /m);
    assert.match(status.stdout, /^Last .* accepted 103 messages \(103 recipients\)/m);
  }, 15_000);
  const reroute = await kept.queue('reroute', '--to', `127.0.0.1:${sink.port}`, rerouted);
  assert.equal(reroute.code, 0, reroute.stderr);
  const fail = await kept.queue('fail', '--text', 'said before the end', ...given);
  assert.equal(fail.code, 0, fail.stderr);
  // Some of them may be settled, and others not.
  await kept.kill();
  await kept.start();
  // The queue says so, whatever events the kill took along.
  let failed: EntryAnswer[] = [];
  while (failed.length < failing.length) failed = await kept.queueEntries('--state', 'failed');
  for (const { destination, detail } of failed)
    assert.deepEqual([detail, destination], ['said before the end', 'smarthost']);
  await kept.stop();
  kept.configure({ delivery: { enabled: true } });
  await kept.start();
  await fate(kept.events, 'kept@queue.test', 'delivered');
  const { destination } = await fate(kept.events, 'rerouted@queue.test', 'delivered');
  assert.equal(destination, `via:127.0.0.1:${sink.port}`);
  const fates = [...fatesOf(kept.events.events).values()];
  assert.ok(fates.every((list) => list.length === 1));
  assert.match((await kept.queue('show', heldId)).stdout, /held/, 'an operator held this one');
});

test('a stopped relay: list, show and stats read the database', { timeout: 60_000 }, async (t) => {
  const stopped = await RelayFixture.start({ delivery: { enabled: false } });
  t.after(() => stopped.destroy());
  const talk = await Talk.hello({ port: stopped.port, host: '127.0.0.1' });
  const queueId = await talk.accepted({ to: 'kept@queue.test' });
  await talk.quit();
  assert.equal((await stopped.compact()).code, 75, 'not beside a relay that runs');
  await stopped.stop();
  const compacted = await stopped.compact();
  assert.deepEqual([compacted.code, compacted.stderr], [0, '']);
  assert.match(compacted.stdout, /queue\.db: .* before, .* now$/m);
  const status = await stopped.status('--json');
  assert.deepEqual([status.code, JSON.parse(status.stdout)], [69, { running: false, healthy: false }]);
  const listed = await stopped.queue('list');
  assert.equal(listed.code, 0, listed.stderr);
  assert.match(listed.stdout, new RegExp(queueId));
  assert.equal((await stopped.queue('show', queueId)).code, 0);
  assert.equal((await stopped.queue('stats')).code, 0);
  assert.notEqual((await stopped.queue('delete', queueId)).code, 0, 'a stopped queue is read only');
});

test('hold and delete reach what waits with delivery; what is on the wire is counted and goes on', {
  timeout: 60_000,
}, async (t) => {
  const slow = await ScriptedSink.start({ capabilities: ['SIZE'] });
  const busy = await RelayFixture.start({
    delivery: { smarthost: { host: '127.0.0.1', port: slow.port }, max_connections_per_destination: 1 },
    retry: { initial_delay_ms: 600_000 },
  });
  t.after(() => Promise.all([busy.destroy(), slow.stop()]));
  const send = async (to: string): Promise<string> => {
    const talk = await Talk.hello({ port: busy.port, host: '127.0.0.1' });
    const queueId = await talk.accepted({ to, content: 'Subject: x\r\n\r\nx\r\n' });
    await talk.quit();
    return queueId;
  };
  // Its final reply comes once all is over.
  const first = await send('slow-4000+first@queue.test');
  await slow.until(() => slow.commands.some((line) => line.endsWith('DATA')));
  const ids: string[] = [];
  for (let i = 0; i < 30; i++) ids.push(await send(`waits-${i}@queue.test`));
  const some = ids.slice(0, 10);
  const held = await busy.queueJson<ActionAnswer>('hold', ...some);
  assert.deepEqual([held.entries, held.sending_entries], [10, 0]);
  const removed = await busy.queue('delete', ids[10] as string, first);
  assert.equal(removed.code, 65, 'one of the two is being sent');
  assert.match(removed.stdout, /^delete: 1 recipient in 1 entry; 1 entry being sent, left alone$/m);
  const all = await busy.queueJson<ActionAnswer>('hold', '--all');
  assert.deepEqual([all.entries, all.sending_entries], [19, 1]);
  assert.equal((await busy.queueEntries('--state', 'held')).length, 29);
  await fate(busy.events, 'slow-4000+first@queue.test', 'delivered');
  assert.equal(slow.messages.length, 1, 'nothing else went out');
  assert.equal((await busy.queueJson<ActionAnswer>('release', ...some)).entries, 10);
  for (let i = 0; i < 10; i++) await fate(busy.events, `waits-${i}@queue.test`, 'delivered');
  assert.equal((await busy.queueJson<ActionAnswer>('release', '--all')).entries, 19);
  for (let i = 11; i < 30; i++) await fate(busy.events, `waits-${i}@queue.test`, 'delivered');
  await busy.events.one('event removed', (event) => event.type === 'removed' && event.queue_id === ids[10]);
});

test('list takes addresses as it shows them, in angle brackets', { timeout: 60_000 }, async (t) => {
  const relay = await RelayFixture.start({ delivery: { enabled: false } });
  t.after(() => relay.destroy());
  const talk = await Talk.hello({ host: '127.0.0.1', port: relay.port });
  await talk.accepted({ from: 'a@b.test', to: 'c@d.test' });
  await talk.accepted({ from: '', to: 'e@f.test' });
  for (const [option, address, destination] of [
    ['--sender', '<a@b.test>', 'd.test'],
    ['--sender', '<>', 'f.test'],
    ['--recipient', '<c@d.test>', 'd.test'],
  ] as const) {
    const entries = await relay.queueEntries(option, address);
    assert.deepEqual(
      entries.map((entry) => entry.destination),
      [destination],
      `${option} ${address}`,
    );
  }
  // The other commands select alike, and what they change are just the recipients who match.
  const both = await talk.accepted({ from: 'a@b.test', to: ['one@c.test', 'two@c.test', 'one@other.test'] });
  const count = async (...args: string[]): Promise<number> =>
    (await relay.queueJson<{ recipients: number }>('count', ...args)).recipients;
  assert.equal(await count('--domain', 'C.test.'), 2);
  assert.equal(await count('--recipient', 'one@*', '--max-attempts', '0', '--younger-than', '1h'), 2);
  assert.match((await relay.queue('count', '--by', 'domain', both)).stdout, /^2 +1 +1 .* c\.test$/m);
  const dry = await relay.queue('delete', '--dry-run', '--recipient', 'one@c.test');
  assert.match(dry.stdout, /^delete would change 1 recipient in 1 entry$/m);
  assert.match(
    (await relay.queue('hold', '--recipient', 'one@c.test')).stdout,
    /^hold: 1 whole entry with 2 recipients$/m,
  );
  assert.match(
    (await relay.queue('delete', '--recipient', 'one@c.test')).stdout,
    /^delete: 1 recipient in 1 entry$/m,
  );
  await fate(relay.events, 'one@c.test', 'removed');
  assert.deepEqual([await count('--domain', 'c.test'), await count(both)], [1, 2]);
  await talk.quit();
});

const APART = [
  'dkim check',
  'dkim dns',
  'dkim generate',
  'lint',
  'replies classify',
  'shaping replay',
  'suppression import',
  'warmup pause',
  'warmup set',
];

test('answers in JSON, events and log are in the words of docs/words.md, of a relay that runs and of a stopped one', {
  timeout: 60_000,
}, async () => {
  const waiting = await deferred('defer-451+json@queue.test');
  const failing = 'bounce-550+json@queue.test';
  const talk = await Talk.hello({ port: relay.port, host: '127.0.0.1' });
  await talk.accepted({ to: failing });
  await talk.quit();
  await fate(relay.events, failing, 'bounced');
  const action = ['--destination', 'smarthost'];
  // 'db shards' has nothing to say of a queue that is a file: test/control/words.test.ts has its answer.
  const known: Record<string, string[]> = {
    'queue list': [],
    'queue show': [waiting],
    'queue why': [waiting],
    'queue count': ['--by', 'state'],
    'queue stats': [],
    status: [],
    'queue hold': action,
    'queue release': action,
    'queue flush': action,
    'queue fail': ['--destination', 'nowhere.test'],
    'queue reroute': ['--destination', 'nowhere.test', '--to', '127.0.0.1:1'],
    'queue delete': [waiting],
    suspend: ['--all', '--reason', 'Work on it', '--for', '1h'],
    suspensions: [],
    resume: ['--all'],
    'ban add': ['192.0.2.3', '192.0.2.4', '--for', '1h'],
    'ban delete': ['192.0.2.3', '192.0.2.9'],
    'ban list': [],
    'user list': [],
    'config check': ['--offline'],
    reload: [],
    'db shards': [],
    'replies unknown': [],
    route: ['a@b.test'],
    'shaping check': [],
    'shaping show': [],
    'shaping suggest': [],
    'source list': [],
    'suppression add': ['a@b.test'],
    'suppression check': ['a@b.test'],
    'suppression export': [],
    'suppression list': [],
    'suppression remove': ['a@b.test'],
    'token create': ['--role', 'viewer', '--name', 'n', '--for', '1h'],
    'token list': [],
    'token revoke': ['12345678'],
    'warmup status': [],
    // These read files or standard input, or need a config of their own: their words are in their own tests.
    ...Object.fromEntries(APART.map((name) => [name, []])),
  };
  const answered = async (commands: string[]): Promise<string[]> => {
    const bans = [
      ['ban', 'add', '192.0.2.1'],
      ['ban', 'add', '192.0.2.2', '--for', '1h'],
    ];
    const lines = commands.map((name) => [...name.split(' '), ...(known[name] ?? []), '--json']);
    const input = JSON.stringify([...bans, ...lines]);
    const ran = await run(process.execPath, [EVERY_COMMAND, relay.configPath], { input });
    assert.equal(ran.code, 0, ran.stderr);
    const { withJson, outcomes } = JSON.parse(ran.stdout) as {
      withJson: string[];
      outcomes: { stdout: string }[];
    };
    assert.deepEqual(
      withJson.sort(),
      Object.keys(known).sort(),
      'each command with --json has its line above',
    );
    const answers = outcomes.slice(bans.length);
    return commands.filter((name, i) => {
      const { stdout } = answers[i] ?? { stdout: '' };
      if (stdout !== '') assert.deepEqual(wrongWords(JSON.parse(stdout), name), []);
      return stdout !== '';
    });
  };
  const running = Object.keys(known).filter((name) => name !== 'db shards' && !APART.includes(name));
  assert.deepEqual(await answered(running), running);
  await deferred('defer-451+stopped@queue.test');
  await relay.stop();
  const stopped = [
    'queue list',
    'queue stats',
    'status',
    'suspensions',
    'ban add',
    'ban delete',
    'ban list',
    'user list',
    'config check',
  ];
  assert.deepEqual(await answered(stopped), stopped);
  assert.deepEqual(wrongWords(relay.events.events, 'event'), []);
  assert.deepEqual(wrongWords(relay.log, 'log'), []);
});
