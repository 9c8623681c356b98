import assert from 'node:assert/strict';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import type { Worker } from 'node:worker_threads';
import type { RelayError } from '../../src/base/errors.ts';
import type { Message } from '../../src/mail/message.ts';
import { idOfLine } from '../../src/mail/queue-lines.ts';
import { type Arena, createArena } from '../../src/native.ts';
import { DatabaseClient, startPool, type TaskPool } from '../../src/persistence/database-client.ts';
import { QueueThread } from '../../src/persistence/queue-thread.ts';
import { openStoppedQueue } from '../../src/persistence/stopped-queue.ts';
import { toFault } from '../../src/persistence/tasks.ts';
import { delivered, makeConfig, QueueFixture, recipient } from './fixture.ts';

describe('database client over the pool', () => {
  let dataDir: string;
  let spillDir: string;
  let arena: Arena;
  let pool: TaskPool & { readonly threads: Worker[] };
  let client: DatabaseClient;

  beforeEach(() => {
    dataDir = mkdtempSync(join(tmpdir(), 'client-'));
    spillDir = join(dataDir, 'spill');
    mkdirSync(spillDir);
    arena = createArena(64 * 1024 * 1024, spillDir);
    pool = startPool({ config: makeConfig(dataDir), arena: arena.buffer, spillDir });
    client = new DatabaseClient(pool);
  });
  afterEach(async () => {
    await client.close();
    rmSync(dataDir, { recursive: true, force: true });
  });

  function message(queueId: string, bytes: Uint8Array = Buffer.from(`content of ${queueId}`)): Message {
    return {
      queueId,
      envelope: {
        reversePath: 'a@b.test',
        body: '7BIT',
        smtpUtf8: false,
        recipients: [recipient('x@one.test')],
      },
      trace: 'Received: x\r\n',
      content: arena.store(bytes),
      sizeBytes: bytes.length,
      receivedAtMs: 1,
      client: { address: '127.0.0.1', helo: 'h', protocol: 'SMTP', sessionId: 's' },
    };
  }
  const batch = (token: string, messages: Message[]): Parameters<DatabaseClient['commit']>[0] => ({
    token,
    messages: messages.map((m) => ({
      message: m,
      plan: [{ destination: 'one.test', seqs: [0], state: 'PENDING' as const }],
    })),
    settlements: [],
    withdrawals: [],
    nowMs: 5,
    leaseUntilMs: 10,
  });
  const ids = (count: number): string[] =>
    Array.from({ length: count }, (_, i) => `06dk0000000${i.toString(32).padStart(4, '0')}`);

  it('commits content from shared memory and claims it back', async () => {
    const bytes = Buffer.alloc(200_000, 'some content of three chunks and more ');
    assert.deepEqual(await client.commit(batch('t1', [message('06dk00000000001', bytes)])), {
      messages: ['committed'],
      settlements: [],
    });
    const { jobs } = await client.claim({
      destination: 'one.test',
      limit: 5,
      maxRecipients: 5,
      nowMs: 5,
      leaseUntilMs: 10,
    });
    assert.deepEqual(Buffer.concat(arena.parts(jobs[0]?.content as number)), bytes);
  });

  it('closes no file of another thread when its own thread ends', async () => {
    await client.commit(batch('t1', [message('06dk00000000001', Buffer.alloc(600_000, 'large '))]));
    const { jobs } = await client.claim({
      destination: 'one.test',
      limit: 5,
      maxRecipients: 5,
      nowMs: 5,
      leaseUntilMs: 10,
    });
    const content = jobs[0]?.content as number;
    const { fd } = arena.file(content) as { fd: number };
    arena.release(content);
    // The number is free again: the next file opened gets it.
    const opened: number[] = [];
    do opened.push(openSync(join(dataDir, 'events.jsonl'), 'a'));
    while (!opened.includes(fd) && opened.length < 50);
    assert.ok(opened.includes(fd));
    await pool.threads[0]?.terminate();
    assert.equal(writeSync(fd, 'still open'), 10);
    for (const one of opened) closeSync(one);
  });

  it('brings faults across with their code, and whether a retry helps', async () => {
    await client.commit(batch('t1', [message('06dk00000000001')]));
    await assert.rejects(client.commit(batch('t2', [message('06dk00000000001')])), (error: RelayError) => {
      assert.deepEqual([error.name, error.code, error.temporary], ['RelayError', 'database_refused', false]);
      return true;
    });
  });

  it('wipes the spill folder at recovery', async () => {
    writeFileSync(join(spillDir, 'left-over'), 'x');
    assert.deepEqual(await client.recover(0), { released: 0, rekeyed: 0, newestQueueId: null });
    assert.deepEqual(readdirSync(spillDir), []);
  });

  for (const pause of [0, 1, 2, 4, 8])
    it(`leaves a batch whole or absent, and says which, when its thread dies (after ${pause} ms)`, async () => {
      await client.recover(0);
      const messages = ids(600).map((id) => message(id));
      const commit = client.commit(batch('t1', messages)).then(
        () => 'committed',
        (error: RelayError) => error.code,
      );
      const until = performance.now() + pause;
      while (performance.now() < until);
      await pool.threads[0]?.terminate();
      const said = await commit;
      const { mails } = await client.stats();
      assert.equal(mails, said === 'committed' ? 600 : 0, said);
      if (said === 'committed') return;
      assert.equal(said, 'database_unavailable');
      assert.deepEqual(
        (await client.commit(batch('t2', messages))).messages[0],
        'committed',
        'the new thread takes it',
      );
    });

  it('gives back what a claim leased whose thread died', async () => {
    await client.commit(
      batch(
        't1',
        ids(200).map((id) => message(id)),
      ),
    );
    const claim = client
      .claim({ destination: 'one.test', limit: 200, maxRecipients: 9999, nowMs: 5, leaseUntilMs: 10 })
      .catch((error: RelayError) => error.code);
    await pool.threads[0]?.terminate();
    const said = await claim;
    const { rows } = await client.stats();
    if (typeof said === 'string')
      assert.deepEqual([said, rows.PENDING, rows.SENDING], ['database_unavailable', 200, 0]);
    else assert.equal(rows.SENDING, said.jobs.length);
  });

  it('asks again what can be asked twice', async () => {
    await client.commit(
      batch(
        't1',
        ids(3).map((id) => message(id)),
      ),
    );
    const backlog = client.backlog();
    await pool.threads[0]?.terminate();
    assert.deepEqual(await backlog, [{ destination: 'one.test', rows: 3, nextDueMs: 5 }]);
  });

  it('answers one client within a millisecond or so', async () => {
    await client.recover(0);
    const times: number[] = [];
    for (const [i, id] of ids(200).entries()) {
      const begin = performance.now();
      await client.commit(batch(`t${i}`, [message(id)]));
      times.push(performance.now() - begin);
    }
    times.sort((a, b) => a - b);
    assert.ok((times[100] as number) < 100, `median ${times[100]} ms: far from what an fsync costs here`);
  });

  it('writes the log back into the file when it closes', async () => {
    await client.commit(batch('t1', [message('06dk00000000001')]));
    assert.ok(existsSync(join(dataDir, 'queue.db-wal')));
    await client.close();
    assert.ok(!existsSync(join(dataDir, 'queue.db-wal')));
    client = new DatabaseClient(startPool({ config: makeConfig(dataDir), arena: arena.buffer, spillDir }));
    assert.equal((await client.stats()).mails, 1);
  });
});

