import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CalmLog } from '../../src/base/calm-log.ts';
import { type AnyLog, type LogEvent, silentLog } from '../../src/base/log.ts';
import { faultsTo, intakeLog, loginLog, mailLog, sessionLog } from '../../src/session/flood-log.ts';
import { type LogLine, recordingLog } from '../session/dialog-fixture.ts';

type Line = [event: string, fields: Record<string, unknown> | undefined];

const CALMED = { event: 'policy.hit', linesPerSecond: 3, kind: 'rule' } as const;

test('of a flood so many lines a second are written, and of the rest how many of each kind', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  const lines: Line[] = [];
  const log = new CalmLog(
    { ...silentLog, info: (event, fields) => void lines.push([event, { ...fields }]) },
    [CALMED],
    Date.now,
  );
  for (let i = 0; i < 10; i++) log.info('policy.hit', { rule: i % 2 === 0 ? 'ban' : 'tarpit', number: i });
  for (let i = 0; i < 5; i++) log.info('another', { number: i });
  assert.deepEqual(
    lines.map(([event]) => event),
    [...Array(3).fill('policy.hit'), ...Array(5).fill('another')],
    'other events are nobody’s concern',
  );
  assert.deepEqual(lines[2], ['policy.hit', { rule: 'ban', number: 2 }]);
  t.mock.timers.tick(999);
  assert.equal(lines.length, 8, 'not before the second is over');
  t.mock.timers.tick(1);
  assert.deepEqual(lines[8], ['log.left_out', { of: 'policy.hit', lines: 7, kinds: { ban: 3, tarpit: 4 } }]);
  t.mock.timers.tick(10_000);
  assert.equal(lines.length, 9, 'told once, also when nothing follows');
  log.info('policy.hit', { rule: 'ban' });
  assert.deepEqual(lines[9], ['policy.hit', { rule: 'ban' }], 'a new second, new lines');
});

test('when the flood goes on, what was left out comes before the next lines; nothing goes uncounted', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  const lines: Line[] = [];
  const log = new CalmLog(
    { ...silentLog, info: (event, fields) => void lines.push([event, { ...fields }]) },
    [CALMED],
    Date.now,
  );
  for (let i = 0; i < 5000; i++) {
    log.info('policy.hit', { rule: 'ban' });
    t.mock.timers.tick(1);
  }
  t.mock.timers.tick(2000);
  const written = lines.filter(([event]) => event === 'policy.hit').length;
  const told = lines.filter(([event]) => event === 'log.left_out');
  assert.ok(written >= 15 && written <= 18, `${written} lines in five seconds`);
  assert.equal(
    told.reduce((sum, [, fields]) => sum + Number(fields?.lines), written),
    5000,
  );
  assert.ok(told.length <= 6, `${told.length} lines about the rest`);
});

test('debug lines pass, every other level has the bound; so has each event that clients cause', () => {
  const seen: string[] = [];
  const note = (event: string): void => void seen.push(event);
  const all = { debug: note, info: note, warn: note, error: note };
  const log = new CalmLog(all, [CALMED]);
  for (let i = 0; i < 5; i++) log.debug('policy.hit');
  assert.equal(seen.length, 5);
  for (const level of ['info', 'warn', 'error'] as const)
    for (let i = 0; i < 5; i++) log[level]('policy.hit');
  assert.ok(seen.length < 20);
  const sessions: AnyLog = sessionLog(all);
  const commits: AnyLog = intakeLog(all);
  for (const [event, flood] of [
    ['session.fault', () => sessions.error('session.fault', {})],
    ['delivery.fault', faultsTo(all) as (fields: object) => void],
    ['commit.failed', () => commits.error('commit.failed', {})],
  ] as const) {
    seen.length = 0;
    for (let i = 0; i < 1000; i++) flood({});
    assert.ok(seen.length >= 5 && seen.length <= 20, `${event}: ${seen.length}`);
  }
  for (const [event, flood] of [
    ['policy.hit', sessionLog(all)],
    ['session.refused', sessionLog(all)],
    ['session.tls_failed', sessionLog(all)],
    ['session.proxy_refused', sessionLog(all)],
    ['auth.failed', loginLog(all)],
  ] as [LogEvent, AnyLog][]) {
    seen.length = 0;
    for (let i = 0; i < 1000; i++) flood.info(event, {});
    assert.ok(seen.length >= 100 && seen.length <= 300, `${event}: ${seen.length}`);
  }
});

test('what comes one a message while a shard is away is ten lines a second, and one with the rest', () => {
  for (const [event, level, fields] of [
    ['commit.retrying', 'warn', { error: 'shard a is down' }],
    ['settlement.rejected', 'warn', { advice: 'another lease' }],
    ['scheduler.claim_failed', 'warn', { error: new Error('shard a is down') }],
    ['destination.suspended', 'info', { reason: 'connect_failed' }],
  ] as const) {
    const logged: LogLine[] = [];
    const log: AnyLog = mailLog(recordingLog(logged));
    const beganMs = performance.now();
    for (let i = 0; i < 5000; i++) log[level](event, { ...fields, queue_id: `${i}` });
    const seconds = Math.ceil((performance.now() - beganMs) / 1000) + 1;
    assert.ok(logged.length >= 10 && logged.length <= seconds * 11, `${event}: ${logged.length} lines`);
    assert.deepEqual([...new Set(logged.map((line) => line.level))], [level]);
    log.info('shard.up', {});
    assert.equal(logged.at(-1)?.event, 'shard.up', 'all else passes');
  }
});
