import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { SLOW, testsFor } from './select.ts';

test('--unit: tests that start no process, and no long ones', () => {
  const { chosen } = testsFor(null);
  assert.ok(chosen.includes('test/session/session.test.ts'));
  assert.ok(!chosen.some((file) => /^test\/(system|crash|simulation|fuzz)\//.test(file)));
  assert.ok(!chosen.includes('test/database/mysql-cut.test.ts'));
  for (const file of SLOW) assert.ok(existsSync(file), `${file} is left out, and is no file`);
});

test('--changed: tests that import a changed file over others, and the unit tests of its folder', () => {
  const { chosen, left } = testsFor(new Set(['src/protocol/xtext.ts']));
  assert.ok(chosen.includes('test/session/auth.test.ts'));
  assert.ok(!chosen.includes('test/base/ip.test.ts'));
  assert.ok(left > 0);
  const native = testsFor(new Set(['native/line_scan.cc'])).chosen;
  assert.ok(native.length > 0 && native.every((file) => file.startsWith('test/native/')));
  assert.deepEqual(testsFor(new Set(['README.md'])).chosen, []);
});
