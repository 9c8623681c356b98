/** What systemd gives and wants: sockets by name, readiness, watchdog; played by Python, which has such sockets. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type TestContext, test } from 'node:test';
import { run } from '../support/child.ts';
import { programPath, skipWithout } from '../support/programs.ts';
import { bounded, RelayFixture } from '../support/relay-fixture.ts';
import { Talk } from '../support/talk.ts';
import { pidOf } from './processes.ts';

const skip = skipWithout('python3');
const PACKAGING = join(import.meta.dirname, '../../packaging/systemd');

/** Opens sockets, passes them as descriptors 3 and up, and becomes the relay: as systemd starts a service. */
const ACTIVATE = `
import os, socket, sys
path = sys.argv[1]
tcp = socket.create_server(('127.0.0.1', 0))
local = socket.socket(socket.AF_UNIX); local.bind(path); local.listen(16)
# Away from 3 and 4 first, so that neither is overwritten before it is moved.
high = [os.dup(s.fileno()) for s in (tcp, local)]
high = [fd if fd > 4 else os.dup2(fd, 20 + i) for i, fd in enumerate(high)]
for number, fd in zip((3, 4), high): os.dup2(fd, number)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='2', LISTEN_FDNAMES='smtp:local')
os.execvp(sys.argv[2], sys.argv[2:])`;

for (const processes of [1, 2]) {
  test(`socket activation by name, ${processes} process(es)`, { skip, timeout: 60_000 }, async (t) => {
    const dir = mkdtempSync(join(tmpdir(), 'activate-'));
    t.after(() => rmSync(dir, { recursive: true, force: true }));
    const path = join(dir, 'local.sock');
    const relay = await RelayFixture.start(
      {
        accept_processes: processes,
        delivery: { enabled: false },
        listeners: [{ fd_name: 'local' }, { fd_name: 'smtp' }],
      },
      { wrapper: ['python3', '-c', ACTIVATE, path] },
    );
    t.after(() => relay.destroy());
    assert.equal(relay.addresses[0]?.path, path);
    assert.equal(relay.addresses[1]?.host, '127.0.0.1');
    for (const where of [{ path }, { host: '127.0.0.1', port: relay.port }])
      for (let i = 0; i < 6; i++) {
        const talk = await Talk.hello(where);
        await talk.accepted({ to: `x${i}@y.test` });
        await talk.quit();
      }
    const entries = await relay.queueEntries();
    assert.equal(entries.length, 12);
    const { stdout } = await relay.queue('cat', entries[11]?.queue_id as string);
    assert.match(stdout, /\[127\.0\.0\.1\]/);
    assert.equal((await relay.stop()).code, 0);
    // systemd keeps the file for the next start.
    assert.equal((await run('test', ['-S', path])).code, 0);
  });
}

test('sockets that were not passed stop the start with their name', { timeout: 60_000 }, async (t) => {
  for (const processes of [1, 2]) {
    const relay = new RelayFixture({ accept_processes: processes, listeners: [{ fd_name: 'smtp' }] });
    t.after(() => relay.destroy());
    relay.launch();
    assert.equal((await relay.exited()).code, 69);
    assert.match(
      relay.stderr,
      /listeners\[0\] wants the sockets "smtp" from systemd, which passed none at all/,
    );
  }
});

/** A service manager's end of NOTIFY_SOCKET. */
class Receiver {
  readonly path: string;
  readonly messages: string[] = [];
  readonly #process: ChildProcess;
  #arrived: () => void = () => {};
  readonly bound: Promise<void>;

  constructor(t: TestContext) {
    const dir = mkdtempSync(join(tmpdir(), 'notify-'));
    this.path = join(dir, 'notify.sock');
    const script = `
import json, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind(sys.argv[1])
print('"bound"', flush=True)
while True: print(json.dumps(s.recv(8192).decode()), flush=True)`;
    this.#process = spawn('python3', ['-c', script, this.path], { stdio: ['ignore', 'pipe', 'ignore'] });
    createInterface({ input: this.#process.stdout as NodeJS.ReadableStream }).on('line', (line) => {
      this.messages.push(JSON.parse(line) as string);
      this.#arrived();
    });
    t.after(() => {
      this.#process.kill();
      rmSync(dir, { recursive: true, force: true });
    });
    this.bound = this.until((messages) => messages.includes('bound'));
  }

