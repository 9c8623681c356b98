/** Results on disk: one JSON file per run, with machine, command and durability, and a Markdown table beside it. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { describeMachine, type Machine } from './proc.ts';

/** Load of the machine before we began: what else ran beside the measurement. */
const LOAD_BEFORE = Math.round((loadavg()[0] ?? 0) * 100) / 100;
const FOLDER = resolve(import.meta.dirname, '../results');

export interface ResultFile {
  name: string;
  when: string;
  commit: string;
  machine: Machine;
  /** Load average of the minute before the start. */
  loadBefore: number;
  command: string;
  /** What was on stable storage when a message was acknowledged. */
  durability: string;
  results: unknown;
}

/** Writes `<name>.json` and `<name>.md` in bench/results; returns the path of the JSON file. */
export function writeResults(name: string, durability: string, results: unknown, markdown: string): string {
  mkdirSync(FOLDER, { recursive: true });
  const file: ResultFile = {
    name,
    when: new Date().toISOString(),
    commit: commit(),
    machine: describeMachine(),
    loadBefore: LOAD_BEFORE,
    command: ['node', ...process.argv.slice(1).map(shorten)].join(' '),
    durability,
    results,
  };
  const { cpu, cores, memoryGb, kernel, node } = file.machine;
  const about = [
    `# ${name}`,
    '',
    `- ${file.when}, commit ${file.commit}`,
    `- ${cpu}, ${cores} cores, ${memoryGb} GB, Linux ${kernel}, Node ${node}; load before: ${LOAD_BEFORE}`,
    `- \`${file.command}\``,
    `- durability: ${durability}`,
    '',
  ];
  writeFileSync(join(FOLDER, `${name}.md`), `${about.join('\n')}\n${markdown}`);
  const path = join(FOLDER, `${name}.json`);
  writeFileSync(path, `${JSON.stringify(file, null, 2)}\n`);
  return relative(process.cwd(), path);
}

/** A Markdown table; numbers to the right. */
export function table(titles: string[], rows: (string | number)[][]): string {
  const line = (cells: (string | number)[]): string => `| ${cells.join(' | ')} |`;
  const rule = `|${titles.map((_, i) => (i === 0 ? '---' : '---:')).join('|')}|`;
  return `${[line(titles), rule, ...rows.map(line)].join('\n')}\n`;
}

/** 12345.6 → '12,346'; small figures keep two decimals. */
export function figure(value: number): string {
  if (!Number.isFinite(value)) return '–';
  return Math.abs(value) >= 100
    ? Math.round(value).toLocaleString('en')
    : String(Math.round(value * 100) / 100);
}

function shorten(argument: string): string {
  const path = relative(process.cwd(), argument);
  return argument.startsWith('/') && !path.startsWith('..') ? path : argument;
}

function commit(): string {
  try {
    return execFileSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: FOLDER, encoding: 'utf8' }).trim();
  } catch {
    return 'unknown';
  }
}
