/** `protorelay replies …`: what the replies of peers mean, by the rules of config/replies.json; which ones no rule knows. */
import { once } from 'node:events';
import type { Command } from 'commander';
import { EXIT, type ExitCode } from '../base/exit-codes.ts';
import { printable, printableJson, printableLines } from '../base/printable.ts';
import type { ReplyClassifier } from '../feedback/classifier.ts';
import { InputError, readRefusal } from '../feedback/reply-input.ts';
import type { Verdict } from '../mail/verdict.ts';
import type { CommandLine } from './command-line.ts';
import { type InputLine, linesOf } from './input-lines.ts';
import type { ProviderNames } from './provider-names.ts';

const CLASSIFY_HELP = `
Reads JSON lines {"provider", "mx_host", "command", "reply"} from standard input; only "reply" must be there, its lines
divided by \\n. Prints each line with "class", "scope", "move", "treat_as" and "rule" (docs/replies.md).
Exit codes: 0 all lines were read, 65 some were not (named on standard error by number), 78 the rules are wrong.`;

export function addReplies(program: Command, line: CommandLine): void {
  const replies = program.command('replies').description('what the replies of peers mean').helpCommand(false);
  replies
    .command('classify')
    .description('say of each refusal what it means and what to do')
    .option('--rules <file>', 'rules of your own, which come before those of the installation')
    .option('--json', 'JSON lines, also on a terminal', false)
    .addHelpText('after', CLASSIFY_HELP)
    .action(async ({ rules, json }: { rules?: string; json: boolean }) => {
      const { ReplyClassifier } = await import('../feedback/classifier.ts');
      const { loadReplyRules } = await import('../feedback/rules-file.ts');
      const { SHIPPED_RULES } = await import('../feedback/rules-text.ts');
      const files = rules === undefined ? [SHIPPED_RULES] : [rules, SHIPPED_RULES];
      const classifier = new ReplyClassifier(loadReplyRules(files));
      const asTable = !json && process.stdout.isTTY;
      line.endsWith(await classifyLines(classifier, process.stdin, process.stdout, process.stderr, asTable));
    });
  addUnknown(replies, line);
}

const UNKNOWN_HELP = `
Counts since the relay started, by the text with {ip}, {email}, {host}, {id}, {time} and {n} for what differs from reply to
reply; the most frequent first. A rule of your own (replies.file) says what such a reply means.`;

function addUnknown(replies: Command, line: CommandLine): void {
  replies
    .command('unknown')
    .description('refusals that no rule knows, as the running relay has met them')
    .option('--json', 'print JSON', false)
    .addHelpText('after', UNKNOWN_HELP)
    .action(async ({ json }: { json: boolean }) => {
      const { listUnknown } = await import('./unknown-replies.ts');
      const { dataDirOf } = await import('../config/load.ts');
      line.endsWith(await listUnknown(dataDirOf(line.configPath()), json, line.out));
    });
}

const BLOCK = 65_536;

/** Line by line, waiting for whoever reads: the input may be as long as it likes. */
export async function classifyLines(
  classifier: ReplyClassifier,
  input: AsyncIterable<Buffer | string>,
  out: NodeJS.WritableStream,
  err: NodeJS.WritableStream,
  asTable: boolean,
): Promise<ExitCode> {
  const { ProviderNames } = await import('./provider-names.ts');
  const known = { classifier, names: new ProviderNames(classifier) };
  let block = asTable ? TITLES : '';
  let code: ExitCode = EXIT.ok;
  const flush = async (): Promise<void> => {
    const text = block;
    block = '';
    if (text !== '' && !out.write(text)) await once(out, 'drain');
  };
  for await (const one of linesOf(input)) {
    try {
      block += asTable ? tableLine(classified(known, one)) : jsonLine(classified(known, one));
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      code = EXIT.dataError;
      if (!err.write(printableLines(`protorelay: line ${one.number}: ${error.message}\n`)))
        await once(err, 'drain');
    }
    if (block.length >= BLOCK) await flush();
  }
  await flush();
  return code;
}

interface Knowledge {
  classifier: ReplyClassifier;
  names: ProviderNames;
}

interface Classified {
  given: Record<string, unknown>;
  code: number;
  provider: string;
  verdict: Verdict;
}

/** @throws InputError */
function classified({ classifier, names }: Knowledge, { text }: InputLine): Classified {
  const { given, refusal, provider, mxHost } = readRefusal(text);
  const known = names.of(provider, mxHost);
  return { given, code: refusal.code, provider: known, verdict: classifier.classify(refusal, known) };
}

function jsonLine({ given, code, provider, verdict }: Classified): string {
  const { class: replyClass, scope, move, rule } = verdict;
  const treatAs = code >= 500 && move !== 'bounce' ? 'deferred' : null;
  const named = given.provider === undefined ? { provider: provider || null } : {};
  const said = { ...given, ...named, class: replyClass, scope, move, treat_as: treatAs, rule };
  return `${printableJson(JSON.stringify(said))}\n`;
}

const WIDTHS = [21, 17, 14, 12];
const SHOWN = 100;
const row = (cells: readonly string[], rest: string): string =>
  `${cells.map((cell, i) => cell.padEnd(WIDTHS[i] as number)).join('')}${rest}\n`;
const TITLES = row(['CLASS', 'SCOPE', 'MOVE', 'PROVIDER'], 'REPLY');

function tableLine({ given, provider, verdict }: Classified): string {
  const cells = [verdict.class, verdict.scope, verdict.move, provider || '-'];
  return row(
    cells,
    printable(
      String(given.reply)
        .replace(/[\r\n]+/g, ' ')
        .slice(0, SHOWN),
    ),
  );
}
