/** What the kernel says of a program: CPU time of a whole tree of processes, memory, open descriptors (Linux /proc). */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';

const TICKS_PER_SECOND = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }).trim());

interface Stat {
  parent: number;
  /** User and system time of the process with all its threads, seconds. */
  cpuSeconds: number;
  /** The same of children that ended and were waited for. */
  childrenSeconds: number;
}

function readStat(pid: number): Stat | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The name in brackets may hold spaces: fields begin after it.
    const fields = text
      .slice(text.lastIndexOf(')') + 2)
      .split(' ')
      .map(Number);
    const [, parent = 0] = fields;
    const ticks = (index: number): number => (fields[index] ?? 0) / TICKS_PER_SECOND;
    return { parent, cpuSeconds: ticks(11) + ticks(12), childrenSeconds: ticks(13) + ticks(14) };
  } catch {
    return null;
  }
}

/** `root` and its descendants alive now. */
export function processTree(root: number): number[] {
  const parents = new Map<number, number>();
  for (const name of readdirSync('/proc')) {
    const pid = Number(name);
    if (!Number.isInteger(pid)) continue;
    const stat = readStat(pid);
    if (stat !== null) parents.set(pid, stat.parent);
  }
  const tree = new Set([root]);
  for (let grown = -1; grown !== tree.size; ) {
    grown = tree.size;
    for (const [pid, parent] of parents) if (tree.has(parent)) tree.add(pid);
  }
  return [...tree];
}

/** CPU seconds used so far by `root` and its descendants, those that ended included. */
export function treeCpuSeconds(root: number): number {
  let seconds = 0;
  for (const pid of processTree(root)) {
    const stat = readStat(pid);
    if (stat !== null) seconds += stat.cpuSeconds + stat.childrenSeconds;
  }
  return seconds;
}

/** A figure of /proc/PID/status in bytes ('VmHWM': peak resident memory, 'VmRSS': now); NaN when it is gone. */
export function memoryBytes(pid: number, figure: 'VmHWM' | 'VmRSS'): number {
  try {
    const line = new RegExp(`^${figure}:\\s+(\\d+) kB`, 'm').exec(
      readFileSync(`/proc/${pid}/status`, 'latin1'),
    );
    return Number(line?.[1] ?? Number.NaN) * 1024;
  } catch {
    return Number.NaN;
  }
}

/** CPU seconds per thread of a process, by thread name, the busiest first. */
export function threadCpuSeconds(pid: number): { name: string; seconds: number }[] {
  const threads = readdirSync(`/proc/${pid}/task`).map((task) => {
    const text = readFileSync(`/proc/${pid}/task/${task}/stat`, 'latin1');
    const fields = text
      .slice(text.lastIndexOf(')') + 2)
      .split(' ')
      .map(Number);
    const seconds = ((fields[11] ?? 0) + (fields[12] ?? 0)) / TICKS_PER_SECOND;
    return { name: text.slice(text.indexOf('(') + 1, text.lastIndexOf(')')), seconds };
  });
  return threads.sort((a, b) => b.seconds - a.seconds);
}

export interface Machine {
  cpu: string;
  cores: number;
  memoryGb: number;
  kernel: string;
  node: string;
}

export function describeMachine(): Machine {
  const all = cpus();
  return {
    cpu: all[0]?.model ?? 'unknown',
    cores: all.length,
    memoryGb: Math.round(totalmem() / 2 ** 30),
    kernel: readFileSync('/proc/sys/kernel/osrelease', 'latin1').trim(),
    node: process.version,
  };
}
