/** Whether the listeners of a config could be opened now. */
import { lstatSync } from 'node:fs';
import { connect, createServer, isIP, type ListenOptions } from 'node:net';
import { dirname } from 'node:path';
import type { Finding, Say } from '../config/say.ts';
import type { Config } from '../config/schema.ts';
import { ifSound } from '../config/unsound.ts';
import { holderOf, lineageOf } from './holder.ts';

/** Longest path of a Unix socket. */
const MAX_PATH = 107;

/** @param relayPid the relay that runs on this data folder; null when none does. */
export async function checkListeners(
  { listeners, data_dir }: Config,
  relayPid: number | null,
  problem: Say,
  note: Say,
): Promise<void> {
  for (const [i, listener] of listeners.entries())
    await ifSound(async () => {
      const { host, port, path } = listener;
      if (path !== undefined)
        await checkPath(['listeners', i, 'path'], path, { relayPid, data_dir }, problem, note);
      else if (host !== undefined && port !== undefined)
        await checkPort(['listeners', i], host, port, relayPid, problem, note);
    });
}

async function checkPort(
  at: Finding['path'],
  host: string,
  port: number,
  relayPid: number | null,
  problem: Say,
  note: Say,
): Promise<void> {
  const place = `${isIP(host) === 6 ? `[${host}]` : host}:${port}`;
  switch (await errorOf({ host, port, exclusive: true })) {
    case 'EADDRINUSE': {
      const holder = holderOf(port);
      const own = relayPid !== null && (holder === null || lineageOf(holder.pid).includes(relayPid));
      if (own) {
        note([...at, 'port'], `the relay that runs with this data_dir (pid ${relayPid}) listens on ${place}`);
        return;
      }
      const who = holder === null ? 'another process' : `${holder.name} (pid ${holder.pid})`;
      problem([...at, 'port'], `${who} listens on ${place} already`, 'stop it, or write another port');
      return;
    }
    case 'EACCES':
      problem(
        [...at, 'port'],
        `this user may not listen on ${place}`,
        'give the relay the capability CAP_NET_BIND_SERVICE (AmbientCapabilities= of the unit), or write a port from 1024 on',
      );
      return;
    case 'EADDRNOTAVAIL':
      problem(
        [...at, 'host'],
        `no interface of this machine has the address ${host}`,
        'write one that it has; 0.0.0.0 means all of IPv4, :: all',
      );
      return;
    case 'EAFNOSUPPORT':
      problem([...at, 'host'], `this machine has no IPv${isIP(host)}`, 'write an address of the other kind');
  }
}

async function checkPath(
  at: Finding['path'],
  path: string,
  { relayPid, data_dir }: { relayPid: number | null; data_dir: string },
  problem: Say,
  note: Say,
): Promise<void> {
  if (Buffer.byteLength(path) > MAX_PATH) {
    problem(at, `${path} is longer than the ${MAX_PATH} octets that a Unix socket may have`);
    return;
  }
  try {
    if (!lstatSync(path).isSocket()) problem(at, `${path} is there, and is no socket`, 'write another path');
    else if (!(await answers(path))) return;
    else if (relayPid !== null)
      note(at, `the relay that runs with this data_dir (pid ${relayPid}) listens on ${path}`);
    else problem(at, `somebody listens on ${path} already`, 'stop it, or write another path');
  } catch {
    const folder = dirname(path);
    if (folder === data_dir) return; // which a start makes
    try {
      lstatSync(folder);
    } catch {
      problem(at, `the folder ${folder} is not there`, 'make it, or write another path');
    }
  }
}

/** Listens for a moment. The code of what kept it from that; null when nothing did. A name is for checkHosts. */
function errorOf(options: ListenOptions): Promise<string | null> {
  return new Promise((resolve) => {
    const server = createServer((socket) => void socket.destroy());
    server.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    server.listen(options, () => server.close(() => resolve(null)));
  });
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
