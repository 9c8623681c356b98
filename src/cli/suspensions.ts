/** `protorelay suspend`, `resume` and `suspensions`: rules that hold mail back. Prints for people, or JSON with --json. */
import { userInfo } from 'node:os';
import type { Writable } from 'node:stream';
import { type Command, InvalidArgumentError } from 'commander';
import { EXIT, type ExitCode } from '../base/exit-codes.ts';
import { printable, printableJson, printableLines } from '../base/printable.ts';
import { timeIn } from '../base/time-text.ts';
import { configFor, dataDirOf } from '../config/load.ts';
import { suspensionAnswer } from '../control/suspension-answer.ts';
import type { SuspensionBook } from '../control/target.ts';
import {
  MAX_NAME_LENGTH,
  meansAll,
  SELECTORS,
  type SuspensionRule,
  type SuspensionSelectors,
} from '../mail/suspension.ts';
import type { Ordered, ResumeOrder, SuspendOrder } from '../suspensions/order-book.ts';
import { addressOf, duration } from './arguments.ts';
import { type CommandLine, noteBelow } from './command-line.ts';
import { columns } from './format.ts';
import { PATTERNS, several, text } from './selecting.ts';

interface Written {
  destination?: string[];
  domain?: string[];
  sender?: string[];
  user?: string[];
  tenant?: string[];
  campaign?: string[];
  all?: boolean;
}

interface Output {
  out: Writable;
  err: Writable;
}

export function addSuspensions(program: Command, line: CommandLine): void {
  noteBelow(selectorOptions(program.command('suspend'), 'all mail'), PATTERNS)
    .description('hold mail back, also what comes later, until it is resumed')
    .option('--reason <text>', 'why, for those who ask', '')
    .option('--for <time>', 'how long, as 90s, 10m, 12h or 7d', duration)
    .option('--until <time>', 'until when, as 2026-03-01T12:00:00Z', timeOf)
    .option('--json', 'print JSON', false)
    .action(({ reason, for: durationMs = null, until: untilMs = null, json, ...written }) => {
      const selectors = selectorsOf(written, line, 'suspend');
      if (durationMs !== null && untilMs !== null) line.usage('suspend takes --for or --until, not both');
      const order = { ...selectors, reason, createdBy: operatorName(), durationMs, untilMs };
      return onSuspensions(line, (book, output) => suspend(book, order, json, output));
    });
  selectorOptions(program.command('resume [ids...]'), 'the suspension of all mail')
    .description('end suspensions: by id, or those with just these selectors; what they held goes at once')
    .option('--all-rules', 'end every suspension', false)
    .option('--json', 'print JSON', false)
    .action((ids: string[], { allRules, json, ...written }) => {
      const isSelected = Object.values(written).some((value) => value !== undefined && value !== false);
      if ([ids.length > 0, allRules, isSelected].filter(Boolean).length !== 1)
        line.usage('resume needs ids, or --all-rules, or the selectors of a suspension');
      const order: ResumeOrder = allRules
        ? 'all'
        : ids.length > 0
          ? { ids }
          : { selectors: selectorsOf(written, line, 'resume') };
      return onSuspensions(line, (book, output) => resume(book, order, json, output));
    });
  program
    .command('suspensions')
    .description('what is suspended, why, since when and until when')
    .option('--json', 'print JSON', false)
    .action(({ json }) => onSuspensions(line, (book, { out }) => listSuspensions(book, json, out), false));
}

/** As `queue list` shows it, too. */
const sender = (written: string): string => (written === '<>' ? written : addressOf(text(written)));

const selectorOptions = (command: Command, all: string): Command =>
  command
    .addOption(
      several('--destination <pattern>', 'to this destination (a domain, smarthost, or via:HOST:PORT)', text),
    )
    .addOption(several('--domain <pattern>', 'to recipients of this domain, in any spelling', text))
    .addOption(several('--sender <pattern>', 'of this sender; <> is the null one', sender))
    .addOption(several('--user <pattern>', 'of this authenticated user', text))
    .addOption(several('--tenant <pattern>', 'of this tenant', text))
    .addOption(several('--campaign <pattern>', 'of this campaign', text))
    .option('--all', all, false);

function timeOf(text: string): number {
  const ms = timeIn(text);
  if (Number.isNaN(ms))
    throw new InvalidArgumentError('It is a time with its zone, as 2026-03-01T12:00:00Z.');
  if (ms <= Date.now()) throw new InvalidArgumentError('It is over already.');
  return ms;
}

function selectorsOf(written: Written, line: CommandLine, command: string): SuspensionSelectors {
  const { destination = [], domain = [], sender = [], user = [], tenant = [], campaign = [] } = written;
  const selectors: SuspensionSelectors = {
    destinations: destination,
    domains: domain,
    senders: sender,
    users: user,
    tenants: tenant,
    campaigns: campaign,
  };
  if ((written.all ?? false) !== meansAll(selectors))
    line.usage(
      `${command} needs --destination, --domain, --sender, --user, --tenant, --campaign, or --all alone`,
    );
  return selectors;
}

