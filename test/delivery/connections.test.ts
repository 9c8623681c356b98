import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ClientSession } from '../../src/delivery/client/session.ts';
import type { ScriptedSink, SinkOptions } from '../support/scripted-sink.ts';
import { fates, type Harness, outcomeOf, startSender, startSink } from './harness.ts';

type Delivery = Partial<Harness['config']['delivery']>;

async function withSink(
  options: SinkOptions,
  delivery: Delivery,
  work: (sink: ScriptedSink, harness: Harness) => Promise<void>,
): Promise<void> {
  const sink = await startSink(options);
  const harness = startSender({
    delivery: { smarthost: { host: '127.0.0.1', port: sink.port }, ...delivery },
  });
  try {
    await work(sink, harness);
    assert.deepEqual(sink.violations, []);
  } finally {
    harness.stop();
    await sink.stop();
  }
}

const many = (count: number) => Array.from({ length: count }, (_, i) => ({ recipients: [`u${i}@x.test`] }));
const allDelivered = (results: Parameters<typeof fates>[0][]) =>
  assert.deepEqual(new Set(results.flatMap(fates)), new Set(['delivered']));

test('a connection is reused for the next message', async () => {
  await withSink({}, {}, async (sink, harness) => {
    for (let i = 0; i < 3; i++) allDelivered([await harness.attempt({ recipients: ['a@x.test'] })]);
    assert.equal(sink.connections, 1);
  });
});

test('many messages share few connections, never more than the limit, and each arrives once', async () => {
  const delivery = { max_connections_per_destination: 4, backlog_per_connection: 10 };
  await withSink({}, delivery, async (sink, harness) => {
    allDelivered(await harness.attemptAll(many(300)));
    assert.equal(sink.peakConnections, 4);
    const seen = new Set(sink.messages.map((message) => message.recipients[0]?.address));
    assert.equal(sink.messages.length, 300);
    assert.equal(seen.size, 300);
  });
});

for (const [count, backlog_per_connection, most] of [
  [50, 50, 1],
  [50, 20, 3],
  [12, 3, 4],
] as const)
  test(`${count} messages open ${most} connections at most where backlog_per_connection is ${backlog_per_connection}`, async () => {
    const delivery = {
      backlog_per_connection,
      backlog_wait_ms: 3_600_000,
      max_connections_per_destination: 50,
    };
    await withSink({ delays: { greeting: 20, dot: 2 } }, delivery, async (sink, harness) => {
      allDelivered(await harness.attemptAll(many(count)));
      assert.ok(sink.connections <= most, `${sink.connections} connections`);
    });
  });

test('few messages that wait longer than backlog_wait_ms get a further connection', async () => {
  const delivery = { backlog_per_connection: 50, backlog_wait_ms: 1000 };
  await withSink({}, delivery, async (sink, harness) => {
    const delivered = () => harness.results.filter((result) => fates(result)[0] === 'delivered').length;
    const fire = (afterMs: number) => {
      harness.clockOffsetMs = afterMs;
      const [timer, ...others] = harness.timers.splice(0);
      assert.equal(timer?.ms, 1000);
      assert.deepEqual(others, [], 'one timer, however many wait');
      timer.fire();
    };
    const jobs = [{ recipients: ['hang-at-rcpt@x.test'] }, ...many(5)].map((input) => harness.job(input));
    harness.sender.accept(jobs);
    await sink.until(() => sink.commands.some((command) => command.includes('hang-at-rcpt')));
    // Not yet.
    fire(-60_000);
    assert.equal(delivered(), 0);
    fire(1001);
    await harness.until(() => delivered() === 5);
    assert.equal(sink.connections, 2);
  });
});

test('max_messages_per_connection ends a connection with QUIT', async () => {
  const delivery = { max_messages_per_connection: 5, max_connections_per_destination: 1 };
  await withSink({}, delivery, async (sink, harness) => {
    allDelivered(await harness.attemptAll(many(20)));
    assert.equal(sink.connections, 4);
    await sink.until(() => sink.commands.filter((line) => line.endsWith('QUIT')).length === 4);
  });
});

test('a message with more transactions than a connection may carry goes on over the next one', async () => {
  const delivery = { max_messages_per_connection: 2, max_recipients_per_transaction: 3 };
  await withSink({}, delivery, async (sink, harness) => {
    const recipients = Array.from({ length: 13 }, (_, i) => `u${i}@x.test`);
    const result = await harness.attempt({ recipients });
    allDelivered([result]);
    assert.equal(result.attempts, 1);
    assert.equal(sink.messages.length, 5);
    assert.equal(sink.connections, 3);
  });
});

