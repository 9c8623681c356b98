/**
 * config/relay.json with only what must be set to accept mail from outside, against a hostile address: nothing is
 * switched on first, and others are served.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { RelayFixture } from '../support/relay-fixture.ts';
import { Talk } from '../support/talk.ts';

const HOSTILE = '127.0.0.2';
const GOOD = '127.0.1.1';
const OWN = '127.0.9.1';

async function shipped(t: TestContext): Promise<RelayFixture> {
  const relay = await RelayFixture.start({
    include: [join(import.meta.dirname, '../../config/relay.json')],
    listeners: [{ host: '127.0.0.1', port: 0 }],
    relay_networks: ['127.0.9.0/24'],
    relay_domains: ['here.test'],
    log: { level: 'info', format: 'json', file: null },
    delivery: { enabled: false },
  });
  t.after(() => relay.destroy());
  return relay;
}

const from = (relay: RelayFixture, localAddress: string) => ({
  host: '127.0.0.1',
  port: relay.port,
  localAddress,
});

async function served(relay: RelayFixture, address: string): Promise<void> {
  const talk = await Talk.hello(from(relay, address));
  assert.match(await talk.send({ to: 'b@here.test' }), /^250 /);
  talk.destroy();
}

test('as shipped, a hostile address has fifty connections and a quarter of the memory; others are served', {
  timeout: 60_000,
}, async (t) => {
  const relay = await shipped(t);
  const open: Talk[] = [];
  t.after(() => {
    for (const talk of open) talk.destroy();
  });
  let turnedAway = 0;
  for (let i = 0; i < 70; i++) {
    const talk = await Talk.open(from(relay, HOSTILE));
    if (talk.greeting.startsWith('220 ')) open.push(talk);
    else if (/^421 4\.7\.0 /.test(talk.greeting)) turnedAway++;
  }
  assert.deepEqual([open.length, turnedAway], [50, 20]);
  // Recipients with long parameters, on each of them: some 45 MB of 128, of which a quarter may be one client's.
  const parameter = `ORCPT=rfc822;${'x'.repeat(480)}`;
  const full = await Promise.all(
    open.map(async (talk, n) => {
      await talk.say('EHLO hostile.test');
      if (!(await talk.say('MAIL FROM:<a@there.test>')).startsWith('250 ')) return 0;
      let refused = 0;
      for (let i = 0; i < 1000; i += 100) {
        let text = '';
        for (let j = i; j < i + 100; j++) text += `RCPT TO:<r${n}-${j}@here.test> ${parameter}\r\n`;
        talk.write(text);
        for (let j = 0; j < 100; j++) if (/^452 4\.5\.3 /.test(await talk.reply())) refused++;
      }
      return refused;
    }),
  );
  assert.ok(
    full.some((refused) => refused > 0),
    'recipients beyond the share are refused',
  );
  await served(relay, GOOD);
  // A part of a content each, and silence.
  const octets = 'x\r\n'.repeat(20_000);
  for (const talk of open) talk.write(`BDAT ${octets.length}\r\n${octets}`);
  await Promise.all(open.map((talk) => talk.reply()));
  await served(relay, GOOD);
  // An honest bulk client is none of it.
  const own = await Promise.all(Array.from({ length: 100 }, () => Talk.hello(from(relay, OWN))));
  await Promise.all(
    own.map((talk) => talk.send({ to: 'x@far.test' }).then((reply) => assert.match(reply, /^250 /))),
  );
  for (const talk of [...own, ...open]) talk.destroy();
  assert.equal((await relay.stop()).code, 0);
});

test('as shipped, whoever sends garbage is put off for a while, and nobody else is', async (t) => {
  const relay = await shipped(t);
  for (let i = 0; i < 40; i++) {
    const talk = await Talk.open(from(relay, HOSTILE));
    if (!talk.greeting.startsWith('220 ')) {
      assert.match(talk.greeting, /^421 4\.7\.0 .*takes no mail from your address/);
      assert.ok(i > 10, 'thirty are forgiven');
      await served(relay, GOOD);
      return;
    }
    for (let j = 0; j < 2; j++) await talk.say('WHAT');
    talk.destroy();
  }
  assert.fail('never banned');
});
