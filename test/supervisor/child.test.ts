import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Child } from '../../src/supervisor/child.ts';
import type { ProcessStart } from '../../src/supervisor/messages.ts';
import { type LogLine, recordingLog } from '../session/dialog-fixture.ts';
import { FakeClock, FakeProcess } from './fake-process.ts';

function setUp(accepts = true) {
  const clock = new FakeClock();
  const lives: FakeProcess[] = [];
  const logged: LogLine[] = [];
  const states: string[] = [];
  let ended = 0;
  const child: Child = new Child(1, accepts, {
    log: recordingLog(logged),
    fork: (events) => {
      const life = new FakeProcess(100 + lives.length, [], events);
      lives.push(life);
      return life;
    },
    start: () => ({ process: 1 }) as ProcessStart,
    timing: () => ({ restartDelayMs: 100, maxRestartDelayMs: 1000, hangTimeoutMs: 20_000 }),
    now: clock.now,
    setTimer: clock.setTimer,
    learned: () => {},
    changed: () => void states.push(child.state),
    ended: () => void ended++,
  });
  const life = (): FakeProcess => lives.at(-1) as FakeProcess;
  return { clock, lives, life, logged, states, child, ended: () => ended };
}

test('a process gets its start once it listens to us, and is ready when it says so', async () => {
  const { child, life, states } = setUp();
  const ready = child.start();
  assert.deepEqual(life().types(), []);
  life().says({ type: 'booted' });
  assert.deepEqual(life().types(), ['start']);
  life().says({ type: 'ready', addresses: [{ port: 25 }] });
  assert.deepEqual(await ready, [{ port: 25 }]);
  assert.deepEqual(states, ['ready']);
  assert.equal(child.status().pid, 100);
});

test('one that cannot start says why and is not started again', async () => {
  const { child, life, lives, clock } = setUp();
  const ready = child.start();
  life().says({ type: 'booted' });
  life().says({ type: 'failed', code: 'database_corrupt', message: 'queue.db is damaged' });
  life().exits(65);
  await assert.rejects(ready, { code: 'database_corrupt', message: 'queue.db is damaged' });
  clock.advance(60_000);
  assert.equal(lives.length, 1);
  const silent = setUp();
  const never = silent.child.start();
  silent.life().exits(null, 'SIGSEGV');
  await assert.rejects(never, { message: 'relay process 1 was ended by SIGSEGV while it started' });
});

test('a crash loop is slowed down up to the longest delay; a long good run ends it', () => {
  const { child, life, lives, clock, logged, ended } = setUp();
  child.start().catch(() => {});
  const delays: number[] = [];
  const crash = (): void => {
    const before = lives.length;
    life().exits(null, 'SIGKILL');
    const atMs = clock.nowMs;
    while (lives.length === before) clock.advance(10);
    delays.push(clock.nowMs - atMs);
    life().boots();
  };
  life().boots();
  for (let i = 0; i < 7; i++) crash();
  assert.deepEqual(delays, [100, 200, 400, 800, 1000, 1000, 1000]);
  clock.advance(999);
  crash();
  assert.equal(delays.at(-1), 1000, 'too short a run');
  clock.advance(1000);
  crash();
  assert.equal(delays.at(-1), 100, 'a run as long as the longest delay');
  assert.equal(child.status().restarts, 9);
  assert.equal(ended(), 9);
  const said = logged.filter(({ event }) => event === 'process.ended');
  assert.deepEqual(said[1]?.fields, {
    process: 1,
    pid: 101,
    exit_code: null,
    signal: 'SIGKILL',
    restart_in_ms: 200,
  });
});

test('the next life begins without the counts of the last; one that ended as it was asked is no error', () => {
  const { child, life, lives, clock, logged } = setUp();
  child.start().catch(() => {});
  life().boots();
  life().says({ type: 'pong', connections: 7, rssBytes: 5_000_000 });
  assert.deepEqual([child.status().connections, child.status().rssMb], [7, 5]);
  life().exits(0);
  clock.advance(1000);
  assert.equal(lives.length, 2);
  assert.deepEqual([child.status().connections, child.status().rssMb], [0, 0]);
  life().boots();
  life().exits(70);
  const said = logged.filter(({ event }) => event === 'process.ended').map(({ level }) => level);
  assert.deepEqual(said, ['info', 'error']);
});

test('that a process was ended by its operator, or by us, is no error; that it ended badly as it was to end, is', () => {
  const levelOf = (code: number | null, signal: string | null, begin: (child: Child) => void): unknown => {
    const { child, life, logged } = setUp();
    child.start().catch(() => {});
    life().boots();
    begin(child);
    life().exits(code, signal);
    return logged.find(({ event }) => event === 'process.ended')?.level;
  };
  const drains = (child: Child): void => void child.end('drain').catch(() => {});
  assert.equal(
    levelOf(null, 'SIGTERM', () => {}),
    'info',
  );
  assert.equal(levelOf(0, null, drains), 'info');
  assert.equal(
    levelOf(null, 'SIGKILL', (child) => child.kill()),
    'info',
  );
  assert.equal(
    levelOf(null, 'SIGKILL', () => {}),
    'error',
    'nobody asked us',
  );
  assert.equal(levelOf(70, null, drains), 'error');
});

