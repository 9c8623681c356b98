/**
 * The operator's commands on a large queue: `queue list` of all entries (text and JSON) and each action on many named
 * messages, with time and peak memory of the command, while a small client goes on sending mail.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { json } from 'node:stream/consumers';
import type { ActionName } from '../src/mail/operator-action.ts';
import { RelayFixture, type Settings } from '../test/support/relay-fixture.ts';
import { Child } from './lib/child.ts';
import { preload } from './lib/deferred.ts';
import { startShards } from './lib/mariadb.ts';
import { fail, readOptions } from './lib/options.ts';
import { memoryBytes } from './lib/proc.ts';
import { figure, table, writeResults } from './lib/results.ts';

/** As an operator calls it. */
const PROTORELAY = join(import.meta.dirname, '../bin/protorelay');
const SAMPLE_MS = 20;

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));

const options = readOptions('bench/queue.ts', 'measures commands on a large queue', {
  'all-filters': { kind: 'flag', help: 'every filter, not only every action' },
  together: { kind: 'flag', help: 'all commands in one process, to see whether they work: no figures' },
  rows: { kind: 'number', default: 1_000_000, help: 'deferred rows in the queue (sqlite, one process)' },
  mails: { kind: 'number', default: 0, help: 'fill with so many messages over SMTP instead' },
  fail: {
    kind: 'flag',
    help: 'also fail --all, after which the queue is empty: measure it alone (--only fail)',
  },
  'null-sender': { kind: 'flag', help: 'the messages have no sender whom fail would write to' },
  ids: { kind: 'number', default: 20_000, help: 'messages that hold, release and delete name' },
  scattered: { kind: 'flag', help: 'these messages lie all over the queue; else one beside another' },
  processes: { kind: 'number', default: 1, help: 'relay processes (more than one: with --mails)' },
  mariadb: { kind: 'flag', help: 'on a MariaDB server of our own (with --mails)' },
  rate: { kind: 'number', default: 200, help: 'messages a second that go on coming; 0: none' },
  only: { kind: 'text', help: 'only commands whose title matches this regular expression' },
  queue: { kind: 'text', help: 'data folder to copy instead of filling one' },
  save: { kind: 'text', help: 'name of the files in bench/results; default: not written' },
});
const overSmtp = options.mails > 0;
if ((options.mariadb || options.processes > 1) && !overSmtp)
  fail('bench/queue.ts', '--mariadb and --processes need --mails');

/** Every filter, most of which match little of a queue that was filled here. */
const FILTERS: string[][] = [
  [],
  ['--state', 'held'],
  ['--destination', 'd7.deferred.test'],
  ['--destination', 'd7?.deferred.*'],
  ['--domain', 'D7.Deferred.Test.'],
  ['--domain', '*7.deferred.test'],
  ['--recipient', 'user77777@*'],
  ['--recipient', 'user*7@d7.deferred.test'],
  ['--sender', 'nobody@bench.test'],
  ['--sender', '*@bench.test'],
  ['--sender', 'jemand@bücher.test'],
  ['--user', 'somebody'],
  ['--listener', 'submission'],
  ['--reason', 'peer_4xx'],
  ['--message-id', '<1@bench.test>'],
  ['--header', 'X-Campaign: spring*'],
  ['--older-than', '1d'],
  ['--younger-than', '1s'],
  ['--min-attempts', '2'],
  ['--min-size', '10M'],
  ['--domain', '*7.deferred.test', '--sender', '*@bench.test', '--reason', 'peer*', '--max-size', '1M'],
];
const KEYS = ['destination', 'domain', 'state', 'sender', 'reason', 'user'];
/** The last one leaves nothing. */
const ACTIONS: [ActionName, ...string[]][] = [
  ['hold'],
  ['release'],
  ['flush'],
  ['reroute', '--to', '127.0.0.1:9'],
  ['delete'],
];
const EVERY_COMMAND = join(import.meta.dirname, '../test/support/every-command.ts');

interface Ran {
  code: number | null;
  seconds: number;
  peakMb: number;
  lines: number;
  stderr: string;
}

/** Runs a command on the queue; its output is read as fast as it comes. */
async function command(configPath: string, args: string[], onText?: (text: string) => void): Promise<Ran> {
  const began = performance.now();
  const child = spawn(PROTORELAY, ['-c', configPath, 'queue', ...args]);
  let [peak, lines, stderr] = [0, 0, ''];
  const sample = setInterval(() => {
    peak = Math.max(peak, memoryBytes(child.pid as number, 'VmHWM') || 0);
  }, SAMPLE_MS);
  child.stdout.on('data', (chunk: Buffer) => {
    for (let at = chunk.indexOf(10); at !== -1; at = chunk.indexOf(10, at + 1)) lines++;
    onText?.(chunk.toString('latin1'));
  });
  child.stderr.on('data', (chunk: Buffer) => {
    stderr = (stderr + chunk.toString()).slice(-1000);
  });
  const [code] = await once(child, 'close');
  clearInterval(sample);
  const seconds = Math.round((performance.now() - began) / 10) / 100;
  return { code, seconds, peakMb: Math.round(peak / 2 ** 20), lines, stderr };
}

const load = (port: number, ...args: string[]): Child =>
  new Child(process.execPath, [
    join(import.meta.dirname, 'cl.ts'),
    '--json',
    '--port',
    String(port),
    '--to-domain',
    'waits.test',
    ...args,
  ]);