  until(matches: (messages: string[]) => boolean, timeoutMs = 20_000): Promise<void> {
    const found = new Promise<void>((resolve) => {
      this.#arrived = () => {
        if (matches(this.messages)) resolve();
      };
      this.#arrived();
    });
    return bounded(found, timeoutMs, () => `told so far: ${this.messages.join(' | ')}`);
  }

  /** Without the bytes that differ from run to run. */
  told(): string[] {
    return this.messages
      .filter((message) => message !== 'bound' && message !== 'WATCHDOG=1')
      .map((message) => message.replace(/\d{4,}/, 'N'));
  }
}

for (const processes of [1, 2]) {
  test(`readiness, reload, watchdog and end are told, ${processes} process(es)`, {
    skip,
    timeout: 60_000,
  }, async (t) => {
    const receiver = new Receiver(t);
    await receiver.bound;
    const relay = await RelayFixture.start(
      { accept_processes: processes, delivery: { enabled: false } },
      { env: { NOTIFY_SOCKET: receiver.path, WATCHDOG_USEC: '400000' } },
    );
    t.after(() => relay.destroy());
    await receiver.until((messages) => messages.filter((m) => m === 'WATCHDOG=1').length >= 3);
    assert.deepEqual(receiver.told(), ['READY=1']);
    if (processes > 1) {
      const environment = readFileSync(`/proc/${pidOf(relay, 1)}/environ`, 'latin1');
      assert.doesNotMatch(environment, /NOTIFY_SOCKET|WATCHDOG_USEC/);
    }
    await relay.reload();
    await receiver.until((messages) => messages.filter((m) => m === 'READY=1').length >= 2);
    assert.equal((await relay.stop()).code, 0);
    await receiver.until((messages) => messages.includes('STOPPING=1'));
    const reload = 'RELOADING=1\nMONOTONIC_USEC=N';
    assert.deepEqual(receiver.told(), ['READY=1', reload, 'READY=1', 'STOPPING=1']);
  });
}

test('a process that hangs leaves the watchdog unfed until it is dealt with', {
  skip,
  timeout: 60_000,
}, async (t) => {
  const receiver = new Receiver(t);
  await receiver.bound;
  const relay = await RelayFixture.start(
    { accept_processes: 2, delivery: { enabled: false }, supervisor: { hang_timeout_ms: 9000 } },
    { env: { NOTIFY_SOCKET: receiver.path, WATCHDOG_USEC: '400000' } },
  );
  t.after(() => relay.destroy());
  const unfed = relay.logLine('watchdog.not_fed');
  const ended = relay.logLine('process.hangs', (line) => line.process === 1, 30_000);
  const back = relay.logLine('process.ready', (line) => line.process === 1, 30_000);
  process.kill(pidOf(relay, 1), 'SIGSTOP');
  await unfed;
  const before = receiver.messages.length;
  await ended;
  // One may be under way at either end.
  assert.ok(receiver.messages.length <= before + 2, 'fed while a process hung');
  await back;
  await receiver.until((messages) => messages.length > before + 5);
});

test('the unit files are what systemd accepts', {
  skip: programPath('systemd-analyze') === null ? 'not installed: systemd-analyze' : false,
  timeout: 60_000,
}, async () => {
  // The programs and the user of the unit are not on this machine: everything else must be in order.
  const files = ['protorelay.service', 'protorelay.socket'].map((name) => join(PACKAGING, name));
  const { stderr } = await run('systemd-analyze', ['verify', ...files]);
  const complaints = stderr
    .split('\n')
    .filter((line) => /protorelay\.(service|socket)/.test(line))
    .filter((line) => !/bin\/protorelay is not executable|not found/i.test(line));
  assert.deepEqual(complaints, []);
});

test('the unit keeps the promises its comments make', () => {
  const unit = readFileSync(join(PACKAGING, 'protorelay.service'), 'utf8');
  for (const line of [
    'Type=notify',
    'KillMode=mixed',
    'NoNewPrivileges=yes',
    'ProtectSystem=strict',
    'StateDirectory=protorelay',
    'RestartPreventExitStatus=64 65 73 78',
  ])
    assert.ok(unit.includes(`\n${line}\n`), line);
  const seconds = (key: string): number => Number(new RegExp(`^${key}=(\\d+)$`, 'm').exec(unit)?.[1]);
  assert.ok(seconds('TimeoutStopSec') > 20);
  assert.ok(seconds('WatchdogSec') > 30);
  const socket = readFileSync(join(PACKAGING, 'protorelay.socket'), 'utf8');
  assert.match(socket, /\nFileDescriptorName=smtp\n/);
});
