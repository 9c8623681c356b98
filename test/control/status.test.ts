import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatStatus } from '../../src/cli/status.ts';
import { type HostStatus, impairments, mergeStatus } from '../../src/control/status.ts';
import { statusAnswer } from '../../src/control/status-answer.ts';
import type { RelayStatus } from '../../src/control/target.ts';
import { noStates } from '../../src/mail/queue-stats.ts';
import { MinuteRates } from '../../src/report/minute-rates.ts';

const MINUTE = 60_000;
const NOW = 10 * MINUTE;

const part = (change: Partial<RelayStatus> = {}): RelayStatus => ({
  connectionsIn: 2,
  totals: [
    {
      process: 0,
      acceptedMessages: 9,
      accepted: 12,
      delivered: 7,
      deferred: 2,
      bounced: 1,
      faults: { sessions: 0, deliveries: 0, others: 0 },
      turnS: 0,
    },
  ],
  connectionsOut: 3,
  rates: { ms: MINUTE, acceptedMessages: 1, accepted: 2, delivered: 3, deferred: 4, bounced: 5 },
  pressure: null,
  overloaded: false,
  freeDiskBytes: 2 ** 30,
  counts: null,
  scheduler: { inFlight: 1, waitingRows: 2, destinations: 3, suspended: [], suspendedDestinations: 0 },
  journal: null,
  shards: [],
  storageFaults: [],
  file: { bytes: 2 ** 31, freeBytes: 2 ** 30, maxMb: 4096 },
  ...change,
});

const host = (change: Partial<HostStatus> = {}): HostStatus => ({
  ...part(),
  pid: 7,
  version: '1.2.3',
  startedAtMs: 0,
  listeners: ['127.0.0.1:25'],
  reload: null,
  processes: [],
  ...change,
});

test('what several processes say is one status: figures added, the worst of states, the oldest count', () => {
  const counts = (countedAtMs: number, oldestMs: number | null) => ({
    countedAtMs,
    oldestMs,
    rows: { ...noStates(), RETRY: 1 },
    messages: { ...noStates(), RETRY: 1 },
    recipients: { ...noStates(), RETRY: 5 },
  });
  const merged = mergeStatus([
    part({ counts: counts(90, 40), shards: [{ name: 's', up: true, error: 'old' }] }),
    part({
      counts: counts(80, null),
      pressure: 'disk',
      freeDiskBytes: 10,
      shards: [{ name: 's', up: false, error: 'gone' }],
      storageFaults: ['/r1: EIO'],
    }),
    part({ freeDiskBytes: null }),
  ]);
  assert.deepEqual([merged.connectionsIn, merged.connectionsOut, merged.pressure], [6, 9, 'disk']);
  assert.deepEqual(merged.rates, {
    ms: MINUTE,
    acceptedMessages: 3,
    accepted: 6,
    delivered: 9,
    deferred: 12,
    bounced: 15,
  });
  assert.deepEqual([merged.freeDiskBytes, merged.shards], [10, [{ name: 's', up: false, error: 'gone' }]]);
  const { countedAtMs, oldestMs, recipients } = merged.counts ?? counts(0, 0);
  assert.deepEqual([countedAtMs, oldestMs, recipients.RETRY], [80, 40, 10]);
  assert.deepEqual(mergeStatus([]).counts, null);
});

test('each cause impairs; what an operator ordered does not', () => {
  const causes = (change: Partial<HostStatus>) => impairments(host(change)).map(({ cause }) => cause);
  const { scheduler } = part();
  const ordered = { ...scheduler, holds: [{ kind: 'delivery_disabled' as const, detail: '' }] };
  assert.deepEqual(causes({ scheduler: ordered }), []);
  assert.deepEqual(causes({ pressure: 'disk', overloaded: true }), ['pressure', 'overloaded']);
  const draining = { ...scheduler, holds: [{ kind: 'draining' as const, detail: '' }] };
  assert.deepEqual(causes({ scheduler: draining }), ['draining']);
  assert.deepEqual(causes({ shards: [{ name: 's', up: false, error: '' }] }), ['shard_down']);
  assert.deepEqual(causes({ storageFaults: ['/r: EIO'] }), ['storage_fault']);
  const shard = { shard: 0, name: 's', waiting: 1, aside: 0, oldestMs: 7, error: 'away' };
  const journal = { bytes: 1, maxBytes: 2, waiting: 1, oldestMs: 7, shards: [shard] };
  assert.deepEqual(causes({ journal }), ['journal_stuck']);
  const process = {
    process: 1,
    pid: 5,
    accepts: true,
    restarts: 0,
    readySinceMs: 5,
    connections: 0,
    rssMb: 1,
  };
  assert.deepEqual(causes({ processes: [{ ...process, state: 'ready' }] }), []);
  assert.deepEqual(causes({ processes: [{ ...process, state: 'silent' }] }), ['process_down']);
  const down = { sinceMs: 0, lastError: 'gone', processes: 1, silent: 0, announced: 0, taken: 0, outages: 1 };
  assert.deepEqual(causes({ scheduler: { ...scheduler, cluster: { up: false, ...down } } }), ['redis_down']);
});

