/** Peers that refuse RSET, lose what is sent ahead, or say more than they were asked: no message pays for it. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { after, test } from 'node:test';
import type { SinkOptions } from '../support/scripted-sink.ts';
import { fates, type Harness, type JobInput, startSender, startSink } from './harness.ts';

const servers: Server[] = [];
const sockets = new Set<Socket>();
after(() => {
  for (const socket of sockets) socket.destroy();
  for (const server of servers) server.close();
});

/**
 * A peer that reads `lines` lines of what it has, answers them, and loses the rest when `loses` says so.
 * @returns its port and the recipients it took mail for.
 */
async function forgetful(loses: (line: string, inContent: boolean) => boolean): Promise<[number, string[]]> {
  const taken: string[] = [];
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.write('220 forgetful\r\n');
    let text = '';
    let inContent = false;
    let to: string[] = [];
    const answer = (line: string): string => {
      if (inContent) {
        if (line !== '.') return '';
        inContent = false;
        taken.push(...to);
        to = [];
        return '250 taken';
      }
      if (line.startsWith('EHLO')) return '250-forgetful\r\n250 PIPELINING';
      if (line.startsWith('RCPT')) to.push((/<(.*)>/.exec(line) as RegExpExecArray)[1] as string);
      if (line !== 'DATA') return '250 ok';
      if (to.length === 0) return '503 need RCPT';
      inContent = true;
      return '354 go on';
    };
    socket.on('data', (bytes) => {
      text += bytes.toString();
      for (let end = text.indexOf('\r\n'); end !== -1; end = text.indexOf('\r\n')) {
        const line = text.slice(0, end);
        text = text.slice(end + 2);
        const wasContent = inContent;
        const reply = answer(line);
        if (reply !== '') socket.write(`${reply}\r\n`);
        if (loses(line, wasContent)) text = '';
      }
    });
  });
  servers.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return [(server.address() as AddressInfo).port, taken];
}

function sender(port: number, delivery: object = {}): Harness {
  const smarthost = { host: '127.0.0.1', port };
  const waits = { command_timeout_ms: 700, final_reply_timeout_ms: 10_000 };
  return startSender({ delivery: { smarthost, max_connections_per_destination: 1, ...waits, ...delivery } });
}

const many = (count: number): JobInput[] =>
  Array.from({ length: count }, (_, i) => ({ recipients: [`u${i}@x.test`] }));
const addresses = (count: number) => many(count).flatMap(({ recipients }) => recipients as string[]);

test('a peer that loses what follows the content is sent nothing ahead; each message is taken, in one attempt', async () => {
  const [port, taken] = await forgetful((line, inContent) => inContent && line === '.');
  const harness = sender(port);
  const results = await harness.attemptAll(many(8));
  assert.deepEqual([...new Set(results.flatMap(fates))], ['delivered']);
  assert.deepEqual(taken.sort(), addresses(8));
  assert.deepEqual([...new Set(results.map(({ attempts }) => attempts))], [1]);
  harness.stop();
});

test('a peer that answers one command of many sent ahead gets them one by one', async () => {
  const [port, taken] = await forgetful((_, inContent) => !inContent);
  const harness = sender(port);
  const results = await harness.attemptAll(many(4));
  assert.deepEqual([...new Set(results.flatMap(fates))], ['delivered']);
  assert.deepEqual(taken.sort(), addresses(4));
  // It is remembered.
  const started = performance.now();
  harness.sender.reconfigure(harness.config);
  await harness.attemptAll(many(3));
  assert.equal(performance.now() - started < 700, true, 'no further wait for replies that do not come');
  harness.stop();
});

test('once its time is over the peer is trusted again', async () => {
  let loses = true;
  const [port] = await forgetful((_, inContent) => loses && !inContent);
  const harness = sender(port, { no_pipelining_ttl_ms: 60_000, idle_connection_ms: 0 });
  await harness.attempt({ recipients: ['a@x.test'] });
  assert.equal(harness.sender.careful.has({ address: '127.0.0.1', port }, harness.sender.now()), true);
  harness.clockOffsetMs = 61_000;
  loses = false;
  assert.deepEqual(fates(await harness.attempt({ recipients: ['a@x.test'] })), ['delivered']);
  assert.equal(harness.sender.careful.has({ address: '127.0.0.1', port }, harness.sender.now()), false);
  harness.stop();
});

const RSETS = ['500 5.5.2 what', '550 no', '421 4.3.2 bye', '354 hm', 'drop', 'hang', 'what'];

for (const pipelining of [true, false])
  test(`a refused RSET costs no message anything${pipelining ? '' : ', without PIPELINING'}`, async () => {
    for (const rset of RSETS) {
      const options: SinkOptions = { rset, capabilities: pipelining ? ['PIPELINING'] : [] };
      const sink = await startSink(options);
      const harness = sender(sink.port);
      // Refused recipients leave a transaction open; the innocent ones come after.
      const jobs = [
        'bounce-550@x.test',
        'a@x.test',
        'bounce-551@x.test',
        'b@x.test',
        'bounce-553@x.test',
        'c@x.test',
      ];
      const results = await harness.attemptAll(jobs.map((one) => ({ recipients: [one] })));
      const bounced = 'bounced peer_5xx';
      const expected = [bounced, 'delivered', bounced, 'delivered', bounced, 'delivered'];
      assert.deepEqual(results.flatMap(fates), expected, rset);
      if (!pipelining) assert.deepEqual(sink.violations, [], rset);
      harness.stop();
      await sink.stop();
    }
  });

test('a peer that says more than it was asked harms no message and moves no refusal to another recipient', async () => {
  for (const dot of ['=250 ok\r\n250 and again', '=250 ok\r\n550 and another', '=250 ok\r\n421 bye'])
    for (const capabilities of [['PIPELINING'], []]) {
      const sink = await startSink({ capabilities, faults: { dot } });
      const harness = sender(sink.port);
      const jobs = Array.from({ length: 6 }, (_, i) => ({
        recipients: [`bounce-550+${i}@x.test`, `u${i}@x.test`],
      }));
      const results = await harness.attemptAll(jobs);
      for (const result of results) {
        const where = JSON.stringify([dot, capabilities, result.groups]);
        assert.deepEqual(fates(result), ['bounced peer_5xx', 'delivered'], where);
      }
      harness.stop();
      await sink.stop();
    }
});

test('a peer that ends connections that wait, or in use, costs no attempt', async () => {
  const sink = await startSink();
  const harness = sender(sink.port);
  for (let i = 0; i < 5; i++) {
    const result = await harness.attempt({ recipients: [`u${i}@x.test`] });
    assert.deepEqual([fates(result), result.attempts], [['delivered'], 1]);
    // It may be seen closed, or found so while the next one is on its way.
    sink.dropAll();
  }
  sink.options.maxMessages = 2;
  for (const atMaxMessages of ['close', '421'] as const) {
    sink.options.atMaxMessages = atMaxMessages;
    const results = await harness.attemptAll(many(9));
    assert.deepEqual([...new Set(results.flatMap(fates))], ['delivered'], atMaxMessages);
  }
  harness.stop();
  await sink.stop();
});
