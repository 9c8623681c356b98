/** The next hop misbehaves at every stage: what each recipient's fate is, and that good mail beside it still goes. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { fate } from '../support/fates.ts';
import { RelayFixture } from '../support/relay-fixture.ts';
import { ScriptedSink } from '../support/scripted-sink.ts';
import { Talk } from '../support/talk.ts';

let sink: ScriptedSink;
let relay: RelayFixture;

before(async () => {
  sink = await ScriptedSink.start();
  relay = await RelayFixture.start({
    delivery: {
      smarthost: { host: '127.0.0.1', port: sink.port },
      command_timeout_ms: 1000,
      final_reply_timeout_ms: 1000,
      data_timeout_ms: 1000,
      suspend_after_failures: 1000,
    },
    retry: { initial_delay_ms: 50, max_delay_ms: 100, max_attempts: 100 },
  });
});

after(async () => {
  await relay?.destroy();
  await sink?.stop();
});

async function submit(...to: string[]): Promise<string> {
  const talk = await Talk.hello({ port: relay.port, host: '127.0.0.1' });
  const queueId = await talk.accepted({ to, from: 'sender@client.test' });
  await talk.quit();
  return queueId;
}

const once = [
  'once-451-at-rcpt',
  'once-451-at-data',
  'once-451-at-dot',
  'once-421-at-data',
  'once-421-at-dot',
  'once-drop-at-data',
  'once-drop-at-dot',
  'once-drop-in-content',
  'once-hang-at-dot',
  'once-garbage-at-dot',
];

/**
 * What is sent ahead may have been lost: it is tried once more, one command after another, before anything is deferred. A connection that took
 * mail, and ends at a recipient, may have had its fill: it goes on over another one.
 */
const forgiven = new Set([
  'once-421-at-rcpt',
  'once-drop-at-rcpt',
  'once-hang-at-rcpt',
  'once-hang-at-data',
  'once-garbage-at-rcpt',
  'once-garbage-at-data',
]);

for (const local of forgiven) {
  test(`${local}: delivered in one attempt, or in the next`, { timeout: 60_000 }, async () => {
    const address = `${local}@faults.test`;
    await submit(address);
    await fate(relay.events, address, 'delivered');
    const copies = sink.messages.filter(({ recipients }) => recipients.some((to) => to.address === address));
    assert.equal(copies.length, 1);
  });
}

for (const local of once) {
  test(`${local}: deferred first, then delivered`, { timeout: 60_000 }, async () => {
    const address = `${local}@faults.test`;
    await submit(address);
    const deferred = await fate(relay.events, address, 'deferred');
    const delivered = await fate(relay.events, address, 'delivered');
    assert.equal(deferred.queue_id, delivered.queue_id);
    assert.ok(Number(delivered.attempt) > 1, `attempt ${delivered.attempt}`);
    assert.ok(String(deferred.reason) !== '', 'a deferral states its reason');
  });
}

for (const stage of ['rcpt', 'data', 'dot']) {
  test(`550 at ${stage}: bounced with the peer's reply`, { timeout: 60_000 }, async () => {
    const address = `550-at-${stage}@faults.test`;
    await submit(address);
    const bounced = await fate(relay.events, address, 'bounced');
    assert.equal(bounced.reason, 'peer_5xx');
    assert.match(String(bounced.reply), /^550 5\.7\.1 /);
  });
}

test('replies of 300 lines and of 8,000 characters are read as replies', { timeout: 60_000 }, async () => {
  const addresses = [
    'long-at-rcpt@faults.test',
    'long-at-dot@faults.test',
    'wide-at-rcpt@faults.test',
    'wide-at-dot@faults.test',
  ];
  for (const address of addresses) await submit(address);
  for (const address of addresses) await fate(relay.events, address, 'delivered');
});

test('a peer that closes right after its 250 still took the message', { timeout: 60_000 }, async () => {
  const address = 'shut-at-dot@faults.test';
  await submit(address);
  const delivered = await fate(relay.events, address, 'delivered');
  assert.equal(delivered.attempt, 1);
});

