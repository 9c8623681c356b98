/**
 * Reports to hosts that offer nothing and check everything, by the route of their domain however the sender wrote it, with
 * the form of its domain in queue commands.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { run } from '../support/child.ts';
import { fate } from '../support/fates.ts';
import { MAIN, RelayFixture } from '../support/relay-fixture.ts';
import { ScriptedSink } from '../support/scripted-sink.ts';
import { Talk } from '../support/talk.ts';

/** Everything goes here, and is refused. */
let general: ScriptedSink;
/** The host of the senders: no 8BITMIME, no SMTPUTF8, no DSN. */
let strict: ScriptedSink;
let relay: RelayFixture;

before(async () => {
  general = await ScriptedSink.start();
  strict = await ScriptedSink.start({ capabilities: ['SIZE 1000000'] });
  relay = await RelayFixture.start({
    delivery: {
      smarthost: { host: '127.0.0.1', port: general.port },
      routes: { 'B\u00dcCHER.test': { host: '127.0.0.1', port: strict.port } },
    },
  });
});

after(async () => {
  await relay?.destroy();
  await Promise.all([general?.stop(), strict?.stop()]);
});

const CONTENTS: Record<string, Buffer> = {
  plain: Buffer.from('Subject: x\r\n\r\nbody\r\n'),
  'eight bits': Buffer.from('Subject: \u00fc\r\n\r\nb\u00f6dy\r\n'),
  'long lines': Buffer.from(`Subject: x\r\nX-Long: ${'x'.repeat(1500)}\r\n\r\n${'y'.repeat(2000)}\r\n`),
  dots: Buffer.from('Subject: x\r\n\r\n.\r\n..x\r\n'),
};

for (const [name, content] of Object.entries(CONTENTS))
  test(`a report about ${name} goes through a host that offers nothing`, async () => {
    const before = strict.messages.length;
    const talk = await Talk.hello({ port: relay.port, host: '127.0.0.1' });
    const to = `bounce-550+${name.replace(' ', '-')}@away.test`;
    const from = 'x@B\u00fccher.test';
    await talk.accepted({ from, to, content, mailParameters: ' BODY=8BITMIME SMTPUTF8 RET=FULL' });
    await talk.quit();
    await fate(relay.events, to, 'bounced');
    await strict.received(before + 1);
    const report = strict.messages[before];
    assert.ok(report);
    assert.deepEqual([report.from, report.fromParams.filter((one) => !one.startsWith('SIZE'))], ['', []]);
    assert.deepEqual(report.recipients, [{ address: 'x@xn--bcher-kva.test', params: [] }]);
    assert.equal(
      report.content.every((byte) => byte > 0 && byte < 128),
      true,
    );
    assert.doesNotMatch(report.content.toString('latin1'), /[^\r\n]{999}|\r(?!\n)|(?<!\r)\n/);
    assert.match(report.content.toString(), /Action: failed/);
  });

test('queue commands take a destination in any spelling', async () => {
  await relay.stop();
  relay.configure({ delivery: { enabled: false } });
  await relay.start();
  const talk = await Talk.hello({ port: relay.port, host: '127.0.0.1' });
  await talk.accepted({ to: 'a@xn--bcher-kva.test' });
  await talk.quit();
  const held = async (destination: string): Promise<number> => {
    const words = [MAIN, '-c', relay.configPath, 'queue', 'list', '--destination', destination, '--json'];
    const { stdout } = await run(process.execPath, words);
    return stdout.split('xn--bcher-kva.test"').length - 1;
  };
  for (const spelling of ['B\u00fccher.test', 'xn--bcher-kva.test.', 'XN--BCHER-KVA.TEST'])
    assert.ok((await held(spelling)) > 0, spelling);
  assert.equal(await held('other.test'), 0);
});
