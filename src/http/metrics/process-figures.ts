/** What the kernel knows of a process (proc(5)), as samples; nothing where it does not tell. */
import { readdir, readFile } from 'node:fs/promises';
import type { Samples } from './exposition.ts';

/** The unit of times in /proc, whatever the kernel's own. */
const TICKS_PER_S = 100;

export async function processFigures(samples: Samples, pid: number, process: string): Promise<void> {
  const folder = `/proc/${pid}`;
  try {
    const [stat, status, limits, machine, fds] = await Promise.all([
      readFile(`${folder}/stat`, 'latin1'),
      readFile(`${folder}/status`, 'latin1'),
      readFile(`${folder}/limits`, 'latin1'),
      readFile('/proc/stat', 'latin1'),
      readdir(`${folder}/fd`),
    ]);
    // The name of the program may have any characters, but what follows it has no parenthesis.
    const fields = stat
      .slice(stat.lastIndexOf(')') + 2)
      .split(' ')
      .map(Number);
    const [userTicks = 0, systemTicks = 0] = fields.slice(11, 13);
    const [startTicks = 0] = fields.slice(19, 20);
    const bootS = figureAfter(machine, 'btime ');
    samples.add('process_cpu_seconds_total', (userTicks + systemTicks) / TICKS_PER_S, { process });
    samples.add('process_resident_memory_bytes', figureAfter(status, 'VmRSS:') * 1024, { process });
    samples.add('process_open_fds', fds.length, { process });
    samples.add('process_max_fds', figureAfter(limits, 'Max open files'), { process });
    samples.add('process_start_time_seconds', bootS + startTicks / TICKS_PER_S, { process });
  } catch {
    // It ended, or is another user's.
  }
}

/** The number after the words that begin a line; 0: there is none. */
function figureAfter(text: string, words: string): number {
  const line = text.split('\n').find((one) => one.startsWith(words)) ?? '';
  return Number.parseInt(line.slice(words.length), 10) || 0;
}
