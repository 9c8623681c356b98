/** The PROXY header on real sockets and the native reactor: any cut, anything else, hostile peers. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { proxyExtent } from '../../src/protocol/proxy-header.ts';
import { ReactorFixture } from './reactor-fixture.ts';

const settings = {
  relay_domains: ['here.net'],
  policy: { proxy_protocol: { networks: ['127.0.0.7'], timeout_ms: 400 } },
};
const V1 = Buffer.from('PROXY TCP4 198.51.100.1 198.51.100.2 4000 25\r\n');
const V2 = Buffer.concat([
  Buffer.from('\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x20', 'latin1'),
  Buffer.from([198, 51, 100, 9, 1, 2, 3, 4, 0, 1, 0, 25]),
  Buffer.alloc(20, 4), // a TLV nobody knows
]);
const DIALOG = Buffer.from(
  'EHLO a.b\r\nMAIL FROM:<a@b.net>\r\nRCPT TO:<c@here.net>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n',
);

test('wherever the octets are cut, header and dialog come through whole', { timeout: 60_000 }, async () => {
  const f = new ReactorFixture(settings);
  let count = 0;
  for (const header of [V1, V2]) {
    const all = Buffer.concat([header, DIALOG]);
    for (let at = 0; at <= header.length + 12; at++) {
      const client = await f.client('127.0.0.7');
      await client.send(all.subarray(0, at));
      // A turn of the loop, so that the reactor reads the first piece alone.
      await new Promise((done) => setTimeout(done, 1));
      await client.send(all.subarray(at));
      assert.match(await client.reply(), /^220 /);
      for (const code of [250, 250, 250, 354, 250, 221])
        assert.match(await client.reply(), new RegExp(`^${code} `));
      await f.messages(++count);
      assert.equal(
        f.submitted.at(-1)?.message.client.address,
        header === V1 ? '198.51.100.1' : '198.51.100.9',
      );
    }
  }
  await f.finish();
  assert.deepEqual(new Set(f.closedPeers), new Set(['127.0.0.7']));
});

test('early talkers on real sockets: a line, half a line, and those who wait', {
  timeout: 60_000,
}, async () => {
  const policy = { early_talker: { enabled: true, exempt: [], greet_delay_ms: 300 } };
  const f = new ReactorFixture({ relay_domains: ['here.net'], policy });
  const [line, half, patient] = [await f.client(), await f.client(), await f.client()];
  await line.send('EHLO a.b\r\n');
  await half.send('EHLO');
  for (const early of [line, half]) {
    assert.match(await early.reply(), /^554 5\.5\.1 /);
    assert.equal(await early.reply(), '<close>');
  }
  assert.match(await patient.reply(), /^220 /);
  await patient.send(DIALOG);
  for (const code of [250, 250, 250, 354, 250, 221])
    assert.match(await patient.reply(), new RegExp(`^${code} `));
  await f.finish();
});

test('what is no header is answered with the end of the connection, never with words', {
  timeout: 60_000,
}, async () => {
  const f = new ReactorFixture(settings);
  const octets = fc.array(fc.integer({ min: 0, max: 255 }), { minLength: 1, maxLength: 300 });
  const broken = fc.oneof(
    octets.map((all) => Buffer.from(all)),
    octets.map((all) => Buffer.concat([V2.subarray(0, 12), Buffer.from(all)])),
    octets.map((all) => Buffer.concat([Buffer.from('PROXY '), Buffer.from(all)])),
  );
  for (const bytes of fc.sample(broken, 150)) {
    if (proxyExtent(bytes.toString('latin1')) >= 0) continue;
    const client = await f.client('127.0.0.7');
    await client.send(bytes);
    assert.equal(await client.reply(), '<close>');
  }
  const silent = await f.client('127.0.0.7');
  await silent.send(V2.subarray(0, 15));
  assert.equal(await silent.reply(), '<close>');
  const gone = await f.client('127.0.0.7');
  await gone.send(V1.subarray(0, 10));
  gone.destroy();
  const plain = await f.client('127.0.0.8');
  assert.match(await plain.reply(), /^220 /, 'others speak SMTP at once');
  await f.finish();
});
