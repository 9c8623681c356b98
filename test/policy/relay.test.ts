/** The policy of a real relay: DNS of a real server, several processes, restarts, the command line. */
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { BanAnswer } from '../../src/control/ban-answer.ts';
import { pidOf } from '../supervisor/processes.ts';
import { type Ran, run } from '../support/child.ts';
import { DnsServer } from '../support/dns-server.ts';
import { MAIN, RelayFixture, type Settings } from '../support/relay-fixture.ts';
import { Talk } from '../support/talk.ts';

const held = { delivery: { enabled: false }, relay_networks: [], relay_domains: ['here.net'] };
const RCPT = 'RCPT TO:<b@here.net>';

async function start(t: TestContext, settings: Settings): Promise<RelayFixture> {
  const relay = await RelayFixture.start({ ...held, ...settings });
  t.after(() => relay.destroy());
  return relay;
}

const from = (relay: RelayFixture, localAddress: string) => ({
  host: '127.0.0.1',
  port: relay.port,
  localAddress,
});

/** Connects from an address and says lines; the last reply. */
async function talk(relay: RelayFixture, address: string, ...lines: string[]): Promise<string> {
  const one = await Talk.open(from(relay, address));
  let reply = one.greeting;
  for (const line of reply.startsWith('220') ? ['EHLO mail.there.net', ...lines] : [])
    reply = await one.say(line);
  one.destroy();
  return reply;
}

const ban = (relay: RelayFixture, ...args: string[]): Promise<Ran> =>
  run(process.execPath, [MAIN, 'ban', ...args, '-c', relay.configPath], {});

async function bansOf(relay: RelayFixture): Promise<BanAnswer[]> {
  return JSON.parse((await ban(relay, 'list', '--json')).stdout) as BanAnswer[];
}

test('DNS lists, reverse names, sender domains against a DNS server; a slow answer holds up nobody else', async (t) => {
  const dns = await DnsServer.start({
    '2.0.0.127.in-addr.arpa': { PTR: ['mail.there.net'] },
    '3.0.0.127.in-addr.arpa': { PTR: ['mail.there.net'] },
    '4.0.0.127.in-addr.arpa': { PTR: ['listed.there.net'] },
    '5.0.0.127.in-addr.arpa': { fault: 'timeout' },
    'mail.there.net': { A: ['127.0.0.2'] },
    'listed.there.net': { A: ['127.0.0.4'] },
    '4.0.0.127.bl.test': { A: ['127.0.0.2'] },
    'there.net': { MX: [[10, 'mail.there.net']] },
    'null.net': { MX: [[0, '.']] },
  });
  t.after(() => dns.stop());
  const relay = await start(t, {
    dns: { servers: [dns.address], timeout_ms: 20_000, tries: 1 },
    policy: {
      reverse_dns: { enabled: true, mode: 'defer', timeout_ms: 1500, on_failure: 'closed' },
      dnsbl: { enabled: true, zones: [{ zone: 'bl.test' }] },
      sender_domain: { enabled: true },
      helo: { enabled: true, mode: 'tag', checks: ['matches'] },
    },
  });
  const MAIL = 'MAIL FROM:<a@there.net>';
  const slow = talk(relay, '127.0.0.5', MAIL);
  assert.equal(await talk(relay, '127.0.0.2', MAIL, RCPT), '250 2.1.5 Ok');
  assert.match(await talk(relay, '127.0.0.3', MAIL), /^450 4\.7\.25 /);
  assert.match(await talk(relay, '127.0.0.4', MAIL), /^550 5\.7\.1 .*bl\.test 127\.0\.0\.2/);
  assert.match(await talk(relay, '127.0.0.2', 'MAIL FROM:<a@null.net>'), /^550 5\.1\.8 .*null MX/);
  assert.match(await talk(relay, '127.0.0.2', 'MAIL FROM:<a@nowhere.net>'), /^550 5\.1\.8 .*not in DNS/);
  const raced = await Promise.race([
    slow.then(() => 'slow'),
    talk(relay, '127.0.0.2', MAIL).then(() => 'other'),
  ]);
  assert.equal(raced, 'other');
  assert.match(await slow, /^451 4\.4\.3 The name of your address/);
  assert.equal(dns.asked('PTR 2.0.0.127.in-addr.arpa'), 1, 'asked once, answered from the cache since');
  const tagged = await Talk.open(from(relay, '127.0.0.2'));
  await tagged.say('EHLO wrong.there.net');
  const queueId = await tagged.accepted({ from: 'a@there.net', to: 'b@here.net' });
  assert.match(
    (await relay.queue('cat', queueId)).stdout,
    /^X-ProtoRelay-Policy: helo \(.*\)\r\nReceived: from wrong\.there\.net \(mail\.there\.net \[127\.0\.0\.2\]\)\r\n/,
  );
  tagged.destroy();
  const hits = relay.log.filter((line) => line.event === 'policy.hit').map((line) => line.rule);
  assert.deepEqual([...new Set(hits)].sort(), ['dnsbl', 'helo', 'reverse_dns', 'sender_domain']);
});

