import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createConnection, createServer } from 'node:net';
import { after, before, test } from 'node:test';
import { listen } from '../../src/native.ts';
import type { ScriptedSink, SinkOptions } from '../support/scripted-sink.ts';
import { fates, type Harness, outcomeOf, startSender, startSink } from './harness.ts';

let sink: ScriptedSink;
let harness: Harness;

before(async () => {
  sink = await startSink();
  harness = startSender({
    delivery: {
      smarthost: { host: '127.0.0.1', port: sink.port },
      command_timeout_ms: 150,
      data_timeout_ms: 150,
      final_reply_timeout_ms: 150,
      suspend_after_failures: 1000,
      no_pipelining_ttl_ms: 0,
    },
    dsn: { delay_after_ms: 0 },
  });
});

after(async () => {
  harness.stop();
  await sink.stop();
});

/** Fate of one recipient when its address (or the reverse-path, for the stage mail) asks for a fault. */
const MALFORMED = 'deferred connection_lost, or timeout where one reply is awaited';
const CASES: [address: string, fate: string, detail: RegExp][] = [
  ['451-at-mail', 'deferred peer_4xx', /^451 4\.7\.1/],
  ['550-at-mail', 'bounced peer_5xx', /^550 5\.7\.1/],
  ['421-at-mail', 'deferred peer_4xx', /^421 /],
  ['drop-at-mail', 'deferred connection_lost', /closed the connection/],
  ['hang-at-mail', 'deferred timeout', /no reply to MAIL in time/],
  ['garbage-at-mail', MALFORMED, /malformed/],
  ['354-at-mail', 'deferred connection_lost', /out of turn to MAIL/],
  ['451-at-rcpt', 'deferred peer_4xx', /^451 4\.7\.1/],
  ['550-at-rcpt', 'bounced peer_5xx', /^550 5\.7\.1/],
  ['252-at-rcpt', 'delivered', /./],
  ['421-at-rcpt', 'deferred peer_4xx', /^421 /],
  ['drop-at-rcpt', 'deferred connection_lost', /closed the connection/],
  ['hang-at-rcpt', 'deferred timeout', /no reply to RCPT in time/],
  ['garbage-at-rcpt', MALFORMED, /malformed/],
  ['wide-at-rcpt', 'delivered', /./],
  ['long-at-rcpt', 'delivered', /./],
  ['451-at-data', 'deferred peer_4xx', /^451 4\.7\.1/],
  ['554-at-data', 'bounced peer_5xx', /^554 5\.7\.1/],
  ['421-at-data', 'deferred peer_4xx', /^421 /],
  ['250-at-data', 'deferred connection_lost', /out of turn to DATA/],
  ['drop-at-data', 'deferred connection_lost', /closed the connection/],
  ['hang-at-data', 'deferred timeout', /no reply to DATA in time/],
  ['drop-in-content', 'deferred connection_lost', /closed the connection/],
  ['451-at-dot', 'deferred peer_4xx', /^451 4\.7\.1/],
  ['554-at-dot', 'bounced peer_5xx', /^554 5\.7\.1/],
  ['421-at-dot', 'deferred peer_4xx', /^421 /],
  ['drop-at-dot', 'deferred connection_lost', /closed the connection/],
  ['hang-at-dot', 'deferred timeout', /no reply to the end of data in time/],
  ['garbage-at-dot', 'deferred timeout', /malformed/],
  ['shut-at-dot', 'delivered', /./],
];

for (const pipelining of [true, false]) {
  test(`the peer ${pipelining ? 'offers' : 'lacks'} PIPELINING from here on`, () => {
    sink.options.capabilities = pipelining ? ['PIPELINING', 'ENHANCEDSTATUSCODES'] : [];
    // Open connections know the old EHLO reply.
    harness.sender.reconfigure(harness.config);
  });

  for (const [local, listed, detail] of CASES) {
    const ahead = pipelining ? 'deferred connection_lost' : 'deferred timeout';
    const fate = listed === MALFORMED ? ahead : listed;
    test(`${local}${pipelining ? '' : ' without PIPELINING'}: ${fate}`, async () => {
      const address = `${local}+${pipelining}@x.test`;
      const atMail = local.endsWith('mail');
      const before = sink.messages.length;
      const result = await harness.attempt({
        from: atMail ? address : 'sender@from.test',
        recipients: [atMail ? 'ok@x.test' : address],
      });
      assert.deepEqual(fates(result), [fate]);
      assert.equal(result.attempts, 1);
      const outcome = outcomeOf(result);
      if (outcome.kind !== 'delivered') assert.match(outcome.detail, detail);
      // What we call delivered was accepted, and the other way round (I3).
      assert.equal(sink.messages.length - before, fate === 'delivered' ? 1 : 0);
      // Whatever happened, the next message goes through.
      const next = await harness.attempt({ recipients: [`after-${local}@x.test`] });
      assert.deepEqual(fates(next), ['delivered']);
      assert.deepEqual(sink.violations, []);
    });
  }
}

