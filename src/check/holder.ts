/** Who listens on a TCP port of this machine, as Linux tells it in /proc. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { basename } from 'node:path';

export interface Holder {
  pid: number;
  name: string;
}

const LISTEN = '0A';

/** The process that has a listening socket on the port; null when it cannot be told. */
export function holderOf(port: number): Holder | null {
  const inodes = new Set(['tcp', 'tcp6'].flatMap((table) => listeningInodes(table, port)));
  if (inodes.size === 0) return null;
  for (const pid of names('/proc').filter((name) => /^\d+$/.test(name)))
    for (const fd of names(`/proc/${pid}/fd`)) {
      const [, inode = ''] = /^socket:\[(\d+)\]$/.exec(linkOf(`/proc/${pid}/fd/${fd}`)) ?? [];
      if (inodes.has(inode)) return { pid: Number(pid), name: nameOf(pid) };
    }
  return null;
}

/** The program as it was started; threads of Node rename the process. */
function nameOf(pid: string): string {
  const [program = ''] = textOf(`/proc/${pid}/cmdline`).split('\0');
  return basename(program) || textOf(`/proc/${pid}/comm`).trim();
}

/** Pids of a process and those it descends from. */
export function lineageOf(pid: number): number[] {
  const parent = Number(/^PPid:\s*(\d+)/m.exec(textOf(`/proc/${pid}/status`))?.[1] ?? 0);
  return parent > 1 ? [pid, ...lineageOf(parent)] : [pid];
}

function listeningInodes(table: string, port: number): string[] {
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  return textOf(`/proc/net/${table}`)
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .flatMap(([, local = '', , state, , , , , , inode = '']) =>
      local.endsWith(suffix) && state === LISTEN ? [inode] : [],
    );
}

function names(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