test('an idle connection is closed with QUIT after idle_connection_ms', async () => {
  await withSink({}, { idle_connection_ms: 30 }, async (sink, harness) => {
    await harness.attempt({ recipients: ['a@x.test'] });
    await sink.until(() => sink.commands.at(-1)?.endsWith('QUIT') === true);
    await sink.until(() => sink.open.size === 0);
  });
});

test('idle_connection_ms 0 keeps no connection', async () => {
  await withSink({}, { idle_connection_ms: 0 }, async (sink, harness) => {
    await harness.attempt({ recipients: ['a@x.test'] });
    await sink.until(() => sink.open.size === 0);
    await harness.attempt({ recipients: ['b@x.test'] });
    assert.equal(sink.connections, 2);
  });
});

test('a connection closed by the peer while idle costs no attempt', async () => {
  await withSink({}, {}, async (sink, harness) => {
    await harness.attempt({ recipients: ['a@x.test'] });
    sink.dropAll();
    const result = await harness.attempt({ recipients: ['b@x.test'] });
    allDelivered([result]);
    assert.equal(result.attempts, 1);
    assert.equal(sink.connections, 2);
  });
});

for (const how of ['close', '421'] as const) {
  test(`a peer that ends a connection after 2 messages (${how}) gets the rest over others, uncounted`, async () => {
    const options: SinkOptions = { maxMessages: 2, atMaxMessages: how };
    await withSink(options, { max_connections_per_destination: 1 }, async (sink, harness) => {
      const results = await harness.attemptAll(many(9));
      allDelivered(results);
      assert.equal(
        results.every(({ attempts }) => attempts === 1),
        true,
      );
      assert.equal(sink.messages.length, 9);
      assert.equal(new Set(sink.messages.map((message) => message.recipients[0]?.address)).size, 9);
    });
  });
}

test('on a busy connection the next envelope follows the content, and nobody is mixed up', async () => {
  const delivery = { max_connections_per_destination: 1 };
  await withSink({ keepContent: true }, delivery, async (sink, harness) => {
    const inputs = Array.from({ length: 60 }, (_, i) => ({
      recipients: i % 7 === 3 ? ['bounce-550@x.test', `u${i}@x.test`] : [`u${i}@x.test`],
      content: `X-Number: ${i}\r\n\r\nbody ${i}\r\n`,
    }));
    const results = await harness.attemptAll(inputs);
    results.forEach((result, i) => {
      assert.deepEqual(fates(result), i % 7 === 3 ? ['bounced peer_5xx', 'delivered'] : ['delivered']);
    });
    for (const message of sink.messages) {
      const number = /X-Number: (\d+)/.exec(message.content.toString())?.[1];
      assert.equal(message.recipients[0]?.address, `u${number}@x.test`);
    }
    assert.equal(sink.connections, 1);
  });
});

test('faults amid a busy connection strike only the message they belong to', async () => {
  const kinds = ['ok', '451-at-dot', 'drop-at-dot', '554-at-data', 'drop-at-rcpt', '421-at-dot', 'ok', 'ok'];
  await withSink(
    {},
    { max_connections_per_destination: 2, suspend_after_failures: 1000 },
    async (sink, harness) => {
      const inputs = Array.from({ length: 80 }, (_, i) => ({
        recipients: [`${kinds[i % kinds.length]}+${i}@x.test`],
      }));
      const results = await harness.attemptAll(inputs);
      const expected: Record<string, string> = {
        ok: 'delivered',
        '451-at-dot': 'deferred peer_4xx',
        'drop-at-dot': 'deferred connection_lost',
        '554-at-data': 'bounced peer_5xx',
        'drop-at-rcpt': 'deferred connection_lost',
        '421-at-dot': 'deferred peer_4xx',
      };
      results.forEach((result, i) => {
        const kind = kinds[i % kinds.length] as string;
        assert.deepEqual(fates(result), [expected[kind]], `message ${i} (${kind})`);
      });
      const ok = inputs.filter(({ recipients }) => recipients[0]?.startsWith('ok')).length;
      assert.equal(sink.messages.length, ok);
    },
  );
});

