/** Retry, expiry and DSNs: what the sender is told, and when nobody is. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { LoggedEvent } from '../support/event-tail.ts';
import { fate, isFinal } from '../support/fates.ts';
import { RelayFixture } from '../support/relay-fixture.ts';
import { ScriptedSink, type SinkMessage } from '../support/scripted-sink.ts';
import { type Mail, Talk } from '../support/talk.ts';

let sink: ScriptedSink;
let relay: RelayFixture;

before(async () => {
  // Without DSN: failure, success and delay reports are our duty.
  sink = await ScriptedSink.start({ capabilities: ['PIPELINING', '8BITMIME', 'SIZE 50000000'] });
  relay = await RelayFixture.start({
    delivery: { smarthost: { host: '127.0.0.1', port: sink.port }, suspend_after_failures: 1000 },
    retry: { initial_delay_ms: 40, max_delay_ms: 80, backoff_multiplier: 2, max_attempts: 4 },
    dsn: { delay_after_ms: 0 },
  });
});

after(async () => {
  await relay?.destroy();
  await sink?.stop();
});

async function submit(mail: Mail, at = relay): Promise<string> {
  const talk = await Talk.hello({ port: at.port, host: '127.0.0.1' });
  const queueId = await talk.accepted(mail);
  await talk.quit();
  return queueId;
}

/** The DSN that reached `sender`. */
async function report(sender: string, at = sink): Promise<SinkMessage> {
  const to = (message: SinkMessage) => message.recipients.some((recipient) => recipient.address === sender);
  await at.until(() => at.messages.some(to));
  return at.messages.find(to) as SinkMessage;
}

