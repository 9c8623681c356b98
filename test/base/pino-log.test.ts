import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync, unlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { type ErrorCode, RelayError } from '../../src/base/errors.ts';
import { EXIT_OF_ERROR } from '../../src/base/exit-codes.ts';
import { type LogOptions, PinoLog } from '../../src/base/pino-log.ts';

function setUp(t: TestContext, options: Partial<LogOptions> = {}) {
  const dir = mkdtempSync(join(tmpdir(), 'log-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const file = join(dir, 'logs', 'relay.log');
  const log = new PinoLog({ level: 'info', format: 'json', file, ...options });
  const lines = (path = file): string[] => readFileSync(path, 'utf8').split('\n').slice(0, -1);
  return { dir, file, log, lines };
}

test('json: one object a line with level, time, event and fields', (t) => {
  const { log, lines } = setUp(t, { thread: 'session-0' });
  log.warn('session.closed', { session: 's1', error: new Error('gone') });
  const line = JSON.parse(lines()[0] as string) as Record<string, unknown>;
  assert.equal(line.level, 'warn');
  assert.equal(line.event, 'session.closed');
  assert.equal(line.session, 's1');
  assert.equal(line.thread, 'session-0');
  assert.equal((line.error as { message: string }).message, 'gone');
  assert.ok(Math.abs(Date.parse(String(line.time)) - Date.now()) < 60_000);
  log.close();
});

test('text: one readable line, values with blanks quoted', (t) => {
  const { log, lines } = setUp(t, { format: 'text' });
  log.error('disk.full', { path: '/var/lib', text: 'no space', free: 0 });
  assert.match(lines()[0] as string, /^\S+Z ERROR disk\.full path=\/var\/lib text="no space" free=0$/);
  log.warn('shard.down', { error: new RelayError('database_busy', 'shard a is busy'), paths: ['/a b'] });
  assert.match(
    lines()[1] as string,
    /WARN {2}shard\.down error\.code=database_busy error\.message="shard a is busy" paths=\["\/a b"\]$/,
  );
  log.close();
});

test('neither form has characters that steer a terminal or turn what is read', (t) => {
  const odd = 'a\u009b31m\u202eb\u001b[0m\u007f';
  for (const format of ['json', 'text'] as const) {
    const { log, lines } = setUp(t, { format });
    log.info('session.command', { line: odd, [odd]: 1 });
    const [line = ''] = lines();
    assert.doesNotMatch(line, /[\p{Cc}\u202e]/u);
    if (format === 'json') assert.equal((JSON.parse(line) as { line: string }).line, odd);
    log.close();
  }
});

test('a fault of the world’s is its words, said once; one of ours has its stack', (t) => {
  const { log, lines } = setUp(t);
  const shown = (error: unknown): Record<string, unknown> => {
    log.error('x', { error });
    return (JSON.parse(lines().at(-1) as string) as { error: Record<string, unknown> }).error;
  };
  for (const code of Object.keys(EXIT_OF_ERROR) as ErrorCode[]) {
    const error = shown(new RelayError(code, 'no room on /var', new Error('ENOSPC')));
    if (EXIT_OF_ERROR[code] === 70) assert.match(String(error.stack), /pino-log\.test/);
    else assert.deepEqual(error, { code, message: 'no room on /var' });
  }
  assert.match(String(shown(new Error('a fault')).stack), /pino-log\.test/);
  assert.deepEqual(shown('gone'), { message: 'gone' }, 'always an object');
  const ofSystem = (): unknown => {
    try {
      return readFileSync('/nowhere');
    } catch (error) {
      return error;
    }
  };
  const message = "ENOENT: no such file or directory, open '/nowhere'";
  assert.deepEqual(shown(ofSystem()), { code: 'ENOENT', message });
  log.setLevel('debug');
  assert.match(String(shown(ofSystem()).stack), /pino-log\.test/, 'for who looks into it');
  log.close();
});

test('lines below the level are not written; the level changes live', (t) => {
  const { log, lines } = setUp(t, { level: 'warn' });
  log.info('one');
  log.debug('one');
  log.setLevel('debug');
  log.debug('two');
  assert.deepEqual(
    lines().map((line) => (JSON.parse(line) as { event: string }).event),
    ['two'],
  );
  log.close();
});

test('reopen: after the file was moved the next line is in a new one', (t) => {
  const { file, log, lines } = setUp(t);
  log.info('one');
  renameSync(file, `${file}.1`);
  log.info('two');
  log.reopen();
  log.info('three');
  assert.equal(lines(`${file}.1`).length, 2);
  assert.equal(lines().length, 1);
  log.close();
});

test('reopen where no file can be made: the lines go on where they went, and the log says so', (t) => {
  const { dir, log, lines } = setUp(t);
  log.info('one');
  const moved = join(dir, 'moved');
  renameSync(join(dir, 'logs'), moved);
  log.reopen();
  log.info('two');
  assert.deepEqual(
    lines(join(moved, 'relay.log')).map((line) => (JSON.parse(line) as { event: string }).event),
    ['one', 'log.not_reopened', 'two'],
  );
  log.close();
});

test('full disk: the program goes on, and the lines follow when there is room', (t) => {
  const { file, log, lines } = setUp(t);
  log.info('zero');
  unlinkSync(file);
  symlinkSync('/dev/full', file);
  log.reopen();
  for (const event of ['one', 'two']) log.info(event);
  unlinkSync(file);
  log.reopen();
  log.info('three');
  assert.deepEqual(
    lines().map((line) => (JSON.parse(line) as { event: string }).event),
    ['one', 'two', 'three'],
  );
  log.close();
});

test('full disk for long: lines beyond the bound are dropped and counted', (t) => {
  const { file, log, lines } = setUp(t);
  log.info('zero');
  unlinkSync(file);
  symlinkSync('/dev/full', file);
  log.reopen();
  const text = 'x'.repeat(500_000);
  for (let i = 0; i < 12; i++) log.info('big', { text });
  unlinkSync(file);
  log.reopen();
  log.info('last');
  const events = lines().map((line) => JSON.parse(line) as { event: string; lines?: number });
  const dropped = events
    .filter((e) => e.event === 'log.lines_dropped')
    .reduce((sum, e) => sum + (e.lines ?? 0), 0);
  assert.ok(dropped > 0);
  assert.equal(events.filter((e) => e.event === 'big').length + dropped, 12);
  log.close();
});

test('threads write whole lines to the same file', async (t) => {
  const { file, log, lines } = setUp(t);
  const module = JSON.stringify(new URL('../../src/base/pino-log.ts', import.meta.url).href);
  const script = `import(${module}).then(({ PinoLog }) => {
    const log = new PinoLog({ level: 'info', format: 'json', file: ${JSON.stringify(file)}, thread: 'other' });
    for (let i = 0; i < 500; i++) log.info('line', { i, text: 'x'.repeat(200) });
    log.close();
  })`;
  const worker = new Worker(script, { eval: true });
  const ended = new Promise((resolve, reject) => worker.on('exit', resolve).on('error', reject));
  for (let i = 0; i < 500; i++) log.info('line', { i, text: 'y'.repeat(200) });
  await ended;
  const parsed = lines().map((line) => JSON.parse(line) as { thread?: string });
  assert.equal(parsed.length, 1000);
  assert.equal(parsed.filter((line) => line.thread === 'other').length, 500);
  log.close();
});
