/** Our own trouble with TLS bounces no mail: in the clear because a handshake failed, a refusal defers and TLS is tried again. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { Authority, lacksOpenssl } from '../support/authority.ts';
import type { ScriptedSink, SinkTls } from '../support/scripted-sink.ts';
import { clientTls, fates, type Harness, outcomeOf, startSender, startSink } from './harness.ts';

const skip = lacksOpenssl;
const authority = skip === false ? new Authority() : (undefined as unknown as Authority);
after(() => authority?.remove());
const good = skip === false ? authority.issue(['localhost']) : { cert: '', key: '' };

async function start(
  tls: Partial<SinkTls>,
  mode = 'opportunistic',
  rules: object = {},
): Promise<[ScriptedSink, Harness]> {
  const sink = await startSink({ tls: { cert: good.cert, key: good.key, ...tls } });
  const smarthost = { host: 'localhost', port: sink.port };
  const delivery = { smarthost, ip_family: 'ipv4', tls: { mode }, suspend_after_failures: 100, ...rules };
  return [sink, startSender({ delivery } as never, undefined, clientTls(authority.ca))];
}

async function stop(sink: ScriptedSink, harness: Harness): Promise<void> {
  harness.stop();
  await sink.stop();
}

const JOB = { recipients: ['a@x.test'] };
const INSIST = [
  '530 5.7.0 Must issue a STARTTLS command first',
  '530 encryption required',
  '550 5.7.1 must issue STARTTLS',
  '550 5.7.10 encryption needed',
  '554 5.7.3 unable to initialize security subsystem',
  '538 5.7.11 encryption needed for that',
  '454 4.7.0 TLS not available',
  '550 no',
];

for (const stage of ['mail', 'rcpt', 'data', 'dot'] as const) {
  test(`a refusal at ${stage} in the clear, after a cut handshake, defers; the next connection tries TLS`, {
    skip,
  }, async () => {
    for (const reply of INSIST) {
      const [sink, harness] = await start({ fault: 'drop' });
      sink.options.clearFaults = { [stage]: `=${reply}` };
      const refused = await harness.attempt(JOB);
      assert.match(fates(refused)[0] as string, /^deferred (tls_failed|peer_4xx)$/, reply);
      const outcome = outcomeOf(refused);
      assert.ok(outcome.kind === 'deferred');
      assert.equal(outcome.reply?.code, Number(reply.slice(0, 3)), 'queue show has what the peer said');
      // The handshake works again, and it is tried: the mark is forgotten. (A 4xx waits for the mark to end.)
      delete (sink.options.tls as SinkTls).fault;
      if (reply.startsWith('5')) {
        assert.deepEqual(fates(await harness.attempt(JOB)), ['delivered'], reply);
        assert.equal(sink.handshakes.length, 1);
      }
      await stop(sink, harness);
    }
  });
}

test('five mails at once to a host whose handshakes fail for a while: none bounces', { skip }, async () => {
  const [sink, harness] = await start({ fault: 'garbage' });
  sink.options.clearFaults = { mail: '=530 5.7.0 Must issue a STARTTLS command first' };
  const results = await harness.attemptAll(Array.from({ length: 5 }, () => JOB));
  assert.deepEqual([...new Set(results.flatMap(fates))], ['deferred tls_failed']);
  delete (sink.options.tls as SinkTls).fault;
  const again = await harness.attemptAll(Array.from({ length: 5 }, () => JOB));
  assert.deepEqual([...new Set(again.flatMap(fates))], ['delivered']);
  await stop(sink, harness);
});

for (const afterwards of ['drop', 'reset', 'hang', 'garbage'] as const) {
  test(`a host whose TLS stands and comes to nothing (${afterwards}) gets its mail in the clear, at once and later`, {
    skip,
  }, async () => {
    const [sink, harness] = await start({ afterwards }, 'opportunistic', { command_timeout_ms: 300 });
    assert.deepEqual(fates(await harness.attempt(JOB)), ['delivered']);
    assert.deepEqual(fates(await harness.attempt(JOB)), ['delivered']);
    assert.equal(sink.handshakes.length, 1, 'it is remembered, as one whose handshake fails');
    assert.equal(sink.messages.length, 2);
    await stop(sink, harness);
    const [strict, wanting] = await start({ afterwards }, 'required', { command_timeout_ms: 300 });
    assert.match(fates(await wanting.attempt(JOB))[0] as string, /^deferred (connection_lost|timeout)$/);
    assert.equal(strict.messages.length, 0, 'never where TLS is required');
    await stop(strict, wanting);
  });
}

for (const reply of ['drop', 'hang', '421 4.7.0 TLS is broken', '354 go on', '120 wait', 'what?'])
  test(`a host that answers STARTTLS with ${JSON.stringify(reply)} gets its mail in the clear, at once and later`, {
    skip,
  }, async () => {
    const rules = { command_timeout_ms: 300 };
    const [sink, harness] = await start({ reply }, 'opportunistic', rules);
    const { connections } = sink;
    for (let i = 0; i < 2; i++) assert.deepEqual(fates(await harness.attempt(JOB)), ['delivered']);
    assert.ok(sink.connections - connections <= 3, 'it is remembered');
    assert.equal(sink.messages.length, 2);
    await stop(sink, harness);
    for (const strict of [{ tls: { mode: 'required' } }, { tls: { plain_retry: false } }]) {
      const [wanting, waiting] = await start({ reply }, 'opportunistic', { ...rules, ...strict });
      assert.match(fates(await waiting.attempt(JOB))[0] as string, /^deferred /);
      assert.equal(wanting.messages.length, 0, 'never where it must not');
      await stop(wanting, waiting);
    }
  });

test('STARTTLS refused, and then TLS insisted on: deferred', { skip }, async () => {
  for (const reply of ['454 4.7.0 TLS not available', '502 5.5.1 no', '554 5.7.0 no']) {
    const [sink, harness] = await start({ reply });
    sink.options.clearFaults = { mail: '=550 5.7.1 must issue STARTTLS' };
    assert.deepEqual(fates(await harness.attempt(JOB)), ['deferred tls_failed'], reply);
    await stop(sink, harness);
  }
});

test('a recipient that the host says does not exist bounces, in the clear or not', { skip }, async () => {
  for (const reply of ['550 5.1.1 no such user', '552 5.2.2 mailbox full']) {
    const [sink, harness] = await start({ fault: 'drop' });
    sink.options.clearFaults = { rcpt: `=${reply}` };
    assert.deepEqual(fates(await harness.attempt(JOB)), ['bounced peer_5xx']);
    await stop(sink, harness);
  }
});

test('who asks for TLS and does not get it from us by config or by a stripped offer gets it later', {
  skip,
}, async () => {
  const ask = '=530 5.7.0 Must issue a STARTTLS command first';
  const cases: [tls: Partial<SinkTls>, mode: string, reply: string, fate: string][] = [
    [{}, 'none', ask, 'deferred tls_failed'],
    [{ hidden: true }, 'opportunistic', ask, 'deferred tls_failed'],
    [{}, 'none', '=530 5.7.0 Authentication required', 'bounced peer_5xx'],
    [{}, 'none', '=550 5.7.1 not you', 'bounced peer_5xx'],
    [{}, 'opportunistic', ask, 'bounced peer_5xx'],
  ];
  for (const [tls, mode, reply, fate] of cases) {
    const [sink, harness] = await start(tls, mode);
    sink.options.faults = { mail: reply };
    assert.deepEqual(fates(await harness.attempt(JOB)), [fate], `${mode} ${reply}`);
    await stop(sink, harness);
  }
});

for (const stage of ['mail', 'rcpt', 'dot'] as const)
  for (const how of ['drop', 'hang'])
    test(`a message over TLS that comes to nothing at ${stage} (${how}) twice goes in the clear`, {
      skip,
    }, async () => {
      const rules = { command_timeout_ms: 150, final_reply_timeout_ms: 150 };
      const [sink, harness] = await start({}, 'opportunistic', rules);
      sink.options.faults = { [stage]: how };
      sink.options.clearFaults = { [stage]: '250' };
      for (const attempts of [0, 1])
        assert.match(
          fates(await harness.attempt({ ...JOB, attempts }))[0] as string,
          /^deferred/,
          `${attempts}`,
        );
      assert.equal(sink.messages.length, 0);
      assert.deepEqual(fates(await harness.attempt({ ...JOB, attempts: 2 })), ['delivered']);
      await stop(sink, harness);
    });

test('what breaks off in the clear as well is no fault of TLS: the next attempt has it again', {
  skip,
}, async () => {
  const [sink, harness] = await start({});
  sink.options.faults = { mail: 'drop' };
  const handshakes: number[] = [];
  for (let attempts = 0; attempts < 5; attempts++) {
    await harness.attempt({ ...JOB, attempts });
    handshakes.push(sink.handshakes.length);
  }
  assert.deepEqual(handshakes, [1, 2, 2, 3, 3], 'with, with, without, with, without');
  await stop(sink, harness);
});

test('where TLS is required, or a host took mail over it, a message that breaks off changes nothing', {
  skip,
}, async () => {
  const [strict, wanting] = await start({}, 'required');
  strict.options.faults = { mail: 'drop' };
  for (let attempts = 0; attempts < 4; attempts++) await wanting.attempt({ ...JOB, attempts });
  assert.equal(strict.handshakes.length, 4);
  await stop(strict, wanting);
  const [sink, harness] = await start({});
  for (let attempts = 0; attempts < 4; attempts++)
    await harness.attemptAll([JOB, { recipients: ['drop-at-dot@x.test'], attempts }]);
  assert.equal(sink.handshakes.length, sink.connections);
  await stop(sink, harness);
});