test('recipients of one message meet their own fates', { timeout: 60_000 }, async () => {
  const mixed = ['good@mixed.test', 'bounce-550+mixed@mixed.test', 'once-defer-451+mixed@mixed.test'];
  const queueId = await submit(...mixed);
  const [good, bounced, late] = await Promise.all([
    fate(relay.events, mixed[0] as string, 'delivered'),
    fate(relay.events, mixed[1] as string, 'bounced'),
    fate(relay.events, mixed[2] as string, 'delivered'),
  ]);
  for (const event of [good, bounced, late]) assert.equal(event.queue_id, queueId);
  assert.equal(good.attempt, 1);
  assert.equal(late.attempt, 2);
  const copies = sink.messages.filter((message) =>
    message.recipients.some((to) => to.address === 'good@mixed.test'),
  );
  assert.equal(copies.length, 1, 'the retry must not reach who already has it');
});

test('452 at the 11th recipient splits one message of 30 recipients', { timeout: 60_000 }, async () => {
  sink.options.maxRecipients = 10;
  const to = Array.from({ length: 30 }, (_, index) => `r${index}@split.test`);
  await submit(...to);
  await Promise.all(to.map((address) => fate(relay.events, address, 'delivered')));
  delete sink.options.maxRecipients;
  const reached = sink.messages.flatMap((message) =>
    message.recipients.map((recipient) => recipient.address),
  );
  const ours = reached.filter((address) => address.endsWith('@split.test'));
  assert.deepEqual(ours.sort(), to.sort());
});

test('a peer that is busy or closes at once: deferred, delivered when it is well', {
  timeout: 60_000,
}, async (t) => {
  t.after(() => {
    delete sink.options.greeting;
  });
  for (const greeting of ['421 4.3.2 busy', '450 4.3.2 later', 'drop']) {
    sink.options.greeting = greeting;
    sink.dropAll();
    const address = `greeting-${greeting.slice(0, 3)}@faults.test`;
    await submit(address);
    await fate(relay.events, address, 'deferred');
    delete sink.options.greeting;
    await fate(relay.events, address, 'delivered');
  }
});

test('a peer that says 554 in its greeting: deferred with its words, delivered when it is well', {
  timeout: 60_000,
}, async (t) => {
  t.after(() => {
    delete sink.options.greeting;
    sink.dropAll();
  });
  sink.options.greeting = '554 5.3.2 not here';
  sink.dropAll();
  await submit('greeting-554@faults.test');
  const deferred = await fate(relay.events, 'greeting-554@faults.test', 'deferred');
  assert.equal(deferred.reason, 'peer_refused');
  assert.match(String(deferred.reply), /^554 5\.3\.2 not here/);
  delete sink.options.greeting;
  await fate(relay.events, 'greeting-554@faults.test', 'delivered');
});

test('a peer without EHLO gets HELO and plain SMTP', { timeout: 60_000 }, async (t) => {
  t.after(() => {
    delete sink.options.ehlo;
    sink.dropAll();
  });
  sink.options.ehlo = '502 5.5.1 what?';
  sink.dropAll();
  await submit('helo-only@faults.test');
  await fate(relay.events, 'helo-only@faults.test', 'delivered');
  const message = sink.messages.find((one) => one.recipients[0]?.address === 'helo-only@faults.test');
  assert.deepEqual(message?.fromParams, []);
});

test('a peer without PIPELINING is never sent a command ahead of its reply', {
  timeout: 60_000,
}, async () => {
  sink.options.capabilities = ['SIZE 1000000'];
  sink.dropAll();
  const before = sink.violations.length;
  for (let i = 0; i < 5; i++) await submit(`slow-lane${i}@faults.test`, `slow-lane${i}+b@faults.test`);
  for (let i = 0; i < 5; i++) await fate(relay.events, `slow-lane${i}@faults.test`, 'delivered');
  assert.deepEqual(sink.violations.slice(before), []);
});

test('the peer dies with work open: everything arrives after it is back', { timeout: 60_000 }, async () => {
  const to = Array.from({ length: 20 }, (_, index) => `slow-30+${index}@revive.test`);
  await Promise.all(to.map((address) => submit(address)));
  sink.dropAll();
  await Promise.all(to.map((address) => fate(relay.events, address, 'delivered')));
});