/** Of the first rows, one after another; or of rows all over the queue, in no order. */
async function idsOf(configPath: string, all: number): Promise<string[]> {
  const count = Math.min(all, options.ids);
  const texts: string[] = [];
  const limit = options.scattered ? all : count;
  await command(configPath, ['list', '--limit', String(limit)], (text) => texts.push(text));
  const lines = texts
    .join('')
    .split('\n')
    .slice(1, limit + 1);
  const step = limit / count;
  const ids = Array.from({ length: count }, (_, i) => String(lines[Math.floor(i * step)]).split(' ', 1)[0]);
  if (!options.scattered) return ids as string[];
  // As far from each other as may be, the same in each run.
  const stride = 7919;
  return Array.from({ length: count }, (_, i) => ids[(i * stride) % count] as string);
}

type Task = [title: string, args: string[]];

function tasksFor(all: number, named: string[]): Task[] {
  const filters = options['all-filters'] ? FILTERS : FILTERS.slice(0, 1);
  const tasks: Task[] = [
    ...filters.map((filter): Task => [`count ${filter.join(' ')}`, ['count', ...filter]]),
    ...filters.slice(0, 2).map((filter): Task => [`list ${filter.join(' ')}`, ['list', ...filter]]),
    ...KEYS.map((key): [string, string[]] => [`count --by ${key}`, ['count', '--by', key]]),
    ['stats', ['stats']],
    ['list, all as text', ['list', '--limit', String(2 * all)]],
    ['list --json, all', ['list', '--json']],
    ...['hold', 'release', 'delete'].map((action): [string, string[]] => [
      `${action}, ${figure(named.length)} ids`,
      [action, ...named],
    ]),
    ...ACTIONS.flatMap(([action, ...more]): [string, string[]][] => [
      [`${action} a tenth, by domain`, [action, ...more, '--yes', '--domain', '*5.deferred.test']],
      [`${action} --all`, [action, ...more, '--yes', '--all']],
    ]),
  ];
  // Its reports are new mail: what it is done to must be little.
  if (options.fail) tasks.splice(-2, 0, ['fail --all', ['fail', '--yes', '--all']]);
  tasks.splice(-2, 0, ['fail, one domain', ['fail', '--yes', '--domain', 'd77.deferred.test']]);
  return tasks.filter(([title]) => options.only === '' || new RegExp(options.only).test(title));
}

/** Runs all commands in one process. */
async function tryOut(configPath: string, tasks: readonly Task[]): Promise<void> {
  const child = spawn(process.execPath, [EVERY_COMMAND, configPath]);
  child.stdin.end(JSON.stringify(tasks.map(([, args]) => ['queue', ...args])));
  const { outcomes } = (await json(child.stdout)) as { outcomes: { code: number; said: string }[] };
  for (const [i, { code, said }] of outcomes.entries()) {
    const [title] = tasks[i] as Task;
    if (code !== 0) throw new Error(`${title}: code ${code}: ${said}`);
    process.stdout.write(`${title}: ${said.trimEnd().split('\n').at(-1)}\n`);
  }
}

async function measure(relay: RelayFixture): Promise<void> {
  const rows: string[][] = [];
  const results: object[] = [];
  const all = overSmtp ? options.mails : options.rows;
  const tasks = tasksFor(all, await idsOf(relay.configPath, all));
  if (options.together) return tryOut(relay.configPath, tasks);
  for (const [title, args] of tasks) {
    const client =
      options.rate > 0
        ? load(relay.port, '--rate', String(options.rate), '--duration', '600', '--concurrency', '4')
        : null;
    const ran = await command(relay.configPath, args);
    if (ran.code !== 0) throw new Error(`${title}: code ${ran.code}: ${ran.stderr}\n${relay.output()}`);
    const sent = client === null ? null : JSON.parse((await client.stop()).stdout);
    const { p99Ms, maxMs } = sent?.latency.endOfData ?? { p99Ms: Number.NaN, maxMs: Number.NaN };
    const lost = sent?.failed ?? 0;
    results.push({ title, ...ran, accepted: sent?.accepted, failed: lost, p99Ms, maxMs });
    rows.push([title, figure(ran.seconds), figure(ran.peakMb), figure(p99Ms), figure(maxMs), String(lost)]);
    process.stderr.write(`${rows.at(-1)?.join('  ')}\n`);
  }
  const titles = [
    'command',
    's',
    'peak RSS of the command, MB',
    'p99 of new mail, ms',
    'longest, ms',
    'refused',
  ];
  const markdown = table(titles, rows);
  process.stdout.write(markdown);
  const durability = options.mariadb ? 'innodb_flush_log_at_trx_commit=1' : 'synchronous=FULL';
  if (options.save !== '')
    process.stderr.write(`written: ${writeResults(options.save, durability, results, markdown)}\n`);
}

const dir = mkdtempSync(join(tmpdir(), 'bench-queue-'));
const servers = options.mariadb ? await startShards(1) : null;
const settings: Settings = {
  accept_processes: options.processes,
  ...(servers === null ? {} : { storage: { provider: 'local' }, ...servers.settings }),
  // Nothing goes out: the rows stay where they are, also those that are released.
  delivery: { enabled: false },
};
try {
  if (options.queue !== '') cpSync(options.queue, join(dir, 'data'), { recursive: true });
  else if (!overSmtp)
    await preload(
      join(dir, 'data'),
      options.rows,
      1000,
      1024,
      options['null-sender'] ? '' : 'sender@bench.test',
    );
  const relay = new RelayFixture(settings, { dir, readyMs: 120_000 });
  await relay.start();
  relay.events.close();
  try {
    if (overSmtp) {
      const ended = await load(relay.port, '--messages', String(options.mails)).ended;
      if (ended.code !== 0) throw new Error(`filling failed: ${ended.stdout} ${ended.stderr}`);
    }
    await measure(relay);
  } finally {
    await relay.kill();
  }
} finally {
  await servers?.close();
  rmSync(dir, { recursive: true, force: true });
}
