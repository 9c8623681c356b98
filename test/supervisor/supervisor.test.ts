import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Config, configSchema } from '../../src/config/schema.ts';
import { MergedQueue, mergeJournals, mergeSchedulerStats } from '../../src/control/merged-queue.ts';
import { mergeStatus } from '../../src/control/status.ts';
import { mergeStandings } from '../../src/control/why.ts';
import { mergeReports } from '../../src/egress/source-report.ts';
import { mergeStats } from '../../src/mail/queue-stats.ts';
import { Supervisor } from '../../src/supervisor/supervisor.ts';
import { type LogLine, recordingLog } from '../session/dialog-fixture.ts';
import { FakeClock, FakeProcess } from './fake-process.ts';

const config = (value: object = {}): Config => configSchema.parse({ data_dir: '/d', ...value });
const settle = (): Promise<void> => new Promise((next) => setImmediate(next));
const address = { host: '127.0.0.1', port: 25 };

function create(leftovers: number[] = []) {
  const clock = new FakeClock();
  const lives: FakeProcess[] = [];
  const logged: LogLine[] = [];
  const cleared: number[] = [];
  let closed = 0;
  const supervisor = new Supervisor({
    config: config(),
    configPath: '/d/relay.json',
    processes: 2,
    leftovers,
    sockets: [0, 1].map((process) => ({ listener: 0, fd: 20 + process, address, process })),
    memory: 19,
    log: recordingLog(logged),
    rollup: {
      queue: (readers) => new MergedQueue(readers),
      scheduler: mergeSchedulerStats,
      journal: mergeJournals,
      standing: mergeStandings,
      sources: mergeReports,
      status: mergeStatus,
    },
    fork: (fds, events) => {
      const life = new FakeProcess(100 + lives.length, fds, events);
      lives.push(life);
      return life;
    },
    closeSockets: () => void closed++,
    clearCounts: (process) => void cleared.push(process),
    now: clock.now,
    setTimer: clock.setTimer,
  });
  const life = (at: number): FakeProcess => lives[at] as FakeProcess;
  return { supervisor, clock, lives, life, logged, cleared, closed: () => closed };
}

async function started(leftovers: number[] = []) {
  const all = create(leftovers);
  const starting = all.supervisor.start();
  for (const life of all.lives) life.boots();
  await starting;
  return all;
}

const standIns = (life: FakeProcess): number[][] =>
  life.sent.flatMap((message) => (message.type === 'stand-in' ? [message.processes] : []));

test('every process gets all sockets by the numbers they have there, and its own config', async () => {
  const { supervisor, life, lives } = await started([4]);
  assert.deepEqual(supervisor.addresses, [address]);
  assert.deepEqual(
    lives.map(({ fds }) => fds),
    [[19, 20, 21], [19, 20, 21], []],
  );
  const starts = lives.flatMap(({ sent }) => sent.flatMap((m) => (m.type === 'start' ? [m.start] : [])));
  assert.deepEqual(
    starts.map(({ process, accepts }) => [process, accepts]),
    [
      [0, true],
      [1, true],
      [4, false],
    ],
  );
  assert.deepEqual(
    starts[1]?.sockets.map(({ fd, process }) => [fd, process]),
    [
      [5, 0],
      [6, 1],
    ],
  );
  assert.equal(starts[1]?.memory, 4);
  assert.deepEqual(
    starts[2]?.sockets.map(({ fd }) => fd),
    [-1, -1],
    'only where the host listens',
  );
  assert.equal(life(0).sent[0]?.type, 'start');
});

test('whoever is ready accepts for those who are not, until they are', async () => {
  const { life, clock, cleared } = await started();
  assert.deepEqual(standIns(life(0)).at(-1), []);
  life(1).exits(null, 'SIGKILL');
  assert.deepEqual(standIns(life(0)).at(-1), [1]);
  assert.deepEqual(cleared, [1], 'its connections are given back');
  clock.advance(250);
  assert.deepEqual(standIns(life(0)).at(-1), [1]);
  life(2).boots();
  assert.deepEqual(standIns(life(0)).at(-1), []);
  assert.deepEqual(standIns(life(2)).at(-1), []);
  life(0).says({ type: 'draining' });
  assert.deepEqual(standIns(life(2)).at(-1), [0]);
});

test('healthy: one serves and none is silent; one that is being started again does no harm', async () => {
  const { supervisor, life, clock } = await started();
  assert.equal(supervisor.healthy(), true);
  life(1).answersPings = false;
  clock.advance(7000);
  assert.equal(supervisor.healthy(), false);
  life(1).exits(null, 'SIGKILL');
  assert.equal(supervisor.healthy(), true);
  life(0).exits(null, 'SIGKILL');
  assert.equal(supervisor.healthy(), false);
});

test('one that cannot start ends them all, and its error is the error', async () => {
  const { supervisor, life, lives, closed } = create();
  const starting = supervisor.start();
  life(0).boots();
  life(1).says({ type: 'booted' });
  life(1).says({ type: 'failed', code: 'already_running', message: 'locked' });
  life(1).exits(75);
  await settle();
  assert.deepEqual(life(0).types().at(-1), 'stop');
  life(0).exits(0);
  await assert.rejects(starting, { code: 'already_running', message: 'locked' });
  assert.equal(closed(), 1);
  assert.equal(lives.length, 2);
});

