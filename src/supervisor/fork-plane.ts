/** Starts the process of the HTTP plane. */
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { ForkedPlane, PlaneEvents } from './plane-keeper.ts';
import type { FromPlane } from './plane-messages.ts';

const PLANE_PROCESS = fileURLToPath(new URL('./plane-process.ts', import.meta.url));

export function forkPlane(events: PlaneEvents): ForkedPlane {
  const child = fork(PLANE_PROCESS, [], {
    serialization: 'advanced',
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  // Without a pid it could not be started. Other errors come from messages to a process that just ended: see `exit`.
  child.on('error', () => {
    if (child.pid === undefined) events.exit(null, 'a failed start');
  });
  child.on('message', (message: FromPlane) => events.message(message));
  child.once('close', (code, signal) => events.exit(code, signal));
  return {
    pid: child.pid ?? 0,
    send: (message) => {
      if (child.connected) child.send(message);
    },
    kill: (signal) => void child.kill(signal),
  };
}
