import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { type TestContext, test } from 'node:test';

const root = resolve(import.meta.dirname, '../..');

/** `npm start` in a process group of its own; while a transaction is open, `end` is called, and events are given back. */
async function startAndEnd(t: TestContext, end: (pid: number) => void): Promise<string[]> {
  const dir = mkdtempSync(join(tmpdir(), 'npm-'));
  const settings = {
    data_dir: 'data',
    listeners: [{ host: '127.0.0.1', port: 0 }],
    delivery: { enabled: false },
  };
  writeFileSync(join(dir, 'relay.json'), JSON.stringify(settings));
  // A process group of its own, as a terminal gives to what it starts. The path is relative to where npm is called.
  const npm = spawn('npm', ['--prefix', root, 'start', '--loglevel=error', '--', '--config', 'relay.json'], {
    cwd: dir,
    detached: true,
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const exited = once(npm, 'exit');
  t.after(() => {
    try {
      process.kill(-(npm.pid as number), 'SIGKILL');
    } catch {
      // It ended by itself, as it should.
    }
    rmSync(dir, { recursive: true, force: true });
  });
  const events: string[] = [];
  for await (const line of createInterface({ input: npm.stdout })) {
    if (!line.startsWith('{')) continue;
    const { event, addresses } = JSON.parse(line) as { event: string; addresses?: { port: number }[] };
    events.push(event);
    if (event === 'relay.ready') {
      const client = createConnection(addresses?.[0]?.port as number, '127.0.0.1').setEncoding('utf8');
      client.write('EHLO c.test\r\nMAIL FROM:<a@a.test>\r\n');
      let answers = '';
      client.on('data', (text: string) => {
        const wasOpen = answers.includes('250 2.1.0');
        answers += text;
        if (!wasOpen && answers.includes('250 2.1.0')) end(npm.pid as number);
      });
      client.on('error', () => {});
      t.after(() => client.destroy());
      npm.stdout.on('data', (text: Buffer) => {
        // Drain has begun and waits for the transaction: end it.
        if (text.includes('relay.draining')) client.end('QUIT\r\n');
      });
    }
  }
  await exited;
  return events.filter((event) => /^relay\.(ready|draining|stopping-now|grace-over|stopped)$/.test(event));
}

const DRAINED = ['relay.ready', 'relay.draining', 'relay.stopped'];

test('npm start: builds, runs with the config named, and Ctrl-C, which npm may repeat, still drains', {
  timeout: 120_000,
}, async (t) => {
  assert.deepEqual(await startAndEnd(t, (pid) => process.kill(-pid, 'SIGINT')), DRAINED);
});

for (const signal of ['SIGHUP', 'SIGKILL'] as const)
  test(`npm start: ${signal} ends npm, which cannot hand it on, and its relay drains`, {
    timeout: 120_000,
  }, async (t) => {
    assert.deepEqual(await startAndEnd(t, (pid) => process.kill(pid, signal)), DRAINED);
  });

test('npm start: a TERM to npm alone ends its relay as well', { timeout: 120_000 }, async (t) => {
  assert.deepEqual(await startAndEnd(t, (pid) => process.kill(pid, 'SIGTERM')), DRAINED);
});
