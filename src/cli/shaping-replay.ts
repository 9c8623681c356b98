/** `protorelay shaping replay`: what rules and the adaptive control would have done with the mail that event files tell of. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { EXIT, type ExitCode } from '../base/exit-codes.ts';
import { printableJson, printableLines } from '../base/printable.ts';
import { adaptive as adaptiveSchema } from '../config/adaptive-schema.ts';
import { egress as egressSchema } from '../config/egress-schema.ts';
import { configFor, dataDirOf } from '../config/load.ts';
import type { Config } from '../config/schema.ts';
import { shaping as shapingSchema } from '../config/shaping-schema.ts';
import { EventReader } from '../report/event-reader.ts';
import type { LearnedLimit } from '../shaping/adaptive/controller.ts';
import { settingsOf } from '../shaping/adaptive/settings.ts';
import type { CurvePoint } from '../shaping/replay/curve.ts';
import { Replay, type RuleReport } from '../shaping/replay/replay.ts';
import type { CommandLine } from './command-line.ts';
import { pointInTime } from './events.ts';
import { columns } from './format.ts';
import { FactReader } from './replayed-facts.ts';

const HELP = `
Reads event files, compressed ones too, and tells what the rules of the file would have done at what times, and which rate the
adaptive control would have allowed. What was sent in fact counts, also where it would have been held back: "messages" says how
much that is. Exit codes: 0 all was read, 65 some lines or files are damaged, 78 the rules are wrong.`;

interface ReplayOptions {
  events?: string;
  rules?: string;
  since?: string;
  until?: string;
  json: boolean;
}

export function replayCommand(shaping: Command, line: CommandLine): void {
  shaping
    .command('replay')
    .description('say what rules and the adaptive control would have done with past mail')
    .option('--events <dir>', 'folder of event files; default: those of this relay')
    .option(
      '--rules <file>',
      'rules on replies, JSON: a list, or {"rules": […]}; default: those of the config',
    )
    .option('--since <time>', 'not before: RFC 3339, a date, or how long ago, as 2h', pointInTime)
    .option('--until <time>', 'not after', pointInTime)
    .option('--json', 'print JSON', false)
    .addHelpText('after', HELP)
    .action(async (options: ReplayOptions) => line.endsWith(await replay(options, line)));
}

/** Where the files are all named, no config is needed. */
function settingsFor(
  line: CommandLine,
  { events, rules }: ReplayOptions,
): Pick<Config, 'adaptive' | 'rules' | 'egress' | 'shaping'> {
  if (events !== undefined && rules !== undefined && !existsSync(line.configPath()))
    return {
      adaptive: adaptiveSchema.parse({}),
      rules: [],
      egress: egressSchema.parse({}),
      shaping: shapingSchema.parse({}),
    };
  return configFor(['adaptive', 'rules', 'egress', 'shaping'], line.configPath());
}

async function replay(options: ReplayOptions, line: CommandLine): Promise<ExitCode> {
  const { readDeliveryRules } = await import('../shaping/rules/rules-file.ts');
  const { loadShaping } = await import('../shaping/shaping-file.ts');
  const { adaptive, rules: own, egress, shaping } = settingsFor(line, options);
  const rules = options.rules === undefined ? own : readDeliveryRules(options.rules);
  const dir = options.events ?? join(dataDirOf(line.configPath()), 'events');
  let code: ExitCode = EXIT.ok;
  const ending = new AbortController();
  const end = (): void => ending.abort();
  process.once('SIGINT', end).once('SIGTERM', end);
  const reader = new EventReader(
    {
      dir,
      signal: ending.signal,
      lastDay: '~',
      wanted: () => true,
      damaged: (path, why) => {
        line.err.write(printableLines(`protorelay: ${path} cannot be read as it is: ${why}\n`));
        code = EXIT.dataError;
      },
    },
    { day: options.since?.slice(0, 10) ?? '', number: 0 },
  );
  const { providers } = loadShaping(shaping).data;
  const facts = await FactReader.open({ sources: egress.sources, providers }, options.since, options.until);
  const run = new Replay(
    rules,
    settingsOf(() => adaptive),
  );
  try {
    await reader.look();
    for (let lines = await reader.lines(); lines !== null; lines = await reader.lines())
      for (const text of lines) {
        const read = facts.read(text);
        if (read !== null) run.take(read.fact, read.sentMs);
      }
  } finally {
    await reader.close();
  }
  if (facts.damaged > 0) {
    line.err.write(`protorelay: ${facts.damaged} damaged lines were passed over\n`);
    code = EXIT.dataError;
  }
  const shown = answer(run, facts);
  line.out.write(options.json ? `${printableJson(JSON.stringify(shown))}\n` : printableLines(textOf(shown)));
  return code;
}

