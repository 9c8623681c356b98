/** Attributes of messages in a relay: on the wire, in events, in the queue, over a restart, for operators. */
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
  const next = { host: '127.0.0.1', port: sink.port };
  relay = await RelayFixture.start({
    spill_threshold_bytes: 65_536,
    attributes: { trusted_networks: ['127.0.0.1'] },
    delivery: { smarthost: next, routes: { 'own.test': next, 'late.test': next } },
    storage: { provider: 'local' },
  });
});

after(async () => {
  await relay?.destroy();
  await sink?.stop();
});

const SHOP = 'X-ProtoRelay-Tenant: shop\r\nX-ProtoRelay-Campaign: spring\r\nX-ProtoRelay-Class: bulk\r\n';

async function deposit(to: string, fields: string, body = 'Hello.\r\n'): Promise<string> {
  const talk = await Talk.hello({ port: relay.port, host: '127.0.0.1' });
  const queueId = await talk.accepted({ to, content: `Subject: a\r\n${fields}To: b\r\n\r\n${body}` });
  await talk.quit();
  return queueId;
}

async function command(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await relay.command(...args);
  assert.equal(code, 0, `${args.join(' ')}: ${stdout}${stderr}`);
  return stdout;
}

/** What was sent to a recipient, without our trace. */
function sentTo(recipient: string): string | undefined {
  const sent = sink.messages.find(({ recipients }) =>
    recipients.some(({ address }) => address === recipient),
  );
  return sent?.content.toString().replace(/^Received:.*\r\n(?:[ \t].*\r\n)*/, '');
}

test('what is sent lacks the fields, in memory and in a file; events have what they said', {
  timeout: 60_000,
}, async () => {
  const metadata = 'X-ProtoRelay-Metadata: {"order":{"id":7}}\r\n';
  const long = `${'x'.repeat(70)}\r\n`.repeat(2000);
  for (const [to, body] of [
    ['small@own.test', 'Hello.\r\n'],
    ['large@own.test', long],
  ] as const) {
    const queueId = await deposit(to, SHOP + metadata, body);
    const event = await fate(relay.events, to, 'delivered');
    assert.equal(sentTo(to), `Subject: a\r\nTo: b\r\n\r\n${body}`);
    assert.equal(event.size_bytes, 21 + body.length);
    const accepted = relay.events.events.find((one) => one.type === 'accepted' && one.queue_id === queueId);
    for (const { tenant, campaign, mail_class: kind, pool, metadata: data } of [event, accepted ?? {}])
      assert.deepEqual(
        [tenant, campaign, kind, pool, data],
        ['shop', 'spring', 'bulk', undefined, { order: { id: 7 } }],
      );
  }
});

test('suspended by tenant and campaign, selected, shown and sent after a restart', {
  timeout: 60_000,
}, async () => {
  const id = (await command('suspend', '--tenant', 'SHOP', '--campaign', 'spr*')).split(' ')[0] as string;
  assert.match(await command('suspensions'), /tenant SHOP and campaign spr\*/);
  const queueId = await deposit(
    'held@own.test',
    `${SHOP}X-ProtoRelay-Pool: warm\r\nX-ProtoRelay-Deadline: 7d\r\n`,
  );
  await deposit('free@own.test', 'X-ProtoRelay-Tenant: shop\r\n');
  await fate(relay.events, 'free@own.test', 'delivered');
  const listed = async (...args: string[]): Promise<unknown[]> =>
    (await relay.queueEntries(...args)).map((one) => [
      one.queue_id,
      one.tenant,
      one.campaign,
      one.class,
      one.pool,
    ]);
  await relay.stop();
  const mine = [[queueId, 'shop', 'spring', 'bulk', 'warm']];
  assert.deepEqual(await listed('--tenant', 'shop', '--class', 'bulk', '--pool', 'w*'), mine);
  assert.deepEqual(await listed('--campaign', 'autumn'), []);
  await relay.start();
  assert.deepEqual(await listed('--campaign', 'spring'), mine);
  const shown = await relay.queue('show', queueId);
  assert.match(shown.stdout, /Tenant +shop\nCampaign +spring\nClass +bulk\nPool +warm\nDeadline +20/);
  assert.match(shown.stdout, new RegExp(`suspended by ${id}`));
  assert.match(await command('queue', 'count', '--by', 'tenant'), /shop/);
  assert.equal(sentTo('held@own.test'), undefined);
  await command('resume', id);
  const event = await fate(relay.events, 'held@own.test', 'delivered');
  assert.deepEqual([event.tenant, event.pool], ['shop', 'warm']);
});

test('a recipient expires at the deadline, with a report', { timeout: 60_000 }, async () => {
  const deadline = new Date(Date.now() + 2500).toISOString();
  await deposit('defer-451@own.test', `X-ProtoRelay-Deadline: ${deadline}\r\n`);
  const deferred = await fate(relay.events, 'defer-451@own.test', 'deferred');
  assert.equal(deferred.retry_at, deadline);
  assert.equal(deferred.deadline_at, deadline);
  const expired = await fate(relay.events, 'defer-451@own.test', 'expired');
  assert.deepEqual([expired.reason, expired.status], ['deadline_passed', '5.4.7']);
  assert.match(String(expired.detail), new RegExp(`^its deadline was ${deadline}`));
  await fate(relay.events, 'sender@client.test', 'delivered');
  assert.match(sentTo('sender@client.test') ?? '', /Status: 5\.4\.7/);
});

test('what waits for a connection when its deadline comes is not sent', { timeout: 60_000 }, async () => {
  sink.options.delays = { greeting: 3000 };
  const deadline = new Date(Date.now() + 1500).toISOString();
  await deposit('late@late.test', `X-ProtoRelay-Deadline: ${deadline}\r\n`);
  const expired = await fate(relay.events, 'late@late.test', 'expired');
  assert.deepEqual([expired.reason, expired.attempt], ['deadline_passed', 0]);
  assert.equal(sentTo('late@late.test'), undefined);
});