test('the screen says what is impaired, with nothing that steers a terminal', () => {
  const counts = {
    countedAtMs: NOW - 4000,
    oldestMs: NOW - MINUTE,
    rows: noStates(),
    messages: { ...noStates(), RETRY: 2, DEAD: 1 },
    recipients: { ...noStates(), RETRY: 7, DEAD: 1, PENDING: 1 },
  };
  const status = host({
    counts,
    pressure: 'disk',
    storageFaults: ['/r\u001b: EIO'],
    reload: { atMs: NOW - 1000, needsRestart: ['data_dir'], problems: [] },
  });
  assert.deepEqual(formatStatus(status, NOW).split('\n'), [
    'ProtoRelay 1.2.3, impaired, running for 10m (pid 7)',
    'Impaired    new mail is refused: disk',
    'Impaired    a storage cannot be used: /r?: EIO',
    'Listening   127.0.0.1:25',
    'Connections 2 in, 3 out',
    'Delivery    1 entry being sent, 2 waiting at 3 destinations',
    'Waiting     8 recipients, oldest 1m; counted 4s ago',
    'Queue       deferred 2 (7), held 0 (0), failed 1 (1): messages (recipients)',
    'Last minute accepted 1 message (2 recipients); delivered 3, deferred 4, bounced 5',
    'Free disk   1.0G',
    'Queue file  2.0G, 1.0G of it free; database.max_mb 4096',
    'Reload      1s ago; a restart is needed for data_dir',
    '',
  ]);
  const refused = { atMs: NOW - 1000, needsRestart: ['data_dir'], problems: ['bad'] };
  assert.match(
    formatStatus(host({ reload: refused }), NOW),
    /^Reload {6}refused 1s ago: bad; a restart is needed for data_dir$/m,
  );
  const { healthy, impaired, queue } = statusAnswer(status);
  assert.deepEqual(
    [healthy, impaired[0], queue?.recipients.deferred],
    [false, { cause: 'pressure', detail: 'disk' }, 7],
  );
  assert.match(formatStatus(host({}), NOW), /^Mail {8}is being counted$/m);
});

test('of a queue on servers what waits is what was counted there; before that, what a process guesses', () => {
  const counts = { countedAtMs: 1, oldestMs: null, rows: { ...noStates(), RETRY: 7, PENDING: 2, HELD: 3 } };
  const counted = { ...counts, messages: noStates(), recipients: noStates() };
  const shards = [{ name: 's', up: true, error: '' }];
  const waiting = (change: Partial<RelayStatus>) => mergeStatus([part(change)]).scheduler.waitingRows;
  assert.deepEqual([{ counts: counted, shards }, { shards }, { counts: counted }].map(waiting), [9, 2, 2]);
});

test('the files of several processes are added up; what each may have in use is said as the config has it', () => {
  const { file } = mergeStatus([part(), part()]);
  const process = { process: 1, pid: 5, accepts: true, state: 'ready' as const, restarts: 0 };
  const of = { ...process, readySinceMs: 5, connections: 0, rssMb: 1 };
  const text = formatStatus(host({ file, processes: [of, of] }), NOW);
  assert.match(text, /^Queue file {2}4\.0G, 2\.0G of it free; database\.max_mb 4096 for each process$/m);
  const answer = { size_bytes: 2 ** 32, free_bytes: 2 ** 31, max_mb: 4096 };
  assert.deepEqual(statusAnswer(host({ file })).file, answer);
  const unlimited = host({ file: { bytes: 1, freeBytes: 0, maxMb: 0 } });
  assert.match(formatStatus(unlimited, NOW), /; no limit \(database\.max_mb 0\)$/m);
  assert.equal(statusAnswer(unlimited).file?.max_mb, null);
});

test('rates are those of the last minute', () => {
  let steady = 0;
  const rates = new MinuteRates(() => steady);
  rates.counts.delivered = 5;
  assert.deepEqual([rates.lastMinute().delivered, rates.lastMinute().ms], [5, 0]);
  for (let i = 0; i < 20; i++) {
    steady += 5000;
    rates.sample();
  }
  steady += 2000;
  rates.counts.delivered += 3;
  const { ms, delivered } = rates.lastMinute();
  assert.deepEqual([ms, delivered], [57_000, 3]);
});
