/** Deliveries over TLS to a scripted peer: every mode, every kind of certificate, every way to fail. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { makeSelfSigned, type TlsSetup } from '../../src/native.ts';
import { Authority, lacksOpenssl } from '../support/authority.ts';
import type { ScriptedSink, SinkOptions, SinkTls } from '../support/scripted-sink.ts';
import { clientTls, fates, type Harness, outcomeOf, startSender, startSink } from './harness.ts';

const skip = lacksOpenssl;
const authority = skip === false ? new Authority() : (undefined as unknown as Authority);
after(() => authority?.remove());
const good = skip === false ? authority.issue(['localhost', '127.0.0.1']) : { cert: '', key: '' };

const slotOf = (over: Partial<TlsSetup> = {}): number => clientTls(authority.ca, over);

interface Setting {
  mode?: string;
  tls?: SinkTls;
  sink?: SinkOptions;
  hop?: object;
  delivery?: object;
  rules?: object;
  setup?: Partial<TlsSetup>;
}

async function start({ mode, tls, sink: options, hop, delivery, rules, setup }: Setting): Promise<{
  sink: ScriptedSink;
  harness: Harness;
}> {
  const sink = await startSink({ tls: { cert: good.cert, key: good.key, ...tls }, ...options });
  const smarthost = { host: 'localhost', port: sink.port, ...hop };
  const harness = startSender(
    {
      delivery: {
        smarthost,
        ip_family: 'ipv4',
        tls: { ...(mode === undefined ? {} : { mode }), ...rules },
        ...delivery,
      } as never,
    },
    undefined,
    slotOf(setup),
  );
  return { sink, harness };
}

const JOB = { recipients: ['a@x.test'] };
const detailOf = (outcome: ReturnType<typeof outcomeOf>): string =>
  outcome.kind === 'delivered' ? '' : outcome.detail;

test('by default TLS is used where it is offered, and the result says which', { skip }, async () => {
  const { sink, harness } = await start({});
  const result = await harness.attempt({ ...JOB, content: `${'z'.repeat(70)}\r\n`.repeat(5000) });
  assert.deepEqual(fates(result), ['delivered']);
  assert.deepEqual(sink.handshakes, ['TLSv1.3 localhost']);
  assert.equal(result.tls?.version, 'TLSv1.3');
  assert.equal(result.tls?.verified, true);
  assert.equal(sink.messages[0]?.content.length, 72 * 5000 + 'Received: from test\r\n'.length);
  assert.deepEqual(sink.commands.slice(0, 3), ['1: EHLO relay.test', '1: STARTTLS', '1: EHLO relay.test']);
  harness.stop();
});

test('mode none never asks for it; a peer without it gets mail in the clear', { skip }, async () => {
  for (const setting of [{ mode: 'none' }, { tls: { hidden: true } }]) {
    const { sink, harness } = await start(setting);
    const result = await harness.attempt(JOB);
    assert.deepEqual(fates(result), ['delivered']);
    assert.equal(result.tls, undefined);
    assert.ok(!sink.commands.some((line) => line.includes('STARTTLS')));
    harness.stop();
  }
});

test('required and verify defer when STARTTLS is stripped or refused', { skip }, async () => {
  for (const mode of ['required', 'verify'])
    for (const tls of [{ hidden: true }, { reply: '454 4.7.0 not now' }, { reply: '502 5.5.1 what?' }]) {
      const { sink, harness } = await start({ mode, tls });
      const result = await harness.attempt(JOB);
      assert.deepEqual(fates(result), ['deferred tls_failed']);
      assert.match(detailOf(outcomeOf(result)), /STARTTLS/);
      assert.equal(sink.messages.length, 0);
      assert.ok(!sink.commands.some((line) => line.includes('MAIL')));
      harness.stop();
    }
});

test('opportunistic goes on in the clear on the same connection when STARTTLS is refused', {
  skip,
}, async () => {
  const { sink, harness } = await start({ tls: { reply: '454 4.7.0 not now' } });
  assert.deepEqual(fates(await harness.attempt(JOB)), ['delivered']);
  assert.equal(sink.connections, 1);
  harness.stop();
});

test('verify takes a good certificate and refuses each kind of bad one; others say what it is worth', {
  skip,
}, async () => {
  const revoked = authority.issue(['localhost']);
  authority.revoke(revoked.certFile);
  const crl = authority.crl();
  const self = new Authority();
  const stranger = self.issue(['localhost']);
  const own = makeSelfSigned(['localhost'], 5, 'rsa');
  const cases: [string, { cert: string; key: string }, RegExp | null][] = [
    ['good', good, null],
    ['expired', authority.issue(['localhost'], { expired: true }), /expired/],
    ['mismatched', authority.issue(['elsewhere.test']), /hostname mismatch/],
    ['unknown issuer', stranger, /unable to get local issuer|self-signed/],
    ['self-signed', { cert: own.certificate, key: own.key }, /self-signed/],
    ['revoked', revoked, /revoked/],
  ];
  for (const [name, { cert, key }, problem] of cases) {
    for (const mode of ['verify', 'required', 'opportunistic']) {
      const { sink, harness } = await start({ mode, tls: { cert, key }, setup: { crl } });
      const result = await harness.attempt(JOB);
      if (problem !== null && mode === 'verify') {
        assert.deepEqual(fates(result), ['deferred tls_failed'], name);
        assert.match(detailOf(outcomeOf(result)), problem);
        assert.equal(sink.messages.length, 0);
      } else {
        assert.deepEqual(fates(result), ['delivered'], `${name} ${mode}`);
        assert.equal(result.tls?.verified, problem === null);
      }
      harness.stop();
    }
  }
  self.remove();
});

test('a name other than the host’s can be asked for and verified; an address is verified as one', {
  skip,
}, async () => {
  const other = authority.issue(['mail.elsewhere.test']);
  const named = await start({
    mode: 'verify',
    tls: other,
    hop: { tls: { implicit: false, server_name: 'mail.elsewhere.test' } },
  });
  assert.deepEqual(fates(await named.harness.attempt(JOB)), ['delivered']);
  assert.deepEqual(named.sink.handshakes, ['TLSv1.3 mail.elsewhere.test']);
  named.harness.stop();
  const byAddress = await start({ mode: 'verify', hop: { host: '127.0.0.1' } });
  assert.deepEqual(fates(await byAddress.harness.attempt(JOB)), ['delivered']);
  assert.deepEqual(byAddress.sink.handshakes, ['TLSv1.3 -']);
  byAddress.harness.stop();
});

test('a destination’s own mode wins over its next hop’s, that one over the general one', {
  skip,
}, async () => {
  const self = new Authority();
  const bad = self.issue(['localhost']);
  const sink = await startSink({ tls: bad });
  const hop = { host: 'localhost', port: sink.port };
  const harness = startSender(
    {
      delivery: {
        ip_family: 'ipv4',
        routes: {
          'own.test': { ...hop, tls: { mode: 'required', implicit: false } },
          'both.test': { ...hop, tls: { mode: 'verify', implicit: false } },
          'plain.test': hop,
        },
        tls: { mode: 'verify', destinations: { 'both.test': { mode: 'none' } } },
      } as never,
    },
    undefined,
    slotOf(),
  );
  const fate = async (domain: string) =>
    fates(await harness.attempt({ recipients: [`a@${domain}`], destination: domain }));
  assert.deepEqual(await fate('own.test'), ['delivered']);
  assert.deepEqual(await fate('both.test'), ['delivered']);
  assert.deepEqual(await fate('plain.test'), ['deferred tls_failed']);
  assert.equal(sink.messages.length, 2);
  harness.stop();
  self.remove();
});

test('TLS from the first byte', { skip }, async () => {
  const { sink, harness } = await start({
    tls: { implicit: true },
    hop: { tls: { mode: 'verify', implicit: true } },
  });
  assert.deepEqual(fates(await harness.attempt(JOB)), ['delivered']);
  assert.deepEqual(sink.commands.slice(0, 2), ['1: EHLO relay.test', sink.commands[1]]);
  assert.ok(!sink.commands.some((line) => line.includes('STARTTLS')));
  harness.stop();
  const plain = await start({ tls: { hidden: true }, hop: { tls: { implicit: true } } });
  const result = await plain.harness.attempt(JOB);
  assert.deepEqual(fates(result), ['deferred tls_failed']);
  assert.equal(plain.sink.connections, 1, 'no plain retry');
  plain.harness.stop();
});

test('a failed opportunistic handshake is followed by a connection without, and the host is remembered for a while', {
  skip,
}, async () => {
  for (const fault of ['garbage', 'drop', Buffer.from([0x15, 3, 3, 0, 2, 2, 40])] as const) {
    const rules = { broken_host_ttl_ms: 60_000 };
    const { sink, harness } = await start({ tls: { fault }, rules, delivery: { idle_connection_ms: 0 } });
    const result = await harness.attempt(JOB);
    assert.deepEqual(fates(result), ['delivered'], String(fault));
    assert.equal(result.tls, undefined);
    assert.equal(sink.connections, 2);
    assert.deepEqual(fates(await harness.attempt(JOB)), ['delivered']);
    const asked = () => sink.commands.filter((line) => line.includes('STARTTLS')).length;
    assert.equal(asked(), 1, 'not asked again');
    harness.clockOffsetMs = 120_000;
    assert.deepEqual(fates(await harness.attempt(JOB)), ['delivered']);
    assert.equal(asked(), 2, 'asked again once it is forgotten');
    harness.stop();
  }
});

test('without memory every connection tries; without plain retry the mail waits', { skip }, async () => {
  const delivery = { idle_connection_ms: 0 };
  const forgetful = await start({ tls: { fault: 'drop' }, rules: { broken_host_ttl_ms: 0 }, delivery });
  for (let i = 1; i <= 2; i++) {
    assert.deepEqual(fates(await forgetful.harness.attempt(JOB)), ['delivered']);
    assert.equal(forgetful.sink.connections, 2 * i);
  }
  forgetful.harness.stop();
  const strict = await start({ tls: { fault: 'drop' }, rules: { plain_retry: false } });
  assert.deepEqual(fates(await strict.harness.attempt(JOB)), ['deferred tls_failed']);
  strict.harness.stop();
});

test('a peer that stands still in the handshake is left after handshake_timeout_ms', { skip }, async () => {
  const { sink, harness } = await start({
    mode: 'required',
    tls: { fault: 'hang' },
    rules: { handshake_timeout_ms: 100 },
  });
  const result = await harness.attempt(JOB);
  assert.deepEqual(fates(result), ['deferred tls_failed']);
  assert.match(detailOf(outcomeOf(result)), /no handshake in time/);
  assert.equal(sink.connections, 1);
  harness.stop();
});

test('replies injected in the clear behind the 220 count for nothing', { skip }, async () => {
  const injected = '\r\n250-evil\r\n250-SIZE 1\r\n250 AUTH\r\n250 2.1.0 Ok';
  const { sink, harness } = await start({ mode: 'verify', tls: { injected } });
  assert.deepEqual(fates(await harness.attempt(JOB)), ['delivered']);
  assert.deepEqual(sink.violations, []);
  assert.equal(sink.handshakes.length, 1);
  harness.stop();
});

test('the next connection resumes the session, and not when that is off', { skip }, async () => {
  for (const resumes of [true, false]) {
    const { sink, harness } = await start({
      mode: 'verify',
      delivery: { idle_connection_ms: 0 },
      setup: { sessionSeconds: resumes ? 1 : 0 },
    });
    const context = { ticketKeys: Buffer.alloc(48, 7) };
    Object.assign(sink.options.tls as SinkTls, context);
    for (let i = 0; i < 2; i++) {
      const result = await harness.attempt(JOB);
      assert.deepEqual(fates(result), ['delivered']);
      assert.equal(result.tls?.verified, true);
    }
    assert.deepEqual(sink.handshakes, [
      'TLSv1.3 localhost',
      resumes ? 'TLSv1.3 localhost resumed' : 'TLSv1.3 localhost',
    ]);
    harness.stop();
  }
});

test('a host that asks for a certificate is shown ours', { skip }, async () => {
  const own = authority.issue(['relay.test']);
  const { sink, harness } = await start({
    tls: { requestCert: true, ca: authority.ca },
    setup: { certificates: [{ chain: own.cert, key: own.key }] },
  });
  assert.deepEqual(fates(await harness.attempt(JOB)), ['delivered']);
  assert.deepEqual(sink.handshakes, ['TLSv1.3 localhost relay.test']);
  harness.stop();
});

test('a peer that speaks only what is too old gets no mail where TLS is required', { skip }, async () => {
  const { sink, harness } = await start({
    mode: 'required',
    tls: { maxVersion: 'TLSv1.2' },
    setup: { minVersion: 'TLSv1.3' },
  });
  assert.deepEqual(fates(await harness.attempt(JOB)), ['deferred tls_failed']);
  assert.equal(sink.messages.length, 0);
  harness.stop();
});

test('many messages over few connections, pipelined and large ones between', { skip }, async () => {
  const { sink, harness } = await start({ mode: 'verify' });
  const jobs = Array.from({ length: 60 }, (_, i) => ({
    recipients: [`a${i}@x.test`],
    content: `Subject: ${i}\r\n\r\n${`.${'q'.repeat(60)}\r\n`.repeat(i % 7 === 0 ? 8000 : 3)}`,
  }));
  const results = await harness.attemptAll(jobs);
  assert.ok(results.every((result) => fates(result)[0] === 'delivered'));
  assert.deepEqual(sink.violations, []);
  const bodies = new Set(
    sink.messages.map(({ content }) => content.toString().replace(/^Received.*\r\n/, '')),
  );
  for (const { content } of jobs) assert.ok(bodies.has(content));
  harness.stop();
});