function operatorName(): string {
  try {
    return (process.env.SUDO_USER ?? userInfo().username).slice(0, MAX_NAME_LENGTH);
  } catch {
    return `uid ${process.getuid?.() ?? '?'}`;
  }
}

/** Runs the command through the running relay, or on the files of a stopped one. */
async function onSuspensions(
  line: CommandLine,
  command: (book: SuspensionBook, output: Output) => Promise<ExitCode>,
  changes = true,
): Promise<void> {
  const dataDir = dataDirOf(line.configPath());
  const output = { out: line.out, err: line.err };
  const { runningRelay } = await import('../control/running-relay.ts');
  const client = await runningRelay(dataDir);
  if (client !== null) {
    line.endsWith(await command(client.suspensions, output).finally(() => client.close()));
    return;
  }
  const { openStoppedBook } = await import('../relay/suspension-book.ts');
  const { lockDataDir } = await import('../base/data-dir.ts');
  const { QUEUE_KEYS } = await import('./open-queue.ts');
  const config = configFor(QUEUE_KEYS, line.configPath());
  const lock = changes ? lockDataDir(dataDir) : null;
  const stopped = await openStoppedBook(config);
  try {
    line.endsWith(await command(stopped.book, output));
  } finally {
    await stopped.close();
    lock?.release();
  }
}

async function suspend(
  book: SuspensionBook,
  order: SuspendOrder,
  json: boolean,
  { out, err }: Output,
): Promise<ExitCode> {
  const { rules, unheard } = await book.suspend(order);
  for (const rule of rules)
    out.write(
      json
        ? jsonText({ ...suspensionAnswer(rule), not_told: unheard })
        : `${printable(`${rule.id}  ${meaning(rule)}, ${ending(rule)}`)}\n`,
    );
  return told(unheard, err, EXIT.ok);
}

async function resume(
  book: SuspensionBook,
  order: ResumeOrder,
  json: boolean,
  { out, err }: Output,
): Promise<ExitCode> {
  const { rules, unknown, unheard }: Ordered = await book.resume(order);
  if (json) out.write(jsonText({ resumed: rules.map(suspensionAnswer), unknown, not_told: unheard }));
  else for (const rule of rules) out.write(`${printable(`${rule.id}  resumed: ${meaning(rule)}`)}\n`);
  for (const id of unknown)
    err.write(printableLines(`protorelay: no suspension ${id}; see protorelay suspensions\n`));
  if (order !== 'all' && rules.length === 0 && unknown.length === 0)
    err.write('protorelay: no suspension has just these selectors; see protorelay suspensions\n');
  const found = order === 'all' || (rules.length > 0 && unknown.length === 0);
  return told(unheard, err, found ? EXIT.ok : EXIT.dataError);
}

/** Says who has not heard of it yet. */
function told(unheard: readonly string[], err: Writable, code: ExitCode): ExitCode {
  for (const name of unheard)
    err.write(printableLines(`protorelay: not told yet: ${name}; it follows once it answers\n`));
  return unheard.length > 0 ? EXIT.temporary : code;
}

async function listSuspensions(book: SuspensionBook, json: boolean, out: Writable): Promise<ExitCode> {
  const rules = await book.list();
  if (json) out.write(jsonText({ suspensions: rules.map(suspensionAnswer) }));
  else if (rules.length === 0) out.write('nothing is suspended\n');
  else {
    const titles = ['ID', 'HOLDS', 'SINCE', 'UNTIL', 'BY', 'REASON'];
    const rows = rules.map((rule) => [
      rule.id,
      meaning(rule),
      rule.createdAtMs === 0 ? '-' : new Date(rule.createdAtMs).toISOString(),
      rule.untilMs === null ? 'resumed' : new Date(rule.untilMs).toISOString(),
      rule.node === '' ? rule.createdBy : `${rule.createdBy} on ${rule.node}`,
      rule.reason,
    ]);
    out.write(columns([titles, ...rows.map((row) => row.map((cell) => printable(cell)))]));
  }
  return EXIT.ok;
}

const jsonText = (value: object): string => `${printableJson(JSON.stringify(value, null, 2))}\n`;

const WORDS = {
  destinations: 'destination',
  domains: 'domain',
  senders: 'sender',
  users: 'user',
  tenants: 'tenant',
  campaigns: 'campaign',
} as const;
/** So many patterns of a selector are named. */
const MAX_NAMED = 3;

/** 'sender *@shop.example and domain example.com', or 'all mail'. */
export function meaning(rule: SuspensionSelectors): string {
  const parts = SELECTORS.filter((name) => rule[name].length > 0).map((name) => {
    const named = rule[name].slice(0, MAX_NAMED).map((one) => (one === '' ? '<>' : one));
    const more = rule[name].length - named.length;
    return `${WORDS[name]} ${named.join(' or ')}${more > 0 ? ` or ${more} more` : ''}`;
  });
  return parts.length === 0 ? 'all mail' : parts.join(' and ');
}

const ending = ({ untilMs }: SuspensionRule): string =>
  untilMs === null ? 'until it is resumed' : `until ${new Date(untilMs).toISOString()}`;
