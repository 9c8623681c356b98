import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { sendDatagram } from '../../src/native.ts';
import { ServiceManager } from '../../src/supervisor/service-manager.ts';
import { type LogLine, recordingLog } from '../session/dialog-fixture.ts';
import { skipWithout } from '../support/programs.ts';

function setUp(environment: Record<string, string | undefined>, fail = false) {
  const sent: string[] = [];
  const logged: LogLine[] = [];
  const timers: { ms: number; fire: () => void; on: boolean }[] = [];
  const manager = new ServiceManager({
    environment,
    pid: 77,
    log: recordingLog(logged),
    sendDatagram: (path, text) => {
      if (fail) throw new Error('ECONNREFUSED');
      sent.push(`${path} ${text}`);
    },
    monotonicUs: () => 123n,
    setInterval(ms, fire) {
      const timer = { ms, fire, on: true };
      timers.push(timer);
      return {
        cancel: () => {
          timer.on = false;
        },
      };
    },
  });
  return { manager, sent, logged, timers, environment };
}

test('ready, reloading and stopping are told; without NOTIFY_SOCKET nothing is', () => {
  const { manager, sent, environment } = setUp({ NOTIFY_SOCKET: '/run/n', HOME: '/x' });
  manager.tell('ready');
  manager.tell('reloading');
  manager.tell('stopping');
  manager.status('2 processes');
  assert.deepEqual(sent, [
    '/run/n READY=1',
    '/run/n RELOADING=1\nMONOTONIC_USEC=123',
    '/run/n STOPPING=1',
    '/run/n STATUS=2 processes',
  ]);
  assert.deepEqual(environment, { HOME: '/x' }, 'what is meant for us is not passed on');
  const silent = setUp({});
  silent.manager.tell('ready');
  silent.manager.feedWatchdog(() => true);
  assert.deepEqual([silent.sent, silent.timers], [[], []]);
});

test('the watchdog is fed twice in its time, only while all is well, and no more once we stop', () => {
  const { manager, sent, timers, logged } = setUp({
    NOTIFY_SOCKET: '@n',
    WATCHDOG_USEC: '4000000',
    WATCHDOG_PID: '77',
  });
  let healthy = true;
  manager.feedWatchdog(() => healthy);
  const [timer] = timers;
  assert.equal(timer?.ms, 2000);
  timer?.fire();
  healthy = false;
  timer?.fire();
  assert.deepEqual(sent, ['@n WATCHDOG=1']);
  assert.equal(logged.at(-1)?.event, 'watchdog.not_fed');
  manager.tell('stopping');
  assert.equal(timer?.on, false);
  const other = setUp({ NOTIFY_SOCKET: '@n', WATCHDOG_USEC: '4000000', WATCHDOG_PID: '78' });
  other.manager.feedWatchdog(() => true);
  assert.deepEqual(other.timers, [], 'a watchdog of another process');
});

test('a service manager that cannot be reached is said once, and nothing stops', () => {
  const { manager, logged } = setUp({ NOTIFY_SOCKET: '/run/n' }, true);
  manager.tell('ready');
  manager.tell('reloading');
  assert.deepEqual(
    logged.map(({ event }) => event),
    ['service_manager.unreachable'],
  );
});

test('sockets are taken by name, and only when they are for this process', () => {
  const passed = { LISTEN_PID: '77', LISTEN_FDS: '4', LISTEN_FDNAMES: 'smtp:submission:smtp' };
  const { manager, environment } = setUp({ ...passed });
  assert.deepEqual(
    [...manager.sockets],
    [
      ['smtp', [3, 5]],
      ['submission', [4]],
      ['unknown', [6]],
    ],
  );
  assert.deepEqual(environment, {});
  assert.deepEqual([...setUp({ ...passed, LISTEN_PID: '76' }).manager.sockets], []);
  assert.deepEqual([...setUp({}).manager.sockets], []);
});

test('datagrams reach a real socket, by path and by abstract name; none there is an error', {
  skip: skipWithout('python3'),
}, async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'notify-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const path = join(dir, 'n.sock');
  const abstract = `@protorelay-test-${process.pid}`;
  const script = `
import socket, sys
a = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); a.bind(sys.argv[1])
b = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); b.bind('\\0' + sys.argv[2][1:])
print('bound', flush=True)
print(a.recv(4096).decode(), flush=True); print(b.recv(4096).decode(), flush=True)`;
  const receiver = spawn('python3', [
    '-c',
    script,
    path,
    process.platform === 'linux' ? abstract : `@${dir}`,
  ]);
  t.after(() => receiver.kill());
  const lines = createInterface({ input: receiver.stdout })[Symbol.asyncIterator]();
  const line = async (): Promise<string> => (await lines.next()).value as string;
  assert.equal(await line(), 'bound');
  sendDatagram(path, 'READY=1');
  sendDatagram(abstract, 'WATCHDOG=1');
  assert.deepEqual([await line(), await line()], ['READY=1', 'WATCHDOG=1']);
  assert.throws(() => sendDatagram(join(dir, 'nobody'), 'x'), { code: 'ENOENT' });
  assert.throws(() => sendDatagram(join(dir, 'long'.repeat(50)), 'x'), { code: 'ENAMETOOLONG' });
});