test('one that does not come up again is tried on', () => {
  const { child, life, lives, clock } = setUp();
  child.start().catch(() => {});
  life().boots();
  life().exits(70);
  for (let i = 0; i < 5; i++) {
    clock.advance(1000);
    life().says({ type: 'booted' });
    life().says({ type: 'failed', code: 'database_busy', message: 'x' });
    life().exits(75);
  }
  assert.equal(lives.length, 6);
  assert.equal(child.state, 'waiting');
});

test('one that answers nothing is silent, then killed; one that wakes up is ready again', () => {
  const { child, life, lives, clock, logged } = setUp();
  child.start().catch(() => {});
  life().boots();
  const run = (ms: number): void => {
    for (let passed = 0; passed < ms; passed += 1000) {
      clock.advance(1000);
      child.ping();
    }
  };
  run(60_000);
  assert.equal(child.state, 'ready');
  life().answersPings = false;
  run(4000);
  assert.equal(child.state, 'ready');
  run(2000);
  assert.equal(child.state, 'silent');
  life().says({ type: 'pong', connections: 0, rssBytes: 0 });
  assert.equal(child.state, 'ready');
  run(25_000);
  assert.equal(lives[0]?.killed, 'SIGKILL');
  assert.ok(logged.some(({ event }) => event === 'process.hangs'));
  assert.equal(lives.length, 2, 'and started again');
});

test('a supervisor that stood still itself holds no process for one that hangs', () => {
  const { child, life, lives, clock, logged } = setUp();
  child.start().catch(() => {});
  life().boots();
  life().answersPings = false;
  for (let pause = 0; pause < 3; pause++) {
    clock.advance(100_000);
    child.ping();
    assert.equal(child.state, 'ready');
    life().says({ type: 'pong', connections: 0, rssBytes: 0 });
  }
  assert.equal(lives[0]?.killed, null);
  for (let second = 0; second < 21; second++) {
    clock.advance(1000);
    child.ping();
  }
  assert.equal(lives[0]?.killed, 'SIGKILL', 'and one that does hang is found as soon as ever');
  assert.deepEqual(
    logged.filter(({ event }) => event === 'process.hangs').map(({ fields }) => fields.silent_ms),
    [20_000],
  );
});

test('questions are answered by number; those of a process that ends are refused, naming it', async () => {
  const { child, life } = setUp();
  await assert.rejects(child.ask('stats', null), { message: /relay process 1 is starting; try again/ });
  child.start().catch(() => {});
  life().boots();
  const first = child.ask('show', 'a');
  const second = child.ask('show', 'b');
  const ids = life().sent.flatMap((message) => (message.type === 'ask' ? [message.id] : []));
  life().says({ type: 'answer', id: ids[1] as number, value: 'of b' });
  life().says({ type: 'refusal', id: ids[0] as number, code: 'database_busy', message: 'busy' });
  assert.equal(await second, 'of b');
  await assert.rejects(first, { code: 'database_busy' });
  const third = child.ask('stats', null);
  life().exits(70);
  await assert.rejects(third, { code: 'control_failed', message: 'relay process 1 ended with code 70' });
  await assert.rejects(child.ask('stats', null), { message: /is down and starts again soon/ });
});

test('drained: the end is waited for; a bad end is told; nothing starts again', async () => {
  const good = setUp();
  good.child.start().catch(() => {});
  good.life().boots();
  const end = good.child.end('drain');
  assert.deepEqual(good.life().types(), ['start', 'drain']);
  good.life().says({ type: 'draining' });
  assert.equal(good.child.state, 'draining');
  const stop = good.child.end('stop');
  good.life().exits(0);
  await Promise.all([end, stop]);
  good.clock.advance(60_000);
  assert.equal(good.lives.length, 1);

  const bad = setUp();
  bad.child.start().catch(() => {});
  bad.life().boots();
  const ending = bad.child.end('drain');
  bad.life().exits(70);
  await assert.rejects(ending, { message: 'relay process 1 ended with code 70' });
});

test('one that waits for its restart when all is to end does not start any more', async () => {
  const { child, life, lives, clock } = setUp();
  child.start().catch(() => {});
  life().boots();
  life().exits(70);
  clock.advance(50);
  const end = child.end('drain');
  clock.advance(60_000);
  assert.equal(lives.length, 1);
  await assert.rejects(end, { message: 'relay process 1 ended with code 70' });
});

test('one that is just being started when all is to end is told as soon as it listens', async () => {
  const { child, life, clock } = setUp();
  child.start().catch(() => {});
  life().boots();
  life().exits(70);
  clock.advance(100);
  const end = child.end('stop');
  life().says({ type: 'booted' });
  assert.deepEqual(life().types(), ['stop', 'stop']);
  life().exits(0);
  await end;
});

test('one that only empties its queue is done when it ends well, and goes on when it crashed', () => {
  const { child, life, lives, clock } = setUp(false);
  child.start().catch(() => {});
  life().boots();
  life().exits(70);
  clock.advance(100);
  life().boots();
  life().exits(0);
  clock.advance(60_000);
  assert.equal(lives.length, 2);
  assert.equal(child.state, 'ended');
});
