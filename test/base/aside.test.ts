/** The barrier around work of the main thread beside the mail, and the work that stands behind it. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createGauges } from '../../src/admission/gauges.ts';
import { PressureGauge } from '../../src/admission/pressure.ts';
import { LoginDesk } from '../../src/auth/login-desk.ts';
import { Aside } from '../../src/base/aside.ts';
import { BrokenInvariant } from '../../src/base/broken-invariant.ts';
import { StsRefresh } from '../../src/delivery/security/sts-refresh.ts';
import { configOf, type LogLine, recordingLog } from '../session/dialog-fixture.ts';

function barrier() {
  const logged: LogLine[] = [];
  const seen = { faults: 0 };
  const aside = new Aside(recordingLog(logged), () => void seen.faults++);
  return { aside, logged, seen };
}

test('an error is logged with its stack and counted, one line a second; a broken invariant passes', async () => {
  const { aside, logged, seen } = barrier();
  for (let i = 0; i < 5; i++)
    aside.now('pressure', () => {
      throw new TypeError('injected');
    });
  await aside.later('mta-sts', () => Promise.reject(new TypeError('injected')));
  assert.equal(seen.faults, 6);
  assert.deepEqual(
    logged.map(({ level, event, fields }) => [level, event, fields?.at]),
    [['error', 'relay.fault', 'pressure']],
  );
  const broken = (): never => {
    throw new BrokenInvariant('injected');
  };
  assert.throws(() => aside.now('pressure', broken), BrokenInvariant);
  await assert.rejects(
    aside.later('pressure', async () => broken()),
    BrokenInvariant,
  );
  assert.equal(seen.faults, 6);
});

test('rounds that meet an error of ours go on with the next one', async () => {
  const { aside, seen } = barrier();
  const fail = (): never => {
    throw new TypeError('injected');
  };
  const refresh = new StsRefresh({
    store: { all: fail, write: fail },
    dns: { txt: fail },
    fetch: fail,
    rules: () => configOf({}).delivery.mta_sts,
    now: Date.now,
    random: () => 1,
    failed: fail,
    aside,
  });
  await refresh.round();
  await refresh.round();
  refresh.stop();
  assert.equal(seen.faults, 2);

  const config = configOf({});
  const gauge = new PressureGauge({
    config: { ...config, persist_min_available_memory_mb: 1 },
    gauges: createGauges(),
    arena: { freeBytes: () => 1, totalBytes: 1 },
    log: recordingLog([]),
    aside,
    commitAgeMs: () => 0,
    databaseFailing: () => false,
    mails: () => 0,
    availableMemory: () => (seen.faults < 2 ? 1e12 : fail()),
  });
  assert.throws(() => gauge.measure(), /injected/);
  seen.faults = 0;
  gauge.start();
  seen.faults = 2;
  for (let tries = 0; seen.faults < 3 && tries < 200; tries++) await sleep(10);
  gauge.stop();
  assert.ok(seen.faults >= 3);
});

test('a login whose check meets an error of ours is answered all the same', async (t) => {
  const { aside, seen } = barrier();
  const answers: unknown[] = [];
  const folder = mkdtempSync(join(tmpdir(), 'aside-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const desk = new LoginDesk(
    configOf({ auth: { path: folder }, listeners: [{ port: 0, auth: 'required' }] }),
    recordingLog([]),
    { loginAnswered: (...answer) => void answers.push(answer) },
    aside,
  );
  t.after(() => desk.close());
  const bad = {
    id: 7,
    get credentials(): never {
      throw new TypeError('injected');
    },
  };
  desk.take(3, {
    requests: [Object.assign(Object.create(bad), { id: 7 }) as never],
    failures: [],
    proofs: [],
  });
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(answers, [[3, { id: 7, result: 'unavailable' }]]);
  assert.equal(seen.faults, 1);
});