test('a reload switches parts on and off', async (t) => {
  const relay = await start(t, {});
  const MAIL = 'MAIL FROM:<a@there.net>';
  const say = (): Promise<string> => talk(relay, '127.0.0.2', MAIL, RCPT);
  assert.equal(await say(), '250 2.1.5 Ok');
  relay.configure({ policy: { greylist: { enabled: true, delay_ms: 0 } } });
  assert.deepEqual((await relay.reload()).applied, ['policy.greylist.enabled', 'policy.greylist.delay_ms']);
  assert.match(await say(), /^451 4\.7\.1 Greylisted/);
  assert.equal(await say(), '250 2.1.5 Ok');
  relay.configure({ policy: { connections: { enabled: true, max_per_ip: 1 } } });
  await relay.reload();
  const first = await Talk.hello(from(relay, '127.0.0.2'));
  assert.match(await talk(relay, '127.0.0.2'), /^421 4\.7\.0 .*from your address/);
  await first.quit();
  relay.configure({ policy: { connections: { enabled: false } } });
  await relay.reload();
  const [one, two] = [await Talk.hello(from(relay, '127.0.0.2')), await Talk.hello(from(relay, '127.0.0.2'))];
  await Promise.all([one.quit(), two.quit()]);
});

test('two processes share rates, limits, greylist and bans; one that is killed gives its places back', {
  timeout: 90_000,
}, async (t) => {
  const relay = await start(t, {
    accept_processes: 2,
    policy: {
      max_counters: 4096,
      rates: { enabled: true, limits: [{ count: 'messages', limit: 7, interval_ms: 3_600_000 }] },
      connections: { enabled: true, max_per_ip: 6, exempt: ['127.0.0.9'] },
      greylist: { enabled: true, delay_ms: 0, client_passes: 0, exempt: ['127.0.0.2', '127.0.0.4'] },
      bans: { mode: 'reject', max_failures: { protocol: 4 }, duration_ms: 60_000 },
    },
  });
  const MAIL = 'MAIL FROM:<a@there.net>';
  // Rates: with sockets of their own, both processes get some of thirty connections.
  const replies: string[] = [];
  for (let i = 0; i < 30; i++) replies.push(await talk(relay, '127.0.0.2', MAIL));
  assert.equal(replies.filter((reply) => reply.startsWith('250')).length, 7);
  assert.equal(replies.filter((reply) => reply.startsWith('450 4.7.0')).length, 23);
  // Greylist: known to one is known to the other.
  assert.match(await talk(relay, '127.0.0.3', MAIL, RCPT), /^451 /);
  for (let i = 0; i < 5; i++) assert.equal(await talk(relay, '127.0.0.3', MAIL, RCPT), '250 2.1.5 Ok');
  // Limits of open connections.
  const open: Talk[] = [];
  for (let i = 0; i < 14; i++) open.push(await Talk.open(from(relay, '127.0.0.4')));
  const served = (): Talk[] => open.filter(({ greeting }) => greeting.startsWith('220'));
  assert.equal(served().length, 6);
  process.kill(pidOf(relay, 1), 'SIGKILL');
  const ready = relay.logLine('process.ready', (line) => line.process === 1);
  await ready;
  for (const one of open) one.destroy();
  let again: string;
  do again = await talk(relay, '127.0.0.4');
  while (again.startsWith('421'));
  // Bans: failures at both processes add up, and hold at both.
  for (let i = 0; i < 5; i++) await talk(relay, '127.0.0.5', 'BAD');
  for (let i = 0; i < 6; i++) assert.match(await talk(relay, '127.0.0.5'), /^554 5\.7\.1 /);
  assert.deepEqual(
    (await bansOf(relay)).map(({ network, kind }) => [network, kind]),
    [['127.0.0.5', 'protocol']],
  );
  assert.equal((await relay.stop()).code, 0);
});

