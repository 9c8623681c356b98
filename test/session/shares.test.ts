/**
 * No client takes what belongs to all: many sessions of one address, each within its own limits, stay within the share
 * of it, and a second client is served meanwhile. The real reactor; 127.0.0.2 and its neighbours are strangers.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import type { Resource } from '../../src/policy/accounts.ts';
import { limitShares } from '../../src/policy/share-limits.ts';
import { serverSlot } from '../native/tls-rig.ts';
import { PolicyFixture } from '../policy/policy-fixture.ts';
import { until } from '../support/wait.ts';
import { DialogFixture } from './dialog-fixture.ts';
import { ReactorFixture, type TcpClient } from './reactor-fixture.ts';

const HOSTILE = '127.0.0.2';
const GOOD = '127.0.1.1';
const TRUSTED = '127.0.2.1';

let fixture: ReactorFixture | null = null;
afterEach(async () => {
  await fixture?.finish();
  fixture = null;
});

function begin(settings: object, slot = 0): ReactorFixture {
  const who = { relay_networks: ['127.0.2.0/24'], relay_domains: ['here.net'] };
  fixture = new ReactorFixture({ ...who, ...settings }, { host: '127.0.0.1', port: 0 }, slot);
  return fixture;
}

const total = (resource: Resource): number => (fixture as ReactorFixture).memory.accounts.total(resource);

async function said(client: TcpClient, text: string): Promise<string> {
  await client.send(`${text}\r\n`);
  return client.reply();
}

async function greeted(address: string): Promise<TcpClient> {
  const client = await (fixture as ReactorFixture).client(address);
  assert.match(await client.reply(), /^220 /);
  assert.match(await said(client, 'EHLO client.example'), /^250 /);
  return client;
}

async function addressed(address: string): Promise<TcpClient> {
  const client = await greeted(address);
  assert.match(await said(client, 'MAIL FROM:<a@there.net>'), /^250 /);
  assert.match(await said(client, 'RCPT TO:<b@here.net>'), /^250 /);
  return client;
}

/** A whole message; the reply to its end. */
async function mailed(address: string): Promise<string> {
  const client = await addressed(address);
  assert.match(await said(client, 'DATA'), /^354 /);
  return said(client, 'Subject: x\r\n\r\nx\r\n.');
}

const PART = 60_000;
const part = `${'x'.repeat(98)}\r\n`.repeat(PART / 100);

for (const verb of ['DATA', 'BDAT'])
  test(`content memory: a part by ${verb} and silence, on many connections of one client`, async () => {
    begin({ policy: { shares: { client_percent: 5, network_percent: 10 } } });
    const share = (16 * 1024 * 5) / 100;
    let refused = 0;
    for (let i = 0; i < 20; i++) {
      const client = await greeted(HOSTILE);
      const reply = await said(client, 'MAIL FROM:<a@there.net>');
      if (/^452 4\.3\.1 /.test(reply)) refused++;
      else {
        await said(client, 'RCPT TO:<b@here.net>');
        const held = total('content');
        if (verb === 'BDAT') {
          const answer = await said(client, `BDAT ${PART}\r\n${part.slice(0, -2)}`);
          if (/^452 4\.3\.1 /.test(answer)) refused++;
        } else {
          assert.match(await said(client, 'DATA'), /^354 /);
          if (held + 64 > share) {
            assert.match(await said(client, `${part}\r\n.`), /^452 4\.3\.1 /);
            refused++;
          } else {
            await client.send(part);
            while (total('content') < held + PART / 1024) await new Promise(setImmediate);
          }
        }
      }
      assert.ok(total('content') <= share, `${total('content')} KiB of ${share}`);
    }
    assert.ok(refused >= 6, 'beyond its share the client is refused');
    assert.match(await mailed(GOOD), /^250 /, 'another one is served');
  });

test('content memory: who may relay has the wider share', async () => {
  begin({ policy: { shares: { client_percent: 5, network_percent: 10 } } });
  for (let i = 0; i < 20; i++) {
    const client = await addressed(TRUSTED);
    assert.match(await said(client, `BDAT ${PART}\r\n${part.slice(0, -2)}`), /^250 /);
  }
  assert.ok(total('content') > (16 * 1024 * 5) / 100);
});

