/** `protorelay shaping …`: the limits at providers, as the config and its files have them. Needs no relay. */
import type { Command } from 'commander';
import { EXIT } from '../base/exit-codes.ts';
import { printableJson, printableLines } from '../base/printable.ts';
import { configFor, dataDirOf } from '../config/load.ts';
import { nearest } from '../config/shape.ts';
import { settingsOf } from '../shaping/adaptive/settings.ts';
import type { LoadedShaping } from '../shaping/shaping-file.ts';
import type { CommandLine } from './command-line.ts';
import { columns } from './format.ts';
import { learnedLimitLines, learnedLimitsBySite, type ShownLearnedLimit } from './learned-limits-shown.ts';
import { learnedBySite, learnedLines, type ShownLearned } from './learned-shown.ts';
import { replayCommand } from './shaping-replay.ts';
import { suggestCommand } from './shaping-suggest.ts';

const CHECK_HELP = `
Says what is wrong with config/shaping.json and shaping.overrides_file, with file and line: names and numbers that are none,
names that two providers claim, names that an earlier rule takes. Exit codes: 0 they are good, 78 they are not.`;

export function addShaping(program: Command, line: CommandLine): void {
  const shaping = program.command('shaping').description('limits at providers').helpCommand(false);
  shaping
    .command('check')
    .description('check the files with limits')
    .option('--overrides <file>', 'check this file in place of shaping.overrides_file')
    .option('--json', 'print JSON', false)
    .addHelpText('after', CHECK_HELP)
    .action(async ({ overrides, json }: { overrides?: string; json: boolean }) => {
      const { readShaping } = await import('../shaping/shaping-file.ts');
      const { shaping: files } = configFor(['shaping'], line.configPath());
      const checked = { ...files, overrides_file: overrides ?? files.overrides_file };
      const problems: string[] = [];
      readShaping(checked, problems);
      const names = [checked.file, checked.overrides_file].filter((name) => name !== '');
      const verdict = `${names.join(', ')}: ${problems.length === 0 ? 'good' : `${problems.length} wrong`}`;
      line.out.write(
        json
          ? `${printableJson(JSON.stringify({ files: names, problems }, null, 2))}\n`
          : printableLines(`${[...problems, verdict].join('\n')}\n`),
      );
      if (problems.length > 0) line.endsWith(EXIT.config);
    });
  shaping
    .command('show [provider]')
    .description(
      'print who the providers are, their limits with the file and line of each, and what was learned of them',
    )
    .option('--json', 'print JSON', false)
    .action(async (provider: string | undefined, { json }: { json: boolean }) => {
      const { loadShaping } = await import('../shaping/shaping-file.ts');
      const config = configFor(['shaping', 'adaptive'], line.configPath());
      const loaded = loadShaping(config.shaping);
      const learned = learnedBySite(
        dataDirOf(line.configPath()),
        settingsOf(() => config.adaptive),
        Date.now(),
      );
      const limits = learnedLimitsBySite(dataDirOf(line.configPath()), Date.now());
      const providers = [DEFAULT, ...loaded.data.providers.map(({ name }) => name)];
      const sites = new Set([...learned.keys(), ...limits.keys()]);
      const names = [...providers, ...[...sites].filter((site) => !providers.includes(site))];
      if (provider !== undefined && !names.includes(provider)) {
        const near = nearest(provider, names);
        line.usage(`there is no provider ${provider}${near === null ? '' : ` (did you mean ${near}?)`}`);
      }
      const shown = names
        .filter((name) => provider === undefined || name === provider)
        .map((name) => ({
          ...providerAnswer(loaded, name, providers.includes(name)),
          learned: learned.get(name) ?? [],
          learned_limits: limits.get(name) ?? [],
        }));
      line.out.write(
        json ? `${printableJson(JSON.stringify(shown, null, 2))}\n` : printableLines(textOf(shown)),
      );
    });
  replayCommand(shaping, line);
  suggestCommand(shaping, line);
}

/** What limits are called that hold for sites of no provider. */
const DEFAULT = 'default';

interface ShownLimit {
  limit: string;
  value: unknown;
  file: string;
  line: number;
  source: string | null;
  as_of: string | null;
}

interface ShownProvider {
  provider: string;
  mx_suffix: readonly string[];
  mx_exact: readonly string[];
  domain: readonly string[];
  limits: ShownLimit[];
}

type Shown = ShownProvider & { learned: ShownLearned[]; learned_limits: ShownLearnedLimit[] };

/** @param isNamed false: a site of which something was learned, and that has the limits of all. */
function providerAnswer({ data, originOf }: LoadedShaping, name: string, isNamed: boolean): ShownProvider {
  if (!isNamed) return { provider: name, mx_suffix: [], mx_exact: [], domain: [], limits: [] };
  const provider = data.providers.find((one) => one.name === name);
  const { limits, total } = provider ?? data;
  const all = [
    ...Object.entries(limits),
    ...Object.entries(total).map(([limit, value]) => [`total_${limit}`, value] as const),
  ];
  const { mx_suffix = [], mx_exact = [], domain = [] } = provider?.match ?? {};
  return {
    provider: name,
    mx_suffix,
    mx_exact,
    domain,
    limits: all.map(([limit, value]) => {
      const origin = originOf(provider === undefined ? '' : name, limit);
      return {
        limit,
        value,
        file: origin?.place.file ?? '',
        line: origin?.place.line ?? 0,
        source: origin?.source || null,
        as_of: origin?.asOf || null,
      };
    }),
  };
}

function textOf(shown: readonly Shown[]): string {
  return shown
    .map(({ provider, mx_suffix, mx_exact, domain, limits, learned, learned_limits }) => {
      const lists = { 'MX below': mx_suffix, MX: mx_exact, domains: domain };
      const who = Object.entries(lists).flatMap(([title, names]) =>
        names.length === 0 ? [] : [`  ${title} ${names.join(', ')}`],
      );
      const rows = limits.map(({ limit, value, file, line, source, as_of }) => [
        `  ${limit}`,
        typeof value === 'object' ? JSON.stringify(value) : String(value),
        `${file}:${line}${source === null ? '' : ` (${source}, ${as_of})`}`,
      ]);
      const told = [...learnedLines(learned), ...learnedLimitLines(learned_limits)];
      const lines = told.map((one) => `${one}\n`);
      return `${[provider, ...who].join('\n')}\n${columns(rows)}${lines.join('')}`;
    })
    .join('\n');
}
