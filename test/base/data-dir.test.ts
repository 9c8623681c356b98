import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { type TestContext, test } from 'node:test';
import { lockDataDir } from '../../src/base/data-dir.ts';

const module = resolve(import.meta.dirname, '../../src/base/data-dir.ts');

function folder(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'lock-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return join(dir, 'a', 'data');
}

test('the folder is made for its owner only', (t) => {
  const dir = folder(t);
  lockDataDir(dir).release();
  assert.equal(statSync(dir).mode & 0o777, 0o700);
});

test('a second relay on the same folder is refused, naming the pid of the first', (t) => {
  const dir = folder(t);
  const lock = lockDataDir(dir);
  assert.throws(() => lockDataDir(dir), {
    code: 'already_running',
    message: new RegExp(`pid ${process.pid}\\)`),
  });
  lock.release();
  lockDataDir(dir).release();
});

test('kill -9 of the holder frees the folder', async (t) => {
  const dir = folder(t);
  // The lock lives as long as somebody refers to it.
  const script = `globalThis.lock = (await import(${JSON.stringify(module)})).lockDataDir(${JSON.stringify(dir)}); console.log('held'); setInterval(() => {}, 1000)`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  assert.throws(() => lockDataDir(dir), {
    code: 'already_running',
    message: new RegExp(`pid ${child.pid}\\)`),
  });
  child.kill('SIGKILL');
  await once(child, 'exit');
  lockDataDir(dir).release();
});

test('a path that cannot be a folder is named with its reason', (t) => {
  const dir = folder(t);
  lockDataDir(dir).release();
  const file = join(dir, 'file');
  writeFileSync(file, '');
  assert.throws(() => lockDataDir(join(file, 'data')), {
    code: 'data_dir_unusable',
    message: /file\/data cannot be used: ENOTDIR/,
  });
});