test('a reload reaches one process after the other', async () => {
  const { supervisor, life } = await started();
  const reloading = supervisor.reload(config({ max_message_size: 4096, accept_processes: 3 }));
  await settle();
  assert.deepEqual([life(0).types().at(-1), life(1).types().includes('reload')], ['reload', false]);
  life(0).answers('reload', {});
  await settle();
  const asked = life(1).sent.at(-1);
  assert.ok(asked?.type === 'ask' && asked.question === 'reload');
  assert.equal(asked.ask.max_message_size, 4096);
  assert.equal(asked.ask.accept_processes, 'auto', 'what takes a restart stays as it is, in all of them');
  life(1).answers('reload', { problems: ['tls.cert_file: gone'] });
  assert.deepEqual(await reloading, {
    applied: ['max_message_size'],
    needsRestart: ['accept_processes'],
    problems: ['tls.cert_file: gone'],
  });
});

test('a process that starts during a reload, or does not answer it, ends up with the new config', async () => {
  const { supervisor, life, clock, logged } = await started();
  life(1).exits(70);
  clock.advance(250);
  life(2).says({ type: 'booted' });
  const reloading = supervisor.reload(config({ max_message_size: 4096 }));
  await settle();
  clock.advance(10_000);
  await reloading;
  assert.ok(logged.some(({ event, fields }) => event === 'process.reload_late' && fields?.process === 0));
  assert.equal(life(2).types().includes('reload'), false);
  life(2).says({ type: 'ready', addresses: [] });
  await settle();
  const asked = life(2).sent.findLast(({ type }) => type === 'ask');
  assert.ok(asked?.type === 'ask' && asked.question === 'reload' && asked.ask.max_message_size === 4096);
  life(2).exits(70);
  clock.advance(60_000);
  life(3).says({ type: 'booted' });
  const start = life(3).sent.find(({ type }) => type === 'start');
  assert.ok(start?.type === 'start' && start.start.config.max_message_size === 4096);
});

test('drain reaches all, with the sockets closed first; stop kills who does not end', async () => {
  const { supervisor, life, clock, closed } = await started();
  const drain = supervisor.drain();
  assert.equal(closed(), 1);
  assert.deepEqual([life(0).types().at(-1), life(1).types().at(-1)], ['drain', 'drain']);
  life(0).exits(0);
  const failed = assert.rejects(drain, { message: /relay process 1 was ended by SIGKILL/ });
  const stop = supervisor.stop();
  assert.equal(life(1).types().at(-1), 'stop');
  clock.advance(7999);
  assert.equal(life(1).killed, null);
  clock.advance(1);
  assert.equal(life(1).killed, 'SIGKILL');
  await assert.rejects(stop, { message: /SIGKILL/ });
  await failed;
  assert.equal(closed(), 1);
});

test('log files are reopened by every process', async () => {
  const { supervisor, lives } = await started();
  supervisor.reopenLog();
  assert.deepEqual(
    lives.map((life) => life.types().at(-1)),
    ['reopen-log', 'reopen-log'],
  );
});

test('operators reach all queues; what a process that is down could not do is said', async () => {
  const { supervisor, life } = await started();
  const { control } = supervisor;
  const both = control.operate('flush', {});
  life(0).answers('operate', { rows: 2, recipients: 2, sending: 1, queueIds: [], next: null });
  life(1).answers('operate', { rows: 3, recipients: 3, sending: 1, queueIds: [], next: null });
  assert.deepEqual(await both, { rows: 5, recipients: 5, sending: 2, queueIds: [], next: null });
  life(1).exits(70);
  const partial = control.operate('flush', {});
  life(0).answers('operate', { rows: 2, recipients: 2, sending: 0, queueIds: [], next: null });
  assert.deepEqual(await partial, { rows: 2, recipients: 2, sending: 0, queueIds: [], next: null });
  const missing = control.missing?.();
  life(0).answers('missing', []);
  assert.deepEqual(await missing, [
    { kind: 'process', name: '1', detail: 'is down and starts again soon; try again then' },
  ]);
});

test('counts come from those that answer, and processes say which do', async () => {
  const { supervisor, life, clock } = await started([2]);
  clock.advance(1000);
  life(2).exits(0);
  life(1).exits(70);
  const stats = supervisor.control.stats();
  life(0).answers('stats', { ...mergeStats([]), mails: 1 });
  assert.equal((await stats).mails, 1);
  const figures = supervisor.control.processes?.() ?? [];
  assert.deepEqual(
    figures.map(({ process, pid, state, accepts, connections, rssMb }) => [
      process,
      pid,
      state,
      accepts,
      connections,
      rssMb,
    ]),
    [
      [0, 100, 'ready', true, 3, 50],
      [1, null, 'waiting', true, 0, 0],
      [2, null, 'ended', false, 0, 0],
    ],
  );
});