describe('a stopped relay’s queue', () => {
  it('is read without being changed', async () => {
    const queue = new QueueFixture();
    const queueId = await queue.add(['a@one.test'], 'SENDING');
    await queue.database.close();
    const stopped = openStoppedQueue(queue.config);
    assert.equal((await stopped.lines({ limit: 5 })).map(idOfLine)[0], queueId);
    assert.equal((await stopped.show(queueId))?.rows[0]?.state, 'SENDING');
    assert.equal((await stopped.stats()).mails, 1);
    const mailTrace = (await stopped.show(queueId))?.trace ?? '';
    assert.match(
      Buffer.from((await stopped.content(queueId, mailTrace.length, 999)) ?? []).toString(),
      /content of/,
    );
    await stopped.close();
    await queue.restart();
    assert.equal(await queue.settle({ queueId, destination: 'one.test', groups: [delivered([0])] }), true);
    await queue.close();
  });

  it('is not there when it was in memory, or was never written', () => {
    const dir = mkdtempSync(join(tmpdir(), 'stopped-'));
    assert.throws(() => openStoppedQueue(makeConfig(dir, { database: { path: ':memory:' } })), {
      code: 'database_unavailable',
    });
    assert.throws(() => openStoppedQueue(makeConfig(dir)), { code: 'database_unavailable' });
    assert.deepEqual(readdirSync(dir), [], 'and is not created by looking');
    rmSync(dir, { recursive: true });
  });
});

describe('a commit whose answer was lost', () => {
  it('is known by its token: results come from the database, and nothing is written twice', async () => {
    const queue = new QueueFixture();
    const thread = new QueueThread({ config: queue.config, arena: queue.arena, spillDir: queue.spillDir });
    let lose = false;
    const client = new DatabaseClient({
      async run(task) {
        const answer = await thread.run(task);
        if (!lose || task.kind !== 'commit') return answer;
        throw new Error('worker exited with code: 1');
      },
      destroy: async () => {},
    });
    const message = queue.message(['a@one.test']);
    await client.commit(queue.batch({ messages: [queue.plan(message, 'SENDING')] }));
    lose = true;
    const settlement = {
      queueId: message.queueId,
      destination: 'one.test',
      fence: 1,
      attempts: 1,
      groups: [delivered([0])],
      retryAtMs: null,
      delayNotified: false,
    };
    const result = await client.commit(
      queue.batch({
        settlements: [settlement, { ...settlement, fence: 5 }],
        messages: [queue.plan(queue.message(['b@one.test']))],
      }),
    );
    assert.deepEqual(result, { messages: ['committed'], settlements: [true, false] });
    await client.close();
    await queue.close();
  });
});

describe('faults between threads', () => {
  it('an error that is not ours keeps where it happened', () => {
    const fault = toFault(new TypeError('x is not a function'));
    assert.equal(fault.code, 'database_refused');
    assert.match(fault.message, /TypeError: x is not a function\n\s+at /);
  });
});