test('bans outlive a restart and a kill -9; operators list, add and delete them, relay or not', {
  timeout: 90_000,
}, async (t) => {
  const bans = {
    mode: 'reject' as const,
    max_failures: { protocol: 1 },
    duration_ms: 3_600_000,
    growth: 2,
    forget_ms: 86_400_000,
  };
  const relay = await start(t, {
    policy: { bans, greylist: { enabled: true, delay_ms: 0, exempt: ['127.0.0.5'] } },
  });
  await talk(relay, '127.0.0.5', 'BAD', 'BAD');
  assert.match(await talk(relay, '127.0.0.5'), /^554 /);
  const added = await ban(relay, 'add', '127.0.0.64/26', '2001:db8::/48', '--for', '2h');
  assert.match(added.stdout, /^127\.0\.0\.64\/26 {2}operator {2}since .* until .*\n2001:db8::\/48 /);
  assert.match(await talk(relay, '127.0.0.70'), /^554 5\.7\.1 /);
  assert.match(await talk(relay, '127.0.0.6', 'MAIL FROM:<a@there.net>', RCPT), /^451 /);
  assert.equal((await relay.stop()).code, 0);

  const listed = (list: BanAnswer[]): string[] => list.map(({ network }) => network).sort();
  const all = ['127.0.0.5', '127.0.0.64/26', '2001:db8::/48'];
  assert.deepEqual(listed(await bansOf(relay)), all, 'of a stopped relay');
  assert.equal((await ban(relay, 'delete', '2001:db8::/48')).code, 0);
  assert.equal((await ban(relay, 'add', '127.0.0.8')).code, 0);
  await relay.start();
  assert.match(await talk(relay, '127.0.0.5'), /^554 /);
  assert.match(await talk(relay, '127.0.0.70'), /^554 /);
  assert.match(await talk(relay, '127.0.0.8'), /^554 /);
  assert.equal(
    await talk(relay, '127.0.0.6', 'MAIL FROM:<a@there.net>', RCPT),
    '250 2.1.5 Ok',
    'the greylist too',
  );
  assert.match((await ban(relay, 'list')).stdout, /^127\.0\.0\.8 {2}operator .* until it is deleted$/m);

  // Written within a second of the change.
  await talk(relay, '127.0.0.9', 'BAD', 'BAD');
  await delay(2500);
  await relay.kill();
  await relay.start();
  assert.match(await talk(relay, '127.0.0.9'), /^554 /);
  assert.equal((await ban(relay, 'delete', '127.0.0.9', '127.0.0.5')).code, 0);
  assert.match(await talk(relay, '127.0.0.9'), /^250/);
  const gone = await ban(relay, 'delete', '127.0.0.9');
  assert.deepEqual([gone.code, /is not banned/.test(gone.stderr)], [65, true]);
  const wrong = await ban(relay, 'add', 'example.com');
  assert.notEqual(wrong.code, 0);
  assert.match(wrong.stderr, /'example\.com'.* no address or network/);
  assert.equal((await ban(relay, 'add', '1.2.3.4', '--for', 'ever')).code, 64);
});

test('logins that fail ban the client; who logged in is exempt', async (t) => {
  const relay = await start(t, {
    listeners: [{ host: '127.0.0.1', port: 0, auth: 'optional' }],
    auth: {
      backends: [{ type: 'memory', users: [{ username: 'alice', password: 'right' }] }],
      allow_without_tls: true,
      failure_delay_ms: 0,
    },
    policy: { bans: { mode: 'reject', max_failures: { auth: 2 } }, greylist: { enabled: true } },
  });
  const login = (password: string): string =>
    `AUTH PLAIN ${Buffer.from(`\0alice\0${password}`).toString('base64')}`;
  const MAIL = 'MAIL FROM:<alice@there.net>';
  assert.match(await talk(relay, '127.0.0.5', MAIL, RCPT), /^451 4\.7\.1 Greylisted/);
  assert.equal(await talk(relay, '127.0.0.5', login('right'), MAIL, RCPT), '250 2.1.5 Ok');
  for (const password of ['a', 'b', 'c'])
    assert.match(await talk(relay, '127.0.0.6', login(password)), /^535 /);
  assert.match(await talk(relay, '127.0.0.6', login('right')), /^554 5\.7\.1 /);
  assert.deepEqual(
    (await bansOf(relay)).map(({ network, kind }) => [network, kind]),
    [['127.0.0.6', 'auth']],
  );
});

test('a PROXY header in pieces, from a listed address; connection limits count the client behind it', async (t) => {
  const relay = await start(t, {
    policy: {
      connections: { enabled: true, max_per_ip: 2, max_per_network: 0 },
      proxy_protocol: { networks: ['127.0.0.7'], timeout_ms: 500 },
    },
  });
  const begin = (bytes: Buffer[]): Promise<string> =>
    new Promise((resolve) => {
      const socket = connect({ ...from(relay, '127.0.0.7'), noDelay: true });
      socket.on('data', (data) => resolve(data.toString('latin1')));
      socket.on('close', () => resolve('<closed>'));
      socket.on('error', () => {});
      const write = async (): Promise<void> => {
        for (const part of bytes) {
          socket.write(part);
          await delay(5);
        }
      };
      socket.on('connect', () => void write());
      t.after(() => socket.destroy());
    });
  const header = Buffer.from('PROXY TCP4 198.51.100.1 198.51.100.2 1 25\r\n');
  assert.match(await begin([header]), /^220 /);
  assert.match(await begin([...header].map((byte) => Buffer.from([byte]))), /^220 /);
  assert.match(await begin([header]), /^421 4\.7\.0 .*from your address/);
  const v2 = Buffer.concat([
    Buffer.from('\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c', 'latin1'),
    Buffer.from([198, 51, 100, 9, 1, 2, 3, 4, 0, 1, 0, 25]),
  ]);
  assert.match(await begin([Buffer.concat([v2, Buffer.from('EHLO a.b\r\n')])]), /^220 .*\r\n(250-|$)/);
  assert.equal(await begin([Buffer.from('EHLO a.b\r\n')]), '<closed>');
  assert.equal(await begin([header.subarray(0, 20)]), '<closed>', 'timeout_ms');
  assert.equal(await begin([]), '<closed>');
});
