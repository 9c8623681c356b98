/** The journal with its lanes, on shards that are away, refuse and forget; time stands still unless it is moved. */
import assert from 'node:assert/strict';
import { after, afterEach, beforeEach, describe, it } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { RelayError } from '../../src/base/errors.ts';
import type { CommitBatch, CommitResult, JournalMark } from '../../src/database/database.ts';
import { Journal } from '../../src/journal/journal.ts';
import { JournalClient } from '../../src/journal/journal-client.ts';
import { runTask } from '../../src/journal/run-task.ts';
import type { Message } from '../../src/mail/message.ts';
import { CONTENT_STATE } from '../../src/native.ts';
import { FakeArena } from '../persistence/fake-arena.ts';
import { diskError, type FixtureOptions, JournalFixture, MIB, message } from './fixture.ts';

interface Entry {
  message: Message;
}

/** A shard that keeps its promises: what it took, how far it is, and when it is away. */
class FakeShard {
  readonly queue: string;
  taken: string[] = [];
  mark: JournalMark = { seq: 0, pending: [] };
  fault: (batch: CommitBatch | null) => RelayError | null = () => null;
  /** Commits, but the word of it is lost. */
  forgetful = false;
  batches = 0;

  constructor(queue: string) {
    this.queue = queue;
  }

  commit(batch: CommitBatch): CommitResult {
    const error = this.fault(batch);
    if (error !== null) throw error;
    this.batches++;
    const { seqs, mark } = batch.journal as NonNullable<CommitBatch['journal']>;
    const known = seqs.filter((seq) => seq <= this.mark.seq && !this.mark.pending.includes(seq)).length;
    assert.ok(known === 0 || known === seqs.length, 'all of a batch are new, or none');
    if (known === 0) {
      for (const { message: m } of batch.messages) this.taken.push(m.queueId);
      this.mark = structuredClone(mark);
    }
    if (this.forgetful) throw new RelayError('database_unavailable', 'connection lost');
    return { messages: batch.messages.map(() => 'committed'), settlements: [] };
  }
}

const away = new RelayError('database_unavailable', 'away');