const timeAt = (ms: number): string => new Date(ms).toISOString();
const rateOf = (perS: number): number | null =>
  Number.isFinite(perS) ? Math.round(perS * 10_000) / 10_000 : null;

const limitAnswer = ({ phase, messagesPerS, closedUntilMs, connections }: LearnedLimit) => ({
  phase,
  messages_per_s: rateOf(messagesPerS),
  closed_until: closedUntilMs > 0 ? timeAt(closedUntilMs) : null,
  connections: rateOf(connections),
});

const ruleAnswer = ({ rule, firings, targets }: RuleReport) => ({
  rule: rule.name,
  action: rule.action,
  target: rule.target,
  firings,
  targets: targets.map(({ value, site, firstMs, lastMs, ...rest }) => ({
    value,
    site,
    firings: rest.firings,
    first_at: timeAt(firstMs),
    last_at: timeAt(lastMs),
    messages: rest.messages,
    reply: rest.reply,
  })),
});

const pointAnswer = ({ fromMs, accepted, refused, leastPerS }: CurvePoint) => ({
  from_at: timeAt(fromMs),
  accepted,
  refused,
  messages_per_s: rateOf(leastPerS),
});

function answer(run: Replay, facts: FactReader) {
  return {
    since: facts.firstMs === null ? null : timeAt(facts.firstMs),
    until: facts.lastMs === null ? null : timeAt(facts.lastMs),
    answers: run.facts,
    refusals: run.refusals,
    rules: run.report().map(ruleAnswer),
    actions: run.firings.map(({ rule, value, site, atMs, untilMs, matched, of, reply }) => ({
      at: timeAt(atMs),
      rule: rule.name,
      action: rule.action,
      target: rule.target,
      value,
      site,
      ends_at: timeAt(untilMs),
      matched,
      of,
      reply,
    })),
    actions_not_listed: run.totalFirings - run.firings.length,
    limits: run.changes.map(({ atMs, key, before, now, cause, reply, refusals }) => ({
      at: timeAt(atMs),
      ...key,
      before: limitAnswer(before),
      now: limitAnswer(now),
      cause,
      refusals,
      reply,
    })),
    limits_not_listed: run.totalChanges - run.changes.length,
    curves: [...run.curves.values()].map(({ key, curve }) => ({
      ...key,
      point_ms: curve.pointMs,
      points: curve.points.map(pointAnswer),
    })),
    without_curve: run.withoutCurve,
  };
}

type Answer = ReturnType<typeof answer>;

function textOf(shown: Answer): string {
  const { since, until, answers, refusals, rules } = shown;
  const head =
    since === null
      ? 'no attempts'
      : `${answers} answers of peers from ${since} to ${until}, ${refusals} of them refusals by rate`;
  const targets = rules.flatMap(({ rule, action, target, firings, targets: all }) =>
    firings === 0
      ? [[rule, action, 'never', '', '', '', '']]
      : all.map(({ value, site, firings: times, first_at, last_at, messages }) => [
          rule,
          action,
          `${target} ${value === '' ? '(default)' : value}`,
          site,
          String(times),
          times === 1 ? first_at : `${first_at} … ${last_at}`,
          String(messages),
        ]),
  );
  const byRule =
    targets.length === 0
      ? ''
      : `\n${columns([['RULE', 'ACTION', 'TARGET', 'AT', 'TIMES', 'WHEN', 'MESSAGES'], ...targets])}`;
  const curves = shown.curves.map(curveText).join('');
  const left =
    shown.without_curve === 0 ? '' : `\n${shown.without_curve} messages of further sources and sites\n`;
  return `${head}\n${byRule}${curves}${left}`;
}

/** Points in which something was limited or refused. */
function curveText({ value, site, points }: Answer['curves'][number]): string {
  const told = points.filter(({ refused, messages_per_s }) => refused > 0 || messages_per_s !== null);
  const name = `source ${value === '' ? '(default)' : value} at ${site}`;
  if (told.length === 0) return `\n${name}: no limit\n`;
  const rows = told.map(({ from_at, accepted, refused, messages_per_s }) => [
    from_at,
    String(accepted),
    String(refused),
    messages_per_s === null ? 'no limit' : String(messages_per_s),
  ]);
  return `\n${name}\n${columns([['FROM', 'ACCEPTED', 'REFUSED', 'ALLOWED/S'], ...rows])}`;
}