test('recipients of one transaction each meet the fate their own reply says', async () => {
  sink.options.capabilities = ['PIPELINING'];
  harness.sender.reconfigure(harness.config);
  const recipients = ['a@x.test', 'defer-451@x.test', 'b@x.test', 'bounce-550@x.test', 'defer-450@x.test'];
  const result = await harness.attempt({ recipients });
  assert.deepEqual(fates(result), [
    'delivered',
    'deferred peer_4xx',
    'delivered',
    'bounced peer_5xx',
    'deferred peer_4xx',
  ]);
  const accepted = sink.messages.at(-1)?.recipients.map(({ address }) => address);
  assert.deepEqual(accepted, ['a@x.test', 'b@x.test']);
});

test('when every recipient is refused and DATA is too, RSET comes before the next MAIL', async () => {
  for (const capabilities of [['PIPELINING'], []]) {
    sink.options.capabilities = capabilities;
    harness.sender.reconfigure({
      ...harness.config,
      delivery: { ...harness.config.delivery, max_connections_per_destination: 1 },
    });
    const from = sink.commands.length;
    const results = await harness.attemptAll([
      { recipients: ['bounce-550@x.test', 'bounce-551@x.test'] },
      { recipients: ['fine@x.test'] },
    ]);
    assert.deepEqual(results.flatMap(fates), ['bounced peer_5xx', 'bounced peer_5xx', 'delivered']);
    const commands = sink.commands.slice(from).map((line) => line.replace(/^\d+: (\w+).*/, '$1'));
    assert.equal(commands.includes('RSET'), true);
    assert.deepEqual(sink.violations, []);
  }
});

test('when every recipient is refused but DATA is taken, an empty end of data follows and nothing is recorded', async () => {
  sink.options.capabilities = ['PIPELINING'];
  sink.options.emptyData = '354';
  const before = sink.messages.length;
  const results = await harness.attemptAll([
    { recipients: ['bounce-550+empty@x.test'] },
    { recipients: ['fine+empty@x.test'] },
  ]);
  assert.deepEqual(results.flatMap(fates), ['bounced peer_5xx', 'delivered']);
  assert.equal(sink.messages.length, before + 1);
  assert.deepEqual(sink.violations, []);
  delete sink.options.emptyData;
  harness.sender.reconfigure(harness.config);
});

test('a MAIL that is refused bounces every recipient, those beyond the first transaction too', async () => {
  sink.options.capabilities = ['PIPELINING'];
  const limited = startSender({
    delivery: { ...harness.config.delivery, max_recipients_per_transaction: 2 },
  });
  const result = await limited.attempt({
    from: '550-at-mail+all@x.test',
    recipients: ['a@x.test', 'b@x.test', 'c@x.test', 'd@x.test', 'e@x.test'],
  });
  assert.deepEqual(new Set(fates(result)), new Set(['bounced peer_5xx']));
  assert.equal(result.groups.length, 1);
  limited.stop();
});

const GREETINGS: [name: string, options: SinkOptions, fate: string, detail: RegExp][] = [
  ['a 421 greeting', { greeting: '421 4.3.2 busy' }, 'deferred peer_4xx', /^421 4\.3\.2 busy/],
  ['a 450 greeting', { greeting: '450 not now' }, 'deferred peer_4xx', /^450 not now/],
  ['a 554 greeting', { greeting: '554 no mail here' }, 'deferred peer_refused', /^554 no mail here/],
  ['a 521 greeting', { greeting: '521 no mail here ever' }, 'bounced peer_5xx', /^521 no mail here ever/],
  ['a greeting that is none', { greeting: 'HTTP/1.1 400 Bad Request' }, 'deferred timeout', /malformed/],
  ['a 250 greeting', { greeting: '250 hello' }, 'delivered', /./],
  ['a 354 greeting', { greeting: '354 hello' }, 'deferred connection_lost', /out of turn/],
  ['no greeting', { greeting: 'hang' }, 'deferred timeout', /no greeting in time/],
  ['a connection closed at once', { greeting: 'drop' }, 'deferred connection_lost', /closed/],
  ['EHLO answered 451', { ehlo: '451 4.3.0 later' }, 'deferred peer_4xx', /^451 4\.3\.0 later/],
  [
    'EHLO and HELO refused',
    { ehlo: '502 what', helo: '550 go away' },
    'deferred peer_refused',
    /^550 go away/,
  ],
  ['EHLO answered with a closed connection', { ehlo: 'drop' }, 'deferred connection_lost', /closed/],
  ['no reply to EHLO', { ehlo: 'hang' }, 'deferred timeout', /no reply to EHLO in time/],
];

for (const [name, options, fate, detail] of GREETINGS) {
  test(`${name}: ${fate}`, async () => {
    const strange = await startSink(options);
    const other = startSender({
      delivery: { ...harness.config.delivery, smarthost: { host: '127.0.0.1', port: strange.port } },
    });
    const result = await other.attempt({ recipients: ['a@x.test'] });
    assert.deepEqual(fates(result), [fate]);
    const outcome = outcomeOf(result);
    if (outcome.kind !== 'delivered') assert.match(outcome.detail, detail);
    other.stop();
    await strange.stop();
  });
}