test('recipients in open envelopes: a total, and a share of each client, in octets', async () => {
  begin({ smtp: { envelope_memory_mb: 2, max_recipients: 100_000, max_command_line_bytes: 2048 } });
  const long = `ORCPT=rfc822;${'x'.repeat(400)}`;
  const taken = async (address: string): Promise<number> => {
    const client = await greeted(address);
    assert.match(await said(client, 'MAIL FROM:<a@there.net>'), /^250 /);
    for (let sent = 0; ; sent += 50) {
      let text = '';
      for (let i = sent; i < sent + 50; i++) text += `RCPT TO:<b${i}@here.net> ${long}\r\n`;
      await client.send(text);
      let full = 0;
      for (let i = 0; i < 50; i++) if (/^452 4\.5\.3 /.test(await client.reply())) full++;
      if (full > 0) return sent + 50 - full;
    }
  };
  const first = await taken(HOSTILE);
  assert.ok(first > 300 && first < 1000, `${first} recipients of some 750 bytes in 512 KiB`);
  const again = await greeted(HOSTILE);
  assert.match(await said(again, 'MAIL FROM:<a@there.net>'), /^452 4\.5\.3 /, 'on another connection too');
  assert.equal(total('envelopes'), 512);
  assert.match(await mailed(GOOD), /^250 /);
  again.destroy();
});

/** What a session keeps for its next transaction. */
const KEPT_KIB = 2;

test('recipients: what ends a transaction gives back what it held, but for the first two KiB; its end all', async () => {
  begin({});
  const client = await addressed(HOSTILE);
  for (const end of ['RSET', 'EHLO again.example', 'BDAT 2 LAST\r\n', 'DATA\r\nx\r\n.']) {
    await said(client, 'MAIL FROM:<a@there.net>');
    for (let i = 0; i < 20; i++) assert.match(await said(client, `RCPT TO:<b${i}@here.net>`), /^250 /, end);
    assert.ok(total('envelopes') > KEPT_KIB, end);
    await said(client, end);
    if (end.startsWith('DATA')) await client.reply();
    await new Promise(setImmediate);
    assert.equal(total('envelopes'), KEPT_KIB, end);
  }
  client.destroy();
  await until(() => total('envelopes') === 0, 'the end of the session gives all back');
});

/** Each makes the session wait, and what comes behind it with it. */
const WAITS: Record<string, { before: string[]; last: string; holdLogins: boolean }> = {
  'a pause of the tarpit': { before: [], last: 'WHAT', holdLogins: false },
  'a login': { before: ['AUTH LOGIN', 'dGVzdA=='], last: 'cGFzcw==', holdLogins: true },
  'what a failed login costs': { before: ['AUTH LOGIN', 'dGVzdA=='], last: 'd3Jvbmc=', holdLogins: false },
};

for (const [name, wait] of Object.entries(WAITS))
  test(`commands that wait are on the client’s account: ${name}`, () => waitsOnAccount(wait));

function waitsOnAccount({ before, last, holdLogins }: (typeof WAITS)[string]): void {
  const settings = { tarpit: { enabled: true, after_errors: 0 } };
  const listeners = [{ host: '127.0.0.1', port: 2525, auth: 'optional' }];
  const auth = {
    allow_without_tls: true,
    failure_delay_ms: 5000,
    backends: [{ type: 'memory', users: [{ username: 'test', password: 'pass' }] }],
  };
  const f = new PolicyFixture(settings, {}, { smtp: { envelope_memory_mb: 1 }, listeners, auth });
  f.holdLogins = holdLogins;
  const config = { content_memory_mb: 16, spill_threshold_bytes: 1, max_message_size: 1 };
  const shares = {
    enabled: true,
    client_percent: 1,
    network_percent: 1,
    trusted_percent: 1,
    strangers_percent: 100,
  };
  limitShares(
    f.memory.accounts,
    { ...config, policy: { shares }, smtp: { envelope_memory_mb: 1 }, tls: { max_handshakes: 1 } },
    1,
  );
  const ahead = `NOOP ${'x'.repeat(1500)}\r\n`.repeat(95);
  const waiting = (): [number, string] => {
    const c = f.open('198.51.100.7');
    for (const line of ['EHLO a.b', ...before]) f.say(c, `${line}\r\n`);
    return [c, f.say(c, `${last}\r\n${ahead}`)];
  };
  const [first, reply] = waiting();
  assert.doesNotMatch(reply, /421/);
  const [second, refusal] = waiting();
  assert.match(refusal, /421 4\.7\.0 .*too much sent ahead\r\n$/s);
  assert.deepEqual(
    [first, second].map((c) => f.isClosed(c)),
    [false, true],
  );
  f.reactor.hangUp(first);
  assert.equal(f.memory.accounts.total('envelopes'), 0);
}

