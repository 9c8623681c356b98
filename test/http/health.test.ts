/** What of a relay's state makes it ready, and what only degrades it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { HostStatus, Impairment } from '../../src/control/status.ts';
import { healthOf } from '../../src/http/health.ts';

/** A healthy relay, as far as health looks. */
function status(changes: Partial<HostStatus> = {}): HostStatus {
  return {
    pressure: null,
    overloaded: false,
    scheduler: { holds: [] },
    shards: [],
    journal: null,
    storageFaults: [],
    processes: [],
    listeners: ['127.0.0.1:25'],
    ...changes,
  } as unknown as HostStatus;
}

const held = (kind: Impairment['cause']): Partial<HostStatus> =>
  ({ scheduler: { holds: [{ kind, detail: '' }] } }) as unknown as Partial<HostStatus>;
const process = (state: string): HostStatus['processes'][number] =>
  ({ state }) as unknown as HostStatus['processes'][number];

const CASES: [string, Partial<HostStatus>, string[], string[]][] = [
  ['nothing wrong', {}, [], []],
  ['memory short', { pressure: 'memory' }, ['pressure'], []],
  ['overload', { overloaded: true }, ['overloaded'], []],
  ['drain', held('draining'), ['draining'], []],
  ['no database', held('database_away'), ['database_away'], []],
  ['a shard of several', { shards: [{ name: 'a', up: false, error: 'x' }] }, [], ['shard_down']],
  ['no Redis', { scheduler: { cluster: { up: false, lastError: 'x' } } } as never, [], ['redis_down']],
  ['storage', { storageFaults: ['root 1'] }, ['storage_fault'], []],
  ['one process of two', { processes: [process('ready'), process('waiting')] }, [], ['process_down']],
  ['no process', { processes: [process('starting')] }, ['starting'], ['process_down']],
  ['no listener', { listeners: [] }, ['no_listener'], []],
];

for (const [name, changes, reasons, degraded] of CASES)
  test(`health with ${name}`, () => {
    const ready = reasons.length === 0;
    assert.deepEqual(healthOf(status(changes)), { live: true, ready, reasons, degraded });
  });
