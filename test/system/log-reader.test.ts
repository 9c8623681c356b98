/** A reader of the log that stands still keeps no mail waiting, and not the end of the relay either. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { LogSink } from '../../src/base/log-sink.ts';
import { freePort } from '../support/free-port.ts';
import { MAIN, RelayFixture, type Settings } from '../support/relay-fixture.ts';
import { Talk } from '../support/talk.ts';
import { eventually } from '../support/wait.ts';

/** A relay whose standard output and error are one pipe, or one socket, that nobody reads. */
async function unread(t: TestContext, kind: 'pipe' | 'socket', settings: Settings) {
  const port = await freePort();
  const place = new RelayFixture({
    listeners: [{ host: '127.0.0.1', port }],
    delivery: { enabled: false },
    log: { level: 'info', format: 'json', file: null, transcripts: { inbound: true } },
    shutdown_grace_ms: 1000,
    ...settings,
  });
  t.after(() => place.destroy());
  const pipe = join(place.dir, 'stdout.pipe');
  execFileSync('mkfifo', [pipe]);
  const reader = openSync(pipe, constants.O_RDWR);
  t.after(() => closeSync(reader));
  const command = `exec "${process.execPath}" "${MAIN}" -c "${place.configPath}" 2>&1`;
  // What Node calls a pipe is a socket.
  const stdio = ['ignore', kind === 'pipe' ? reader : 'pipe', 'inherit'] as const;
  const child = spawn('sh', ['-c', command], { stdio: [...stdio] });
  child.stdout?.pause();
  t.after(() => child.kill('SIGKILL'));
  const talk = async (): Promise<Talk> => {
    let opened: Talk | undefined;
    await eventually(async () => {
      opened = await Talk.hello({ host: '127.0.0.1', port });
    }, 20_000);
    return opened as Talk;
  };
  return { place, child, talk };
}

/** More than a pipe holds (64 KiB), by every thread. */
async function fill(talk: () => Promise<Talk>): Promise<Talk[]> {
  const talks: Talk[] = [];
  for (let i = 0; i < 4; i++) {
    const one = await talk();
    for (let line = 0; line < 160; line++) assert.match(await one.say(`NOOP ${'x'.repeat(200)}`), /^250/);
    talks.push(one);
  }
  return talks;
}

for (const [kind, accept_processes] of [
  ['pipe', 1],
  ['pipe', 2],
  ['socket', 1],
] as const)
  test(`mail flows and SIGTERM ends it with a full ${kind} (${accept_processes} processes)`, async (t) => {
    const { child, talk } = await unread(t, kind, { accept_processes, session_threads: 2 });
    const talks = await fill(talk);
    for (const one of talks) {
      await one.send({ from: 'a@a.test', to: 'b@b.test' });
      one.socket.destroy();
    }
    child.kill('SIGTERM');
    const [code] = await once(child, 'exit');
    assert.equal(code, 0);
  });

test('what waited comes when it is read again; what was dropped is counted and said', (t) => {
  const place = new RelayFixture();
  t.after(() => place.destroy());
  const pipe = join(place.dir, 'log.pipe');
  execFileSync('mkfifo', [pipe]);
  const said: number[] = [];
  const sink = new LogSink({ file: pipe, maxWaitingBytes: 100_000, flowsAgain: (lines) => said.push(lines) });
  const reader = openSync(pipe, 'r');
  const line = `${'x'.repeat(999)}\n`;
  for (let i = 0; i < 400; i++) sink.write(line);
  const bytes = Buffer.alloc(65_536);
  let read = 0;
  // Each write first tries what waits.
  for (let rounds = 0; said.length === 0 && rounds < 50; rounds++) {
    read += readSync(reader, bytes);
    sink.write(line);
  }
  assert.equal(said.length, 1);
  assert.ok((said[0] as number) > 200);
  sink.close();
  closeSync(reader);
  assert.equal(read % line.length, 0);
});