test('EHLO answered 5xx falls back to HELO and sends no parameters', async () => {
  const old = await startSink({ ehlo: '502 5.5.1 unknown' });
  const other = startSender({
    delivery: { ...harness.config.delivery, smarthost: { host: '127.0.0.1', port: old.port } },
  });
  const result = await other.attempt({ recipients: ['a@x.test'], body: '8BITMIME', ret: 'FULL', envid: 'x' });
  assert.deepEqual(fates(result), ['delivered']);
  assert.deepEqual(old.messages[0]?.fromParams, []);
  assert.equal(old.commands[1], '1: HELO relay.test');
  assert.deepEqual(old.violations, []);
  other.stop();
  await old.stop();
});

test('a port where nobody listens defers with connect_failed', async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  const other = startSender({ delivery: { smarthost: { host: '127.0.0.1', port } } });
  const result = await other.attempt({ recipients: ['a@x.test'] });
  assert.deepEqual(fates(result), ['deferred connect_failed']);
  const outcome = outcomeOf(result);
  assert.ok(outcome.kind === 'deferred');
  assert.match(outcome.detail, /cannot connect to \[127\.0\.0\.1\] port \d+ \(ECONNREFUSED\)/);
  assert.equal(result.attempts, 1);
  assert.equal(outcome.retryAtMs > Date.now() + 50_000, true);
  other.stop();
});

test('a host that does not answer is given up after connect_timeout_ms', async (t) => {
  // A listener that never accepts: once its queue is full, the kernel answers no further connection.
  const mute = listen({
    host: '127.0.0.1',
    port: 0,
    backlog: 1,
    listener: 0,
    batch: 1,
    onAccept: (fds) => {
      for (const fd of fds) mute.refuse(fd, '');
    },
    onError: () => {},
  });
  mute.pause();
  t.after(() => mute.close());
  const fillers = [1, 2, 3, 4].map(() => createConnection(mute.port, '127.0.0.1').on('error', () => {}));
  await Promise.all(fillers.slice(0, 2).map((socket) => once(socket, 'connect')));
  const other = startSender({
    delivery: { smarthost: { host: '127.0.0.1', port: mute.port }, connect_timeout_ms: 150 },
  });
  const result = await other.attempt({ recipients: ['a@x.test'] });
  assert.deepEqual(fates(result), ['deferred connect_failed']);
  const outcome = outcomeOf(result);
  assert.ok(outcome.kind === 'deferred');
  assert.match(outcome.detail, /ETIMEDOUT/);
  assert.ok(result.times.connectMs >= 100, `${result.times.connectMs} ms`);
  for (const socket of fillers) socket.destroy();
  other.stop();
});

test('a reply nobody asked for, on an idle connection, ends it without harm', async () => {
  const sockets: import('node:net').Socket[] = [];
  let mails = 0;
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.write('220 x\r\n');
    socket.on('data', (bytes) => {
      for (const line of bytes.toString().split('\r\n').slice(0, -1)) {
        if (line.startsWith('DATA')) socket.write('354 go\r\n');
        else if (line === '.') {
          mails++;
          socket.write('250 ok\r\n250 and another one\r\n');
        } else if (/^(EHLO|MAIL|RCPT|QUIT)/.test(line)) socket.write('250 ok\r\n');
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  const other = startSender({ delivery: { smarthost: { host: '127.0.0.1', port } } });
  assert.deepEqual(fates(await other.attempt({ recipients: ['a@x.test'] })), ['delivered']);
  assert.deepEqual(fates(await other.attempt({ recipients: ['a@x.test'] })), ['delivered']);
  assert.equal(mails, 2);
  assert.equal(sockets.length, 2);
  other.stop();
  server.close();
});

test('under a lease that lapsed no content goes out', async () => {
  const before = sink.messages.length;
  for (const capabilities of [['PIPELINING'], ['CHUNKING', 'BINARYMIME']]) {
    sink.options.capabilities = capabilities;
    const other = startSender({ delivery: { smarthost: { host: '127.0.0.1', port: sink.port } } });
    other.leasesHold = false;
    const result = await other.attempt({
      recipients: ['a@x.test', 'b@x.test'],
      attempts: 3,
      body: '8BITMIME',
    });
    assert.deepEqual(fates(result), ['deferred lease_lapsed', 'deferred lease_lapsed']);
    other.leasesHold = true;
    assert.deepEqual(fates(await other.attempt({ recipients: ['c@x.test'] })), ['delivered']);
    other.stop();
  }
  delete sink.options.capabilities;
  assert.deepEqual(
    sink.messages.slice(before).map(({ recipients }) => recipients[0]?.address),
    ['c@x.test', 'c@x.test'],
  );
});