test('connections that fail one after another suspend the destination, twice as long each time', async () => {
  await withSink(
    { greeting: 'drop' },
    { suspend_after_failures: 3, suspend_ms: 60_000 },
    async (sink, harness) => {
      const started = Date.now();
      const results = await harness.attemptAll(many(10));
      const reasons = results.flatMap(fates);
      assert.equal(reasons.filter((fate) => fate === 'deferred connection_lost').length, 3);
      assert.equal(reasons.filter((fate) => fate === 'deferred destination_suspended').length, 7);
      assert.equal(sink.connections, 3);
      const suspended = results.find((result) => fates(result)[0] === 'deferred destination_suspended');
      assert.ok(suspended);
      const outcome = outcomeOf(suspended);
      assert.ok(outcome.kind === 'deferred');
      assert.equal(outcome.retryAtMs >= started + 60_000, true);
      assert.equal(suspended.attempts, 0, 'not an attempt: no peer was asked');
      const message = harness.posted.find((one) => one.type === 'destination');
      assert.ok(message?.type === 'destination');
      assert.equal(message.destination, 'smarthost');
      assert.equal(message.suspendedUntilMs >= started + 60_000, true);

      // While suspended nothing is tried.
      assert.deepEqual(fates(await harness.attempt({ recipients: ['a@x.test'] })), [
        'deferred destination_suspended',
      ]);
      assert.equal(sink.connections, 3);

      // After it one try; it fails, and the time doubles.
      harness.clockOffsetMs = 61_000;
      assert.deepEqual(fates(await harness.attempt({ recipients: ['a@x.test'] })), [
        'deferred connection_lost',
      ]);
      assert.equal(sink.connections, 4);
      const second = harness.posted.filter((one) => one.type === 'destination').at(-1);
      assert.ok(second?.type === 'destination');
      assert.equal(second.suspendedUntilMs >= started + 61_000 + 120_000, true);

      // The peer is back.
      harness.clockOffsetMs = 61_000 + 121_000;
      sink.options.greeting = '220 back';
      allDelivered(await harness.attemptAll(many(5)));
    },
  );
});

test('a suspended destination that is resumed is tried at once', async () => {
  await withSink(
    { greeting: 'drop' },
    { suspend_after_failures: 1, suspend_ms: 60_000 },
    async (sink, harness) => {
      assert.deepEqual(fates(await harness.attempt({ recipients: ['a@x.test'] })), [
        'deferred connection_lost',
      ]);
      sink.options.greeting = '220 back';
      assert.deepEqual(fates(await harness.attempt({ recipients: ['a@x.test'] })), [
        'deferred destination_suspended',
      ]);
      harness.sender.resume(['smarthost', 'unknown.test']);
      assert.deepEqual(fates(await harness.attempt({ recipients: ['a@x.test'] })), ['delivered']);
    },
  );
});

test('a peer that grants fewer connections than we want keeps the ones it has, and nothing is deferred', async () => {
  const sink = await startSink({ delays: { dot: 5 } });
  const harness = startSender({
    delivery: {
      smarthost: { host: '127.0.0.1', port: sink.port },
      backlog_per_connection: 1,
      suspend_after_failures: 1,
    },
  });
  void sink
    .until(() => sink.open.size === 2)
    .then(() => {
      sink.options.greeting = '421 4.7.0 too many connections';
    });
  allDelivered(await harness.attemptAll(many(60)));
  assert.equal(
    harness.posted.some((one) => one.type === 'destination'),
    false,
  );
  harness.stop();
  await sink.stop();
});

test('max_connections holds over all destinations; one that waits gets its turn', async () => {
  const sink = await startSink();
  const hop = { host: '127.0.0.1', port: sink.port };
  const names = Array.from({ length: 12 }, (_, i) => `d${i}.test`);
  const harness = startSender({
    delivery: { routes: Object.fromEntries(names.map((name) => [name, hop])), max_connections: 3 },
  });
  // What the sink sees ends later than what we closed.
  const sessions: ClientSession[] = [];
  let most = 0;
  const connect = harness.sender.connect.bind(harness.sender);
  harness.sender.connect = (...where) => {
    const session = connect(...where);
    if (session !== null) sessions.push(session);
    most = Math.max(most, sessions.filter(({ connected }) => connected).length);
    return session;
  };
  const results = await harness.attemptAll(
    names.flatMap((destination) => many(5).map((job) => ({ ...job, destination }))),
  );
  allDelivered(results);
  assert.equal(most, 3);
  assert.equal(sink.messages.length, 60);
  harness.stop();
  await sink.stop();
});

for (const max_connections of [1, 2])
  test(`however many destinations wait for one of ${max_connections} connections, all get theirs, and few ask in vain`, {
    timeout: 60_000,
  }, async () => {
    const names = Array.from({ length: 60 }, (_, i) => `d${i}.test`);
    await withSink({}, {}, async ({ port }) => {
      // Some lead nowhere: the place they do not use is for the next.
      const hopOf = (i: number) => ({ host: i % 4 === 0 ? 'nowhere.invalid' : '127.0.0.1', port });
      const routes = Object.fromEntries(names.map((name, i) => [name, hopOf(i)]));
      const harness = startSender({ delivery: { routes, max_connections } });
      const route = harness.sender.route.bind(harness.sender);
      let asked = 0;
      harness.sender.route = (key) => {
        asked++;
        return route(key);
      };
      const jobs = names.map((destination) => ({ recipients: ['a@x.test'], destination }));
      const results = await harness.attemptAll(jobs);
      assert.equal(results.flatMap(fates).filter((fate) => fate === 'delivered').length, 45);
      assert.ok(asked <= 3 * names.length, `${asked} routes for ${names.length} destinations`);
      harness.stop();
    });
  });

