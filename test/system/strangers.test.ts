/** What clients without relay rights can make the relay send: their mail to where it belongs, and little besides. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { fate } from '../support/fates.ts';
import { RelayFixture } from '../support/relay-fixture.ts';
import { ScriptedSink } from '../support/scripted-sink.ts';
import { Talk } from '../support/talk.ts';

let sink: ScriptedSink;
let relay: RelayFixture;

before(async () => {
  // It knows no DSN: a relay that passes mail on to it has to report on success itself.
  sink = await ScriptedSink.start({ capabilities: ['PIPELINING', '8BITMIME'] });
  relay = await RelayFixture.start({
    relay_networks: ['192.0.2.0/24'],
    relay_domains: ['here.test'],
    postmaster: 'ops@people.test',
    delivery: { smarthost: { host: '127.0.0.1', port: sink.port } },
    dsn: { delay_after_ms: 1, max_reports_per_stranger_per_h: 2 },
    retry: { initial_delay_ms: 50, max_delay_ms: 100 },
  });
});

after(async () => {
  await relay?.destroy();
  await sink?.stop();
});

/** A stranger's message that asks for all reports there are, with all of its content. */
async function bring(from: string, to: string): Promise<void> {
  const talk = await Talk.hello({ port: relay.port, host: '127.0.0.1' });
  const content = 'Subject: buy\r\n\r\nthe payload\r\n';
  const rcptParameters = ' NOTIFY=SUCCESS,FAILURE,DELAY';
  await talk.accepted({ from, to, content, mailParameters: ' RET=FULL ENVID=x', rcptParameters });
  await talk.quit();
}

const to = (address: string) =>
  sink.messages.filter(({ recipients }) => recipients.some((one) => one.address === address));

test('postmaster’s mail goes where the operator reads it, and is answered to nobody', async () => {
  await bring('victim@third.test', 'PostMaster@relay.test');
  await fate(relay.events, 'ops@people.test', 'delivered');
  relay.configure({ postmaster: 'bounce-550@people.test' });
  await relay.reload();
  await bring('victim@third.test', 'abuse@[127.0.0.1]');
  await fate(relay.events, 'bounce-550@people.test', 'bounced');
});

test('mail for relay_domains: failures are told in headers, so many an hour; success and delay are not', async () => {
  await bring('victim@third.test', 'fine@here.test');
  await bring('victim@third.test', 'once-defer-451@here.test');
  await fate(relay.events, 'fine@here.test', 'delivered');
  await fate(relay.events, 'once-defer-451@here.test', 'deferred');
  await fate(relay.events, 'once-defer-451@here.test', 'delivered');
  for (let i = 0; i < 4; i++) {
    await bring('victim@third.test', `bounce-550+${i}@here.test`);
    await fate(relay.events, `bounce-550+${i}@here.test`, 'bounced');
  }
  // Later mail on the same way: whatever the relay had to say before has gone out by then.
  await bring('another@third.test', 'bounce-550+last@here.test');
  await fate(relay.events, 'another@third.test', 'delivered');
  await relay.events.until(
    'two reports',
    (events) =>
      events.filter(({ type, recipient }) => type === 'delivered' && recipient === 'victim@third.test')
        .length >= 2,
  );
  const reports = to('victim@third.test');
  assert.equal(reports.length, 2, 'of nine messages that name it as their sender');
  for (const { content } of reports) {
    assert.match(content.toString(), /Action: failed/);
    assert.match(content.toString(), /Subject: buy/);
    assert.doesNotMatch(content.toString(), /payload/);
  }
});