test('a refused recipient: a DSN with null reverse-path reaches the sender', {
  timeout: 60_000,
}, async () => {
  const content = 'Subject: original\r\nX-Mine: yes\r\n\r\nthe body\r\n';
  const mail = { from: 'refused@sender.test', to: 'bounce-550@gone.test', content };
  const queueId = await submit({ ...mail, mailParameters: ' RET=FULL' });
  const dsn = await report('refused@sender.test');
  assert.equal(dsn.from, '');
  const text = dsn.content.toString('utf8');
  assert.match(text, /^Content-Type: multipart\/report;[\s\S]*?report-type="?delivery-status/im);
  assert.match(text, /^Final-Recipient: rfc822; ?bounce-550@gone\.test\r$/im);
  assert.match(text, /^Action: failed\r$/im);
  assert.match(text, /^Status: 5\.7\.1\r$/im);
  assert.match(text, /^Diagnostic-Code: smtp; ?550 5\.7\.1 /im);
  assert.match(text, /^Reporting-MTA: dns; ?relay\.test\r$/im);
  assert.match(text, /Subject: original/);
  assert.match(text, /the body/, 'RET=FULL brings the whole message back');
  assert.ok(!text.includes('\n.\r\n'), 'no bare dot line');
  const shown = await relay.queueJson<{ entries: { state: string }[] }>('show', queueId);
  assert.equal(shown.entries[0]?.state, 'failed', 'a bounced message is kept for inspection');
});

test('RET=HDRS returns the header only; ENVID and ORCPT come back', { timeout: 60_000 }, async () => {
  await submit({
    from: 'hdrs@sender.test',
    to: 'bounce-550+hdrs@gone.test',
    mailParameters: ' RET=HDRS ENVID=QQ314159',
    rcptParameters: ' NOTIFY=FAILURE ORCPT=rfc822;first+2Bchoice@gone.test',
    content: 'Subject: original\r\n\r\nsecret body\r\n',
  });
  const text = (await report('hdrs@sender.test')).content.toString('utf8');
  assert.match(text, /^Original-Envelope-Id: QQ314159\r$/im);
  assert.match(text, /^Original-Recipient: rfc822; ?first\+choice@gone\.test\r$/im);
  assert.match(text, /Subject: original/);
  assert.doesNotMatch(text, /secret body/);
});

test('NOTIFY=NEVER: the failure is logged, nobody is told', { timeout: 60_000 }, async () => {
  await submit({
    from: 'never@sender.test',
    to: 'bounce-550+never@gone.test',
    rcptParameters: ' NOTIFY=NEVER',
  });
  await fate(relay.events, 'bounce-550+never@gone.test', 'bounced');
  await submit({ from: 'after-never@sender.test', to: 'bounce-550+after@gone.test' });
  await report('after-never@sender.test');
  assert.ok(!sink.messages.some((message) => message.recipients[0]?.address === 'never@sender.test'));
});

test('the null reverse-path never gets a DSN (I4)', { timeout: 60_000 }, async () => {
  await submit({ from: '', to: 'bounce-550+null@gone.test' });
  await fate(relay.events, 'bounce-550+null@gone.test', 'bounced');
  await submit({ from: 'after-null@sender.test', to: 'bounce-550+after2@gone.test' });
  await report('after-null@sender.test');
  const dsns = relay.events.events.filter(
    (event) => event.type === 'accepted' && event.client_address === 'internal',
  );
  assert.ok(dsns.every((event) => event.sender === ''));
  assert.ok(!sink.messages.some((message) => message.recipients[0]?.address === ''));
});

test('NOTIFY=SUCCESS to a next hop without DSN: "relayed" is reported', { timeout: 60_000 }, async () => {
  await submit({ from: 'glad@sender.test', to: 'ok@glad.test', rcptParameters: ' NOTIFY=SUCCESS' });
  const text = (await report('glad@sender.test')).content.toString('utf8');
  assert.match(text, /^Action: relayed\r$/im);
  assert.match(text, /^Final-Recipient: rfc822; ?ok@glad\.test\r$/im);
});

test('after max_attempts the recipient expires and the sender is told', { timeout: 60_000 }, async () => {
  await submit({ from: 'expired@sender.test', to: 'defer-451@later.test' });
  const expired = await fate(relay.events, 'defer-451@later.test', 'expired');
  assert.equal(expired.attempt, 4);
  const deferrals = relay.events.events.filter(
    (event) => event.type === 'deferred' && event.recipient === 'defer-451@later.test',
  );
  assert.equal(deferrals.length, 3);
  const text = (await report('expired@sender.test')).content.toString('utf8');
  assert.match(text, /^Action: failed\r$/im);
  assert.match(text, /^Status: (4\.4\.7|5\.4\.7|4\.7\.1|5\.7\.1)\r$/im);
});

test('retry.enabled false: the first deferral bounces', { timeout: 60_000 }, async (t) => {
  const impatient = await RelayFixture.start({
    delivery: { smarthost: { host: '127.0.0.1', port: sink.port } },
    retry: { enabled: false },
  });
  t.after(() => impatient.destroy());
  await submit({ from: 'impatient@sender.test', to: 'defer-451+now@later.test' }, impatient);
  const bounced = await fate(impatient.events, 'defer-451+now@later.test', 'bounced');
  assert.equal(bounced.reason, 'retry_disabled');
});

test('retry.max_age_ms: what is too old expires, however few attempts it had', {
  timeout: 60_000,
}, async (t) => {
  const short = await RelayFixture.start({
    delivery: { smarthost: { host: '127.0.0.1', port: sink.port }, suspend_after_failures: 1000 },
    retry: {
      initial_delay_ms: 100,
      max_delay_ms: 100,
      max_attempts: 10_000,
      max_age_ms: 500,
      jitter_ratio: 0,
    },
  });
  t.after(() => short.destroy());
  await submit({ from: 'aged@sender.test', to: 'defer-451+age@later.test' }, short);
  const expired = await fate(short.events, 'defer-451+age@later.test', 'expired');
  assert.ok(Number(expired.attempt) < 10, `attempt ${expired.attempt}`);
  await report('aged@sender.test');
});

test('one message to 3,000 recipients: each is settled once, in transactions of at most 1,000', {
  timeout: 60_000,
}, async () => {
  const to = Array.from({ length: 3000 }, (_, index) => `many${index}@many.test`);
  const before = sink.messages.length;
  const queueId = await submit({ to });
  const ours = (events: readonly LoggedEvent[]) =>
    events.filter((event) => isFinal(event) && event.queue_id === queueId).length;
  await relay.events.until('3,000 settled recipients', (events) => ours(events) === 3000);
  const reached = sink.messages
    .slice(before)
    .filter((message) => message.recipients[0]?.address.endsWith('@many.test'));
  assert.ok(reached.every((message) => message.recipients.length <= 1000));
  assert.equal(
    new Set(reached.flatMap((message) => message.recipients.map((one) => one.address))).size,
    3000,
  );
});

test('a delay DSN goes out once while the recipient waits', { timeout: 60_000 }, async (t) => {
  const waiting = await RelayFixture.start({
    delivery: { smarthost: { host: '127.0.0.1', port: sink.port } },
    retry: { initial_delay_ms: 150, max_delay_ms: 150, max_attempts: 8 },
    dsn: { delay_after_ms: 100 },
  });
  t.after(() => waiting.destroy());
  const from = 'delayed@sender.test';
  await submit({ from, to: 'defer-451+delay@later.test', rcptParameters: ' NOTIFY=DELAY,FAILURE' }, waiting);
  await fate(waiting.events, 'defer-451+delay@later.test', 'expired');
  const reports = () => sink.messages.filter((message) => message.recipients[0]?.address === from);
  await sink.until(() => reports().length >= 2);
  const actions = reports().map((message) => /^Action: (\w+)/im.exec(message.content.toString('utf8'))?.[1]);
  assert.deepEqual(actions, ['delayed', 'failed']);
});
