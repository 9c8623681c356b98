/** Return paths of a running relay: what goes out with tokens, what comes back to them, and what that leads to. */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { undocumented } from '../support/documented-events.ts';
import type { LoggedEvent } from '../support/event-tail.ts';
import { RelayFixture } from '../support/relay-fixture.ts';
import { ScriptedSink } from '../support/scripted-sink.ts';
import { Talk } from '../support/talk.ts';

const sink = await ScriptedSink.start({});
const relay = new RelayFixture({
  listeners: [{ host: '127.0.0.1', port: 0 }],
  relay_networks: ['127.0.0.1'],
  relay_domains: ['own.test'],
  policy: { dnsbl: { zones: [] } },
  delivery: { smarthost: { host: '127.0.0.1', port: sink.port } },
  attributes: { trusted_networks: ['127.0.0.1'] },
  return_path: { domain: 'bounce.test', secrets_file: 'return-path.keys', complaints_at: ['fbl'] },
});
const secrets = join(relay.dataDir, 'return-path.keys');

before(async () => {
  mkdirSync(relay.dataDir, { recursive: true });
  writeFileSync(secrets, '# of the test\nfirst-secret-of-the-test\n');
  await relay.start();
});
after(async () => {
  await relay.destroy();
  await sink.stop();
});

/** A client that may relay, and one that may not. */
const client = () => Talk.hello({ port: relay.port, host: '127.0.0.1' });
const stranger = () => Talk.hello({ port: relay.port, host: '127.0.0.1', localAddress: '127.0.0.9' });

/** The reverse-path that mail to a recipient went out with. */
async function wayBack(to: string, header = ''): Promise<{ queueId: string; address: string }> {
  const talk = await client();
  const queueId = await talk.accepted({
    from: 'news@shop.test',
    to,
    content: `${header}Subject: x\r\n\r\nHello\r\n`,
  });
  await talk.quit();
  await relay.events.one(
    `delivered to ${to}`,
    (event) => event.type === 'delivered' && event.recipient === to,
  );
  const message = sink.messages.find(({ recipients }) => recipients.some(({ address }) => address === to));
  return { queueId, address: message?.from ?? '' };
}

const report = (address: string, status = '5.1.1', said = '550 5.1.1 no such user', action = 'failed') =>
  [
    'From: MAILER-DAEMON@mx.test',
    'Content-Type: multipart/report; report-type=delivery-status; boundary=x',
    '',
    '--x',
    'Content-Type: message/delivery-status',
    '',
    'Reporting-MTA: dns; mx.test',
    '',
    `Final-Recipient: rfc822; ${address}`,
    `Action: ${action}`,
    `Status: ${status}`,
    `Diagnostic-Code: smtp; ${said}`,
    '',
    '--x',
    'Content-Type: message/rfc822',
    '',
    'Message-ID: <m1@shop.test>',
    'Feedback-ID: spring:a-tenant-with-a-long-name:bulk:acme',
    '',
    'Hello',
    '--x--',
    '',
  ].join('\r\n');

const complaint = (token: string, address: string, type = 'abuse') =>
  [
    'From: fbl@provider.test',
    'Content-Type: multipart/report; report-type=feedback-report; boundary=x',
    '',
    '--x',
    'Content-Type: message/feedback-report',
    '',
    `Feedback-Type: ${type}`,
    'Version: 1',
    `Original-Mail-From: <${token}>`,
    `Original-Rcpt-To: ${address}`,
    '',
    '--x--',
    '',
  ].join('\r\n');

/** What a stranger's mail is answered. */
async function comes(to: string, content: string): Promise<string> {
  const talk = await stranger();
  const reply = await talk.send({ from: '', to, content });
  await talk.quit();
  return reply;
}

const eventOf = (type: string, recipient: string): Promise<LoggedEvent> =>
  relay.events.one(`${type} ${recipient}`, (event) => event.type === type && event.recipient === recipient);

async function listed(tenant = ''): Promise<Record<string, unknown>[]> {
  const { stdout } = await relay.command('suppression', 'list', '--json');
  return JSON.parse(stdout).suppressions.filter((entry: Record<string, unknown>) => entry.tenant === tenant);
}

test('each recipient gets a transaction and a token of its own; reports and strangers’ mail go out as they are', async () => {
  const talk = await client();
  const to = ['one@example.test', 'two@example.test'];
  const queueId = await talk.accepted({ from: 'news@shop.test', to });
  await talk.accepted({ from: '', to: 'null@example.test' });
  await talk.quit();
  const other = await stranger();
  await other.accepted({ from: 'who@else.test', to: 'user@own.test' });
  await other.quit();
  await sink.received(4);
  const from = (address: string) =>
    sink.messages
      .filter(({ recipients }) => recipients.some((one) => one.address === address))
      .map((one) => one.from);
  const tokens = to.flatMap(from);
  assert.equal(new Set(tokens).size, 2);
  for (const token of tokens) assert.match(token, /^b\+[a-z2-7]{39,62}@bounce\.test$/);
  assert.deepEqual([from('null@example.test'), from('user@own.test')], [[''], ['who@else.test']]);
  // The sender of the events stays who sent it.
  const delivered = await eventOf('delivered', 'one@example.test');
  assert.deepEqual([delivered.queue_id, delivered.sender], [queueId, 'news@shop.test']);
});

