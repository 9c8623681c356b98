import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { LOG_EVENTS, silentLog } from '../../src/base/log.ts';
import { LOG_FIELDS } from '../../src/base/log-fields.ts';
import { logPage } from '../../src/base/log-page.ts';

const root = join(import.meta.dirname, '../..');
const events = Object.entries(LOG_EVENTS);

test('docs/log.md is what the tables say', () => {
  const stale = 'stale: run bin/protorelay config reference --write';
  assert.equal(readFileSync(join(root, 'docs/log.md'), 'utf8'), logPage(), stale);
});

test('every event of the tables is written somewhere, and every field is one of an event', () => {
  const source = globSync('src/**/*.ts', { cwd: root, exclude: (path) => path.includes('log-events') })
    .map((path) => readFileSync(join(root, path), 'utf8'))
    .join('\n');
  const unused = events.map(([name]) => name).filter((name) => !source.includes(`'${name}'`));
  assert.deepEqual(unused, []);
  const named = new Set(events.flatMap(([, { fields }]) => fields.map((field) => field.replace('?', ''))));
  assert.deepEqual(
    Object.keys(LOG_FIELDS).filter((field) => !named.has(field)),
    [],
  );
});

test('names are those of docs/words.md: snake_case within dots, times as _at, units last', () => {
  for (const [name, { means }] of events) {
    assert.match(name, /^[a-z][a-z0-9]*(_[a-z0-9]+)*\.[a-z0-9]+(_[a-z0-9]+)*$/);
    assert.match(means, /^[A-Z].*\.$/, name);
  }
  for (const [field, [is]] of Object.entries(LOG_FIELDS)) {
    assert.match(field, /^[a-z][a-z0-9]*(_[a-z0-9]+)*$/);
    assert.equal(field.endsWith('_at'), is === 'time', field);
    if (/(^|_)(ms|s|bytes|mb)$/.test(field)) assert.equal(is, 'number', field);
    assert.doesNotMatch(field, /_(ms|bytes|mb)_/, field);
  }
});

test('the compiler holds every call to the tables', () => {
  // @ts-expect-error: there is no such event
  silentLog.info('shard.sideways', {});
  // @ts-expect-error: it has another level
  silentLog.error('shard.up', { shard: 'a', down_ms: 1 });
  // @ts-expect-error: it has no such field
  silentLog.info('shard.up', { shard: 'a', down_ms: 1, upMs: 1 });
  // @ts-expect-error: a field is missing
  silentLog.info('shard.up', { shard: 'a' });
  // @ts-expect-error: a field is of another kind
  silentLog.info('shard.up', { shard: 'a', down_ms: '1 s' });
});