describe('journal', () => {
  let f: JournalFixture;
  let shards: FakeShard[];
  let journal: Journal<Entry>;
  let answers: Map<string, boolean>;
  let failures: RelayError[];
  let full: boolean;
  let events: string[];
  let content: (message: Message) => void;
  /** Between what a read found and the word of it. */
  let slowRead: () => Promise<void>;
  const life: Promise<void>[] = [];
  // The journal's own timers keep no process alive.
  const alive = setInterval(() => {}, 1000);

  const newJournal = (shardNumbers = shards.map((_, i) => i)): Journal<Entry> => {
    const { store } = f;
    const pool = {
      run: async (task: Parameters<typeof runTask>[1]) => {
        await turn();
        const answer = runTask(store, structuredClone(task));
        if (task.kind === 'read') await slowRead();
        return answer;
      },
      destroy: async () => {},
    };
    const log = (event: string): void => void events.push(event);
    return new Journal<Entry>(
      new JournalClient(pool, (error) => assert.fail(error)),
      {
        mark: async (shard) => {
          const { fault, mark, queue } = shards[shard] as FakeShard;
          const error = fault(null);
          if (error !== null) throw error;
          return { mark: structuredClone(mark), queue };
        },
        commit: async (batch) => {
          await turn();
          return (shards[Number(batch.messages[0]?.message.queueId.at(-1))] as FakeShard).commit(batch);
        },
        plan: (entry) => {
          content(entry.message);
          entry.plan = [{ destination: 'y.test', seqs: [0], state: 'PENDING' }];
        },
        drained() {},
        cancel() {},
        answered: ({ message: m }, isDurable) => {
          assert.ok(!answers.has(m.queueId), 'one verdict');
          answers.set(m.queueId, isDurable);
          f.arena.release(m.content);
        },
        failed: (entries, error) => {
          failures.push(error);
          for (const { message: m } of entries) f.arena.release(m.content);
        },
        full: (isFull) => {
          full = isFull;
        },
      },
      {
        folder: f.folder,
        shards: shardNumbers.map((id) => ({ id, name: `s${id}` })),
        maxBytes: f.maxBytes,
        maxDelayMs: 0,
        arena: f.arena,
        leaseMs: 1000,
        log: { debug: log, info: log, warn: log, error: log },
      },
    );
  };
  const start = async (): Promise<void> => {
    journal = newJournal();
    await journal.open();
    await journal.start();
  };
  const begin = async (count = 1, options: FixtureOptions = {}): Promise<void> => {
    f = new JournalFixture(options);
    shards = Array.from({ length: count }, (_, i) => new FakeShard(`q${i}`));
    await start();
  };
  /** As after kill -9: what is under way does not come back. */
  const crash = async (): Promise<void> => {
    life.push(journal.stop());
    f.crash();
    await start();
  };
  const submit = (count: number, shard = 0, text = ''): string[] => {
    const messages = Array.from({ length: count }, () => message(f.arena, shard, text));
    journal.submit(messages.map((m) => ({ message: m })));
    return messages.map(({ queueId }) => queueId);
  };
  const until = async (what: string, done: () => boolean): Promise<void> => {
    const untilMs = Date.now() + 10_000;
    while (!done()) {
      assert.ok(Date.now() < untilMs, `${what}: ${JSON.stringify(journal.stats())} ${events.join()}`);
      await turn();
    }
  };
  const acknowledged = (): string[] => [...answers].filter(([, durable]) => durable).map(([id]) => id);

  beforeEach(() => {
    answers = new Map();
    failures = [];
    events = [];
    full = false;
    content = () => {};
    slowRead = async () => {};
  });
  afterEach(async () => {
    for (const shard of shards) shard.fault = () => null;
    await journal.stop();
    f.close();
  });
  after(async () => {
    clearInterval(alive);
    await Promise.all(life);
  });

  it('each message is answered once it is durable, and reaches its shard in order', async () => {
    await begin(2);
    const [a, b] = [submit(700), submit(3, 1)];
    await journal.settled();
    assert.deepEqual(acknowledged().sort(), [...a, ...b].sort());
    await journal.drained();
    assert.deepEqual([shards[0]?.taken, shards[1]?.taken], [a, b]);
    assert.equal(f.arena.held, 0, 'no content is kept');
    assert.deepEqual([journal.stats().waiting, journal.stats().oldestMs], [0, null]);
  });

  it('a shard that is away holds up no answer and no other shard, and gets its mail when it is back', async () => {
    await begin(2);
    (shards[1] as FakeShard).fault = () => away;
    const there = submit(300, 1);
    await journal.settled();
    const here = submit(10, 0);
    await until('the other drains', () => shards[0]?.taken.length === 10);
    await until('its memory is given back', () => f.arena.held === 0);
    const { waiting, oldestMs, shards: stats } = journal.stats();
    assert.deepEqual([waiting, oldestMs, stats[1]?.error], [300, 1000, 'away']);
    assert.ok(events.includes('journal.cannot_drain'));
    (shards[1] as FakeShard).fault = () => null;
    await until('it is back', () => shards[1]?.taken.length === 300);
    assert.deepEqual([shards[0]?.taken, shards[1]?.taken], [here, there]);
    assert.ok(events.includes('journal.drains'));
  });

  it('what has no room in memory is read back, in order', async () => {
    await begin();
    const store = f.arena.freeBytes.bind(f.arena);
    f.arena.freeBytes = () => (f.arena.held > 20 ? 0 : store());
    const ids = [...submit(400), ...submit(400)];
    await journal.settled();
    ids.push(...submit(200));
    await journal.drained();
    assert.deepEqual(shards[0]?.taken, ids);
    assert.equal(f.arena.held, 0);
  });

  it('what a read brings is not taken for the next when the window was given up meanwhile', async () => {
    await begin();
    f.arena.freeBytes = () => 0;
    (shards[0] as FakeShard).fault = () => away;
    let reads = 0;
    let goOn = (): void => {};
    slowRead = async () => {
      if (++reads === 3) await new Promise<void>((resolve) => (goOn = resolve));
    };
    const ids = submit(200);
    await journal.settled();
    await until('some were read', () => reads === 3);
    await until('the window is given up', () => f.arena.held <= 16);
    slowRead = async () => {};
    (shards[0] as FakeShard).fault = () => null;
    goOn();
    await until('all are taken', () => shards[0]?.taken.length === 200);
    assert.deepEqual(shards[0]?.taken, ids);
    await journal.drained();
    assert.equal(f.arena.held, 0);
  });

  it('after a crash what waits is drained, and nothing twice', async () => {
    await begin();
    const ids = submit(50);
    await journal.drained();
    await journal.settled();
    (shards[0] as FakeShard).fault = () => away;
    ids.push(...submit(20));
    await journal.settled();
    (shards[0] as FakeShard).fault = () => null;
    await crash();
    ids.push(...submit(5));
    await journal.settled();
    await journal.drained();
    assert.deepEqual(shards[0]?.taken, ids);
  });

  it('a commit nobody learned of is not done again, in this life or the next', async () => {
    await begin();
    (shards[0] as FakeShard).forgetful = true;
    const ids = submit(30);
    await until('it committed', () => shards[0]?.taken.length === 30);
    await crash();
    (shards[0] as FakeShard).forgetful = false;
    ids.push(...submit(3));
    await journal.settled();
    await journal.drained();
    assert.deepEqual(shards[0]?.taken, ids);
  });

  it('a message the shard refuses is set aside; the others go on, and it is kept over a restart', async () => {
    await begin();
    const ids = submit(100);
    const bad = ids[37] as string;
    const refuse = new RelayError('database_refused', 'never that one');
    (shards[0] as FakeShard).fault = (batch) =>
      batch?.messages.some(({ message: m }) => m.queueId === bad) ? refuse : null;
    await journal.settled();
    await journal.drained();
    const others = ids.filter((id) => id !== bad);
    assert.deepEqual(shards[0]?.taken, others);
    assert.deepEqual([journal.stats().waiting, journal.stats().shards[0]?.aside], [1, 1]);
    assert.ok(events.includes('journal.message_refused'));
    assert.equal(shards[0]?.mark.pending.length, 1);
    (shards[0] as FakeShard).fault = () => null;
    await crash();
    await until('it is taken now', () => shards[0]?.taken.length === 100);
    assert.deepEqual(shards[0]?.taken, [...others, bad]);
    submit(1);
    await journal.settled();
    await journal.drained();
    await until('nothing is pending', () => shards[0]?.mark.pending.length === 0);
  });

  it('a session that gave up while its message was written: it is never drained', async () => {
    await begin();
    (shards[0] as FakeShard).fault = () => away;
    let gone = '';
    f.before = (operation) => {
      if (operation !== 'sync' || gone !== '') return;
      gone = ids[1] as string;
      assert.ok(
        f.arena.moveState(messages[1]?.content as number, CONTENT_STATE.committing, CONTENT_STATE.abandoned),
      );
    };
    const messages = [message(f.arena), message(f.arena), message(f.arena)];
    const ids = messages.map(({ queueId }) => queueId);
    journal.submit(messages.map((m) => ({ message: m })));
    await journal.settled();
    assert.deepEqual([...answers.values()], [true, false, true]);
    (shards[0] as FakeShard).fault = () => null;
    await crash();
    await journal.drained();
    assert.deepEqual(shards[0]?.taken, [ids[0], ids[2]]);
  });

  it('an append that fails refuses its messages only', async () => {
    await begin();
    f.before = (operation) => {
      if (operation === 'sync') throw diskError('EIO');
    };
    submit(3);
    await journal.settled();
    assert.deepEqual(
      failures.map(({ code }) => code),
      ['storage_unavailable'],
    );
    assert.equal(journal.failing, true);
    f.before = () => {};
    const ids = submit(2);
    await journal.settled();
    assert.equal(journal.failing, false);
    await journal.drained();
    assert.deepEqual(shards[0]?.taken, ids);
    assert.equal(f.arena.held, 0);
  });

  it('says when it is full, and that there is room again once it has drained', async () => {
    await begin(1, { maxBytes: MIB, segmentBytes: MIB / 4 });
    (shards[0] as FakeShard).fault = () => away;
    while (!full) {
      submit(20, 0, 'x'.repeat(2000));
      await journal.settled();
    }
    assert.deepEqual(failures, []);
    assert.ok(journal.stats().bytes <= MIB);
    (shards[0] as FakeShard).fault = () => null;
    await until('there is room', () => !full);
    await journal.drained();
    assert.deepEqual(shards[0]?.taken, acknowledged());
    assert.ok(events.includes('journal.full') && events.includes('journal.has_room'));
  });

  it('a shard that is gone from the config while its mail waits ends the start; when all is drained it does not', async () => {
    await begin(2);
    submit(3, 1);
    await journal.settled();
    (shards[1] as FakeShard).fault = () => away;
    submit(2, 1);
    await journal.settled();
    await journal.stop();
    f.crash();
    await assert.rejects(newJournal([0]).open(), (error: RelayError) => {
      assert.equal(error.code, 'config_invalid');
      assert.match(
        error.message,
        /messages in the journal .* wait for shard 1, which the config does not have/,
      );
      return true;
    });
    (shards[1] as FakeShard).fault = () => null;
    await crash();
    await journal.drained();
    await journal.close(false);
    f.crash();
    journal = newJournal([0]);
    await journal.open();
  });

  it('a shard that has another queue now ends the start while mail waits for the one before', async () => {
    await begin();
    submit(3);
    await journal.settled();
    await journal.drained();
    (shards[0] as FakeShard).fault = () => away;
    submit(2);
    await journal.settled();
    await journal.stop();
    f.crash();
    const [before] = shards;
    shards = [new FakeShard('another')];
    journal = newJournal();
    await journal.open();
    await assert.rejects(journal.start(), /holds mail for another queue than the one shard 0 has now/);
    shards = [before as FakeShard];
    (before as FakeShard).fault = () => null;
    await crash();
    await journal.drained();
    assert.equal(before?.taken.length, 5);
  });

  it('an old copy of a journal is not drained', async () => {
    await begin();
    (shards[0] as FakeShard).mark = { seq: 2 ** 40, pending: [] };
    journal = newJournal();
    f.crash();
    journal = newJournal();
    await journal.open();
    await assert.rejects(journal.start(), /old copy/);
  });

  it('removes itself when it is empty and not used any more, and only then', async () => {
    await begin();
    submit(1);
    await journal.settled();
    await journal.drained();
    await journal.stop();
    await journal.close(true);
    assert.deepEqual(f.names(), []);
  });

  /** Random weather over two shards and many lives: every acknowledged message is taken exactly once. */
  for (const seed of Array.from({ length: 12 }, (_, i) => i + 1))
    it(`any weather: every acknowledged message is taken exactly once (seed ${seed})`, async () => {
      let state = seed;
      const random = (): number => {
        state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
        return state / 0x7fffffff;
      };
      await begin(2, { maxBytes: 4 * MIB, segmentBytes: 65_536 });
      for (let step = 0; step < 40; step++) {
        for (const shard of shards) {
          const mood = random();
          shard.forgetful = mood < 0.2;
          shard.fault = () => (mood > 0.8 || random() < 0.1 ? away : null);
        }
        f.before = (operation) => {
          if (operation === 'sync' && random() < 0.05) throw diskError(random() < 0.5 ? 'EIO' : 'ENOSPC');
        };
        const arena = f.arena;
        const free = FakeArena.prototype.freeBytes.bind(arena);
        const tight = random() < 0.6;
        arena.freeBytes = () => (tight && arena.held > 10 ? 0 : free());
        submit(Math.ceil(random() * 60), 0, random() < 0.2 ? 'x'.repeat(20_000) : '');
        submit(Math.ceil(random() * 20), 1);
        for (let i = 0; i < random() * 30; i++) await turn();
        if (random() < 0.1) await new Promise((resolve) => setTimeout(resolve, 300)); // rests end
        if (random() < 0.8) await journal.settled();
        f.before = () => {};
        if (random() < 0.25) {
          await journal.settled();
          await crash();
        }
      }
      for (const shard of shards) {
        shard.forgetful = false;
        shard.fault = () => null;
      }
      await journal.settled();
      await crash();
      await journal.drained();
      const expected = acknowledged();
      const taken = shards.flatMap((shard) => shard.taken);
      assert.equal(new Set(taken).size, taken.length, 'none twice');
      const there = new Set(taken);
      assert.deepEqual(
        expected.filter((id) => !there.has(id)),
        [],
        'none lost',
      );
      assert.equal(taken.length, expected.length, 'none that was refused');
    });
});
