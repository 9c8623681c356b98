/**
 * docs/first-minutes.md is what a newcomer sees in a fresh clone: every command of its `console` blocks goes into one
 * shell, in order, and prints what stands below it. `…` stands for any text within a line, alone on its line for any
 * lines. The clone has packages and addon already, unless PROTORELAY_FRESH is set: then it builds them too.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { freePort } from '../support/free-port.ts';

const root = resolve(import.meta.dirname, '../..');
/** Ports in the page; others may hold them on this machine. */
const PORTS = ['2525', '2526', '2527'];
const END = '--end of this command--';

interface Step {
  command: string;
  /** Lines it prints. */
  prints: string[];
}

function stepsOf(page: string): Step[] {
  const steps: Step[] = [];
  for (const [, block = ''] of page.matchAll(/^```console\n(.*?)^```$/gms))
    for (const line of block.trimEnd().split('\n')) {
      const step = steps.at(-1);
      if (line.startsWith('$ ')) steps.push({ command: line.slice(2), prints: [] });
      else if (line.startsWith('> ') && step?.prints.length === 0) step.command += `\n${line.slice(2)}`;
      else step?.prints.push(line);
    }
  return steps;
}

function patternOf(lines: readonly string[]): RegExp {
  const parts = lines.map((line) =>
    line === '…' ? '(?:.*\\n)*?' : `${line.split('…').map(RegExp.escape).join('.*')}\\n`,
  );
  return new RegExp(`^${parts.join('')}$`);
}

/** The files of the project as a clone has them, changes that are not committed included. */
function clone(): string {
  const folder = mkdtempSync(join(tmpdir(), 'first-minutes-'));
  const names = execFileSync('git', ['ls-files', '-co', '--exclude-standard'], {
    cwd: root,
    encoding: 'utf8',
  });
  for (const name of names.split('\n').filter(Boolean))
    cpSync(join(root, name), join(folder, name), { force: true, verbatimSymlinks: true });
  if (process.env.PROTORELAY_FRESH === undefined)
    for (const built of ['node_modules', 'build'])
      cpSync(join(root, built), join(folder, built), { recursive: true, verbatimSymlinks: true });
  return folder;
}

test('docs/first-minutes.md: each command prints what the page shows', { timeout: 240_000 }, async (t) => {
  const folder = clone();
  let page = readFileSync(join(folder, 'docs/first-minutes.md'), 'utf8');
  let config = readFileSync(join(folder, 'config/relay.json'), 'utf8');
  for (const port of PORTS) {
    const free = String(await freePort());
    page = page.replaceAll(port, free);
    config = config.replaceAll(port, free);
  }
  writeFileSync(join(folder, 'config/relay.json'), config);
  const steps = stepsOf(page);
  assert.ok(steps.length > 10);

  const shell = spawn('bash', [], { cwd: folder, detached: true, env: { ...process.env, TERM: 'dumb' } });
  t.after(() => {
    // The shell and whatever a step that failed has left running.
    if (shell.exitCode === null && shell.pid !== undefined) process.kill(-shell.pid, 'SIGKILL');
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  });
  let printed = '';
  let heard = (): void => {};
  for (const stream of [shell.stdout, shell.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      printed += text;
      heard();
    });
  shell.stdin.write('exec 2>&1\n');
  const others: string[] = [];
  for (const { command, prints } of steps) {
    // The next command may ask for the exit code of this one.
    shell.stdin.write(`${command}\ncode=$?; echo '${END}'; (exit $code)\n`);
    while (!printed.includes(`${END}\n`)) await new Promise<void>((more) => (heard = more));
    const at = printed.indexOf(`${END}\n`);
    const output = printed.slice(0, at);
    printed = printed.slice(at + END.length + 1);
    if (!patternOf(prints).test(output)) others.push(`$ ${command}\n${output}`);
  }
  assert.equal(others.join(''), '', 'commands that print something else');
});