test('handshakes: half-open ones of one client leave STARTTLS to the others', async () => {
  const listeners = [{ host: '127.0.0.1', port: 0, tls: 'optional' }];
  begin({ listeners, tls: { cert_file: 'loaded-already.pem', max_handshakes: 40 } }, serverSlot());
  const answers: string[] = [];
  for (let i = 0; i < 16; i++) answers.push((await said(await greeted(HOSTILE), 'STARTTLS')).slice(0, 9));
  assert.equal(answers.filter((answer) => answer === '220 2.0.0').length, 10, 'a quarter of 40');
  assert.equal(answers.filter((answer) => answer === '454 4.7.0').length, 6);
  assert.match(await said(await greeted(GOOD), 'STARTTLS'), /^220 /);
});

test('a client that falls silent in its handshake is let go', { timeout: 60_000 }, async () => {
  const listeners = [{ host: '127.0.0.1', port: 0, tls: 'implicit' }];
  const tls = { cert_file: 'loaded-already.pem', handshake_silence_ms: 100 };
  const client = await begin({ listeners, tls }, serverSlot()).client(HOSTILE);
  assert.equal(await client.line(), null, 'not a word');
});

test('a content in chunks has to come on: commands between them do not prolong its time', () => {
  const f = new DialogFixture({ smtp: { data_timeout_ms: 60_000, min_data_rate_grace_ms: 30_000 } });
  const c = f.open();
  f.say(c, 'EHLO a.b\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\n');
  f.say(c, 'BDAT 1\r\nx');
  f.nowMs += 50_000;
  assert.match(f.say(c, 'NOOP\r\n'), /^250 /);
  const left = f.reactor.deadlineOf(c);
  assert.ok(left > 9000 && left < 11_000, `${left} ms are left of 60 s`);
  assert.match(f.say(c, 'BDAT 1\r\nx'), /^421 4\.4\.2 .*too slowly\r\n$/, 'two octets in 50 s');
  const quick = f.open();
  f.say(quick, 'EHLO a.b\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\n');
  f.say(quick, `BDAT 4000\r\n${'x'.repeat(4000)}`);
  f.nowMs += 50_000;
  assert.match(f.say(quick, 'BDAT 4 LAST\r\n\r\n\r\n'), /^250 /, '80 octets a second');
});

test('an open envelope has to come on: commands that bring no recipient do not prolong its time', () => {
  const f = new DialogFixture({ smtp: { command_timeout_ms: 64_000 } });
  const c = f.open();
  f.say(c, 'EHLO a.b\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\n');
  for (const idle of ['NOOP', 'RCPT TO:<d@e.f>', 'HELP', 'MAIL FROM:<x@y.z>', 'VRFY x']) {
    f.nowMs += 12_000;
    f.say(c, `${idle}\r\n`);
  }
  const left = f.reactor.deadlineOf(c);
  assert.ok(left > 3000 && left < 5000, `${left} ms are left of 64 s`);
  f.say(c, 'RCPT TO:<new@e.f>\r\nNOOP\r\n');
  f.nowMs += 10_000;
  f.say(c, 'NOOP\r\n');
  assert.ok(f.reactor.deadlineOf(c) > 50_000, 'a new recipient brings it forward');
  f.say(c, 'RSET\r\n');
  f.nowMs += 70_000;
  f.say(c, 'MAIL FROM:<a@b.c>\r\n');
  assert.ok(f.reactor.deadlineOf(c) > 60_000, 'a new envelope has all of it');
});

test('strangers of many networks together leave something to those who may relay', async () => {
  begin({ smtp: { envelope_memory_mb: 1, max_recipients: 100_000, max_command_line_bytes: 2048 } });
  const recipient = `${'x'.repeat(60)}@here.net`;
  const some = `RCPT TO:<${recipient}>\r\n`.repeat(100);
  let refused = 0;
  for (let network = 10; network < 13; network++) {
    const client = await addressed(`127.0.${network}.1`);
    for (let full = false; !full; ) {
      await client.send(some);
      for (let reply = 0; reply < 100; reply++) full = (await client.reply()).startsWith('452 4.5.3') || full;
      if (full) refused++;
    }
  }
  assert.equal(refused, 3);
  // All together have what strangers may, and a newcomer has nothing.
  const fresh = await greeted('127.0.77.1');
  assert.match(await said(fresh, 'MAIL FROM:<a@there.net>'), /^(250|452)/);
  assert.match(await said(fresh, `RCPT TO:<${recipient}>`), /^(452|503)/);
  assert.match(await mailed(TRUSTED), /^250 /);
});
