/** Counters of quotas: windows, refusals, many users, many threads, restarts. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import type { UserQuotas } from '../../src/auth/auth.ts';
import { openQuotas, Quotas } from '../../src/auth/quotas.ts';

const dir = mkdtempSync(join(tmpdir(), 'auth-quotas-'));
after(() => rmSync(dir, { recursive: true, force: true }));

const limits = (given: Partial<UserQuotas>): UserQuotas => ({
  messagesPerHour: 0,
  messagesPerDay: 0,
  recipientsPerHour: 0,
  recipientsPerDay: 0,
  ...given,
});
const HOUR = 3_600_000;

test('a quota is taken up to its limit and comes back with the next hour or day', () => {
  let now = Date.UTC(2026, 0, 2, 3, 59, 59, 999);
  const quotas = new Quotas(new ArrayBuffer(64 * 64), () => now);
  const perHour = limits({ messagesPerHour: 2, messagesPerDay: 3 });
  assert.equal(quotas.take('a', perHour, 1), null);
  assert.equal(quotas.take('a', perHour, 1), null);
  assert.equal(quotas.check('a', perHour, 1, 0), 'messagesPerHour');
  assert.equal(quotas.take('a', perHour, 1), 'messagesPerHour');
  assert.equal(quotas.take('b', perHour, 1), null, 'each user has its own');
  now += 1;
  assert.equal(quotas.take('a', perHour, 1), null);
  assert.equal(quotas.take('a', perHour, 1), 'messagesPerDay');
  now = Date.UTC(2026, 0, 3);
  assert.equal(quotas.check('a', perHour, 1, 0), null);
});

test('recipients are counted with the message, all or none', () => {
  const quotas = new Quotas(new ArrayBuffer(64 * 64), () => 0);
  const some = limits({ messagesPerDay: 10, recipientsPerDay: 5 });
  assert.equal(quotas.take('a', some, 4), null);
  assert.equal(quotas.check('a', some, 0, 1), null);
  assert.equal(quotas.check('a', some, 0, 2), 'recipientsPerDay');
  for (let i = 0; i < 20; i++) assert.equal(quotas.take('a', some, 2), 'recipientsPerDay');
  assert.equal(quotas.take('a', some, 1), null, 'what was refused was not counted as messages either');
  quotas.giveBack('a', some, 4);
  assert.equal(quotas.take('a', some, 4), null);
});

test('giving back in another window gives nothing', () => {
  let now = 0;
  const quotas = new Quotas(new ArrayBuffer(64 * 64), () => now);
  const one = limits({ messagesPerHour: 1 });
  assert.equal(quotas.take('a', one, 1), null);
  now = HOUR;
  assert.equal(quotas.take('a', one, 1), null);
  now = 2 * HOUR;
  quotas.giveBack('a', one, 1);
  assert.equal(quotas.take('a', one, 1), null);
  assert.equal(quotas.take('a', one, 1), 'messagesPerHour');
});

test('users without a quota are not counted; a full table refuses, until the others’ day is over', () => {
  let now = 0;
  const quotas = new Quotas(new ArrayBuffer(64 * 64), () => now);
  const one = limits({ messagesPerHour: 5 });
  for (let i = 0; i < 1000; i++) assert.equal(quotas.take(`free${i}`, limits({}), 1), null);
  for (let i = 0; i < 64; i++) assert.equal(quotas.take(`user${i}`, one, 1), null, `${i}`);
  assert.equal(quotas.take('late', one, 1), 'full');
  assert.equal(quotas.check('late', one, 1, 0), 'full');
  assert.equal(quotas.take('user63', one, 1), null);
  now = 24 * HOUR;
  for (let i = 0; i < 64; i++) assert.equal(quotas.take(`next${i}`, one, 1), null, `${i}`);
  assert.equal(quotas.take('user0', one, 1), 'full');
});

test('what was counted is there after a restart, in another process’s table and with another size of quota', () => {
  const folder = join(dir, 'restart');
  const ten = limits({ messagesPerDay: 3 });
  const first = openQuotas(folder, 64, () => 5);
  assert.equal(first.take('a', ten, 1), null);
  const second = openQuotas(folder, 64, () => 5);
  assert.equal(second.take('a', ten, 1), null);
  assert.equal(first.take('a', ten, 1), null);
  assert.equal(second.take('a', ten, 1), 'messagesPerDay');
  assert.equal(openQuotas(folder, 64, () => 5).check('a', limits({ messagesPerDay: 4 }), 1, 0), null);
});

test('a table of a wrong size is made anew, all of it on disk', () => {
  const folder = join(dir, 'size');
  openQuotas(folder, 100);
  writeFileSync(join(folder, 'quotas-100'), 'short');
  assert.equal(openQuotas(folder, 100).take('a', limits({ messagesPerDay: 1 }), 1), null);
  const { size, blocks, mode } = statSync(join(folder, 'quotas-100'));
  assert.equal(size, 6400);
  assert.ok(blocks * 512 >= size);
  assert.equal(mode & 0o777, 0o600);
  assert.deepEqual(readdirSync(folder), ['quotas-100'], 'nothing else is left');
});

test('threads that count at once count exactly', { timeout: 60_000 }, async () => {
  const folder = join(dir, 'threads');
  const code = `
    const { workerData, parentPort } = require('node:worker_threads');
    import(workerData.module).then(({ openQuotas }) => {
      const quotas = openQuotas(workerData.folder, 64, () => 7);
      let taken = 0;
      for (let i = 0; i < 20000; i++) if (quotas.take('u' + (i % 7), workerData.limits, 2) === null) taken++;
      parentPort.postMessage(taken);
    });`;
  const workerData = {
    module: new URL('../../src/auth/quotas.ts', import.meta.url).href,
    folder,
    limits: limits({ messagesPerDay: 1000, recipientsPerHour: 1500 }),
  };
  const counts = await Promise.all(
    [1, 2, 3].map(
      () =>
        new Promise<number>((resolve, reject) => {
          new Worker(code, { eval: true, workerData }).once('message', resolve).once('error', reject);
        }),
    ),
  );
  const taken = counts.reduce((a, b) => a + b);
  assert.equal(taken, 7 * 750);
});