test('a report to a token suppresses the recipient it was made for, in the list of its tenant', async () => {
  const { queueId, address } = await wayBack('gone@example.test', 'X-ProtoRelay-Tenant: shop\r\n');
  assert.match(await comes(address.toUpperCase(), report('Gone@Example.test')), /^250 2\.0\.0 Report read/);
  const event = await eventOf('async_bounced', 'Gone@Example.test');
  assert.deepEqual(
    [
      event.queue_id,
      event.recipient_index,
      event.matched_by,
      event.proven,
      event.class,
      event.scope,
      event.tenant,
    ],
    [queueId, 0, 'token', true, 'invalid_recipient', 'recipient', 'shop'],
  );
  assert.deepEqual([event.message_id, event.campaign, event.status], ['m1@shop.test', 'spring', '5.1.1']);
  const [entry] = await listed('shop');
  assert.deepEqual(
    [entry?.address, entry?.reason, entry?.source],
    ['gone@example.test', 'invalid_recipient', 'report'],
  );
  // Neither kept nor relayed nor answered.
  assert.equal((await relay.queueEntries()).length, 0);
  assert.ok(
    !sink.messages.some(({ recipients }) => recipients.some((one) => one.address.includes('bounce.test'))),
  );
});

test('it suppresses nobody else, and delays nobody', async () => {
  const { address } = await wayBack('kept@example.test');
  assert.match(await comes(address, report('victim@example.test')), /^250/);
  assert.equal((await eventOf('async_bounced', 'victim@example.test')).proven, false);
  assert.match(await comes(address, report('kept@example.test', '4.4.7', '451 later', 'delayed')), /^250/);
  assert.match(
    await comes(address, 'From: kept@example.test\r\nAuto-Submitted: auto-replied\r\n\r\nAway\r\n'),
    /^250/,
  );
  assert.match(await comes(address, 'Hello?\r\n'), /^250/);
  await relay.events.one('unparsed', (event) => event.type === 'async_bounced' && event.class === 'unparsed');
  assert.deepEqual(await listed(), []);
});

test('a forged token is refused, and so is a report among other recipients', async () => {
  const { address } = await wayBack('forged@example.test');
  const talk = await stranger();
  await talk.say('MAIL FROM:<>');
  const forged = `${address.slice(0, 20)}${address[20] === 'a' ? 'b' : 'a'}${address.slice(21)}`;
  for (const to of [forged, 'user@bounce.test', 'b+@bounce.test'])
    assert.match(await talk.say(`RCPT TO:<${to}>`), /^550 5\.1\.1 /);
  assert.match(await talk.say(`RCPT TO:<${address}>`), /^250/);
  assert.match(await talk.say('RCPT TO:<user@own.test>'), /^452 4\.5\.3/);
  assert.match(await talk.say(`RCPT TO:<${address}>`), /^452 4\.5\.3/);
  await talk.say('RSET');
  await talk.say('MAIL FROM:<>');
  assert.match(await talk.say('RCPT TO:<user@own.test>'), /^250/);
  assert.match(await talk.say(`RCPT TO:<${address}>`), /^452 4\.5\.3/);
  await talk.quit();
});

test('complaints: by the token in what they bring, for good; what is not spam takes them back', async () => {
  const { address, queueId } = await wayBack('cross@example.test');
  assert.match(await comes('fbl@bounce.test', complaint(address, 'cross@example.test')), /^250/);
  const event = await eventOf('complained', 'cross@example.test');
  assert.deepEqual([event.queue_id, event.proven, event.feedback], [queueId, true, 'abuse']);
  const [entry] = await listed();
  assert.deepEqual(
    [entry?.address, entry?.reason, entry?.ends_at ?? null],
    ['cross@example.test', 'complaint', null],
  );
  assert.match(await comes(address, complaint(address, 'cross@example.test', 'not-spam')), /^250/);
  assert.deepEqual(await listed(), []);
  // Without a token of ours it is told, and that is all.
  assert.match(await comes('fbl@bounce.test', complaint('news@shop.test', 'enemy@example.test')), /^250/);
  assert.equal((await eventOf('complained', 'enemy@example.test')).proven, false);
  assert.deepEqual(await listed(), []);
});

test('a change of secrets: both are taken while both are there; a file that is wrong changes nothing', async () => {
  const { address } = await wayBack('early@example.test');
  writeFileSync(secrets, 'second-secret-of-the-test\nfirst-secret-of-the-test\n');
  await relay.reload();
  assert.match(await comes(address, report('early@example.test', '5.2.2', '552 5.2.2 mailbox full')), /^250/);
  writeFileSync(secrets, 'short\n');
  const said = relay.logLine('return_path.keys_unusable');
  await relay.reload();
  assert.match(JSON.stringify((await said).error), /return-path\.keys:1: a key has 16 characters/);
  const { address: later } = await wayBack('later@example.test');
  writeFileSync(secrets, 'second-secret-of-the-test\n');
  await relay.reload();
  const talk = await stranger();
  await talk.say('MAIL FROM:<>');
  assert.match(await talk.say(`RCPT TO:<${address}>`), /^550 5\.1\.1/);
  assert.match(await talk.say(`RCPT TO:<${later}>`), /^250/);
  await talk.quit();
  assert.deepEqual(undocumented(relay.events.events), []);
});