const GREEDY: [what: string, options: SinkOptions, delivery: Delivery][] = [
  ['whose connections are used up', {}, { max_messages_per_connection: 3 }],
  ['whose host ends each connection', { maxMessages: 1, atMaxMessages: 'close' }, {}],
  ['that is silent', { greeting: 'hang' }, { command_timeout_ms: 100 }],
  ['that hangs up', { greeting: 'drop' }, {}],
  ['that refuses every message', { faults: { mail: '421' } }, {}],
];
for (const [what, options, delivery] of GREEDY)
  test(`a destination ${what} dials behind those that wait for a connection`, {
    timeout: 60_000,
  }, async () => {
    const greedy = await startSink(options);
    await withSink({}, {}, async ({ port, messages }) => {
      const quiet = Array.from({ length: 6 }, (_, i) => `q${i}.test`);
      const hops = [...quiet.map((name) => [name, port] as const), ['greedy.test', greedy.port] as const];
      const routes = Object.fromEntries(hops.map(([name, at]) => [name, { host: '127.0.0.1', port: at }]));
      const harness = startSender({
        delivery: { routes, max_connections: 1, suspend_after_failures: 1000, ...delivery },
      });
      const connections: string[] = [];
      const connect = harness.sender.connect.bind(harness.sender);
      harness.sender.connect = (destination, host) => {
        const session = connect(destination, host);
        if (session !== null) connections.push(destination.key);
        return session;
      };
      const jobs = many(30).map((job) => ({ ...job, destination: 'greedy.test' }));
      const others = quiet.map((destination) => ({ recipients: ['a@x.test'], destination }));
      await harness.attemptAll([...jobs, ...others]);
      assert.equal(messages.length, quiet.length);
      const behind = connections.slice(0, quiet.length + 2).filter((key) => key !== 'greedy.test');
      assert.deepEqual(behind, quiet, `each has its turn before greedy.test has many: ${connections}`);
      harness.stop();
    });
    await greedy.stop();
  });

test('more jobs than max_handoff_messages are given back at once, uncounted', async () => {
  await withSink({}, { max_handoff_messages: 4 }, async (_sink, harness) => {
    const results = await harness.attemptAll(many(6));
    const reasons = results.flatMap(fates);
    assert.deepEqual(reasons.slice(4), ['deferred hand_off_released', 'deferred hand_off_released']);
    allDelivered(results.slice(0, 4));
    assert.deepEqual(
      results.slice(4).map(({ attempts }) => attempts),
      [0, 0],
    );
  });
});

test('a change of the config moves mail to the new next hop; the old connection ends with QUIT', async () => {
  await withSink({}, {}, async (sink, harness) => {
    await harness.attempt({ recipients: ['a@x.test'] });
    const other = await startSink();
    const smarthost = { host: '127.0.0.1', port: other.port };
    harness.sender.reconfigure({
      ...harness.config,
      delivery: { ...harness.config.delivery, smarthost, ehlo_name: 'new.test' },
    });
    allDelivered([await harness.attempt({ recipients: ['b@x.test'] })]);
    assert.equal(other.messages.length, 1);
    assert.equal(other.messages[0]?.hello, 'new.test');
    await sink.until(() => sink.open.size === 0);
    await other.stop();
  });
});

test('connections come from source_address', async () => {
  const from: string[] = [];
  await withSink({}, { source_address: '127.0.0.7' }, async (sink, harness) => {
    await harness.attempt({ recipients: ['a@x.test'] });
    for (const connection of sink.open) from.push(connection.socket.remoteAddress ?? '');
  });
  assert.deepEqual(from, ['127.0.0.7']);
});

test('the content of a job is released once, whatever becomes of it', async () => {
  await withSink({}, {}, async (_sink, harness) => {
    const free = harness.arena.freeBytes();
    const results = await harness.attemptAll([
      { recipients: ['a@x.test'] },
      { recipients: ['defer-451@x.test'] },
      { recipients: ['bounce-550@x.test'], from: '' },
      { recipients: ['drop-at-dot@x.test'] },
      { recipients: ['a@x.test'], receivedAtMs: 0 },
    ]);
    for (const { dsns } of results) for (const dsn of dsns) harness.arena.release(dsn.content);
    assert.equal(harness.arena.freeBytes(), free);
  });
});
