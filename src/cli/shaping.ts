/** `protorelay shaping …`: the limits at providers, as the config and its files have them. Needs no relay. */
import type { Command } from 'commander';
import { EXIT } from '../base/exit-codes.ts';
import { nearest } from '../base/nearest.ts';
import { printableJson, printableLines } from '../base/printable.ts';
import { configFor, dataDirOf } from '../config/load.ts';
import { settingsOf } from '../shaping/adaptive/settings.ts';
import type { LoadedShaping, Origin } from '../shaping/shaping-file.ts';
import type { CommandLine } from './command-line.ts';
import { columns } from './format.ts';
import { learnedLimitLines, learnedLimitsBySite, type ShownLearnedLimit } from './learned-limits-shown.ts';
import { learnedBySite, learnedLines, type ShownLearned } from './learned-shown.ts';
import { disagreements } from './provider-names.ts';
import { replayCommand } from './shaping-replay.ts';
import { suggestCommand } from './shaping-suggest.ts';

const CHECK_HELP = `
Says what is wrong with config/shaping.json and shaping.overrides_file, with file and line: names and numbers that are none,
names that two providers claim, names that an earlier rule takes, sources and pools that egress does not have; and where the rules
for replies have a host with another provider. Exit codes: 0 they are good, 78 they are not.`;

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
      const {
        shaping: files,
        egress,
        replies,
      } = configFor(['shaping', 'egress', 'replies'], line.configPath());
      const checked = { ...files, overrides_file: overrides ?? files.overrides_file };
      const problems: string[] = [];
      const loaded = readShaping(checked, problems, egress);
      const differ = loaded === null ? [] : disagreements(loaded, replies.file);
      const names = [checked.file, checked.overrides_file].filter((name) => name !== '');
      const verdict = `${names.join(', ')}: ${problems.length === 0 ? 'good' : `${problems.length} wrong`}`;
      line.out.write(
        json
          ? `${printableJson(JSON.stringify({ files: names, problems, differ }, null, 2))}\n`
          : printableLines(`${[...problems, ...differ, verdict].join('\n')}\n`),
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
      const config = configFor(['shaping', 'adaptive', 'egress'], line.configPath());
      const loaded = loadShaping(config.shaping, config.egress);
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
  /** What sources have of their own. */
  sources: { source: string; limits: ShownLimit[] }[];
}

type Shown = ShownProvider & { learned: ShownLearned[]; learned_limits: ShownLearnedLimit[] };

/** @param isNamed false: a site of which something was learned, and that has the limits of all. */
function providerAnswer({ data, originOf }: LoadedShaping, name: string, isNamed: boolean): ShownProvider {
  if (!isNamed) return { provider: name, mx_suffix: [], mx_exact: [], domain: [], limits: [], sources: [] };
  const provider = data.providers.find((one) => one.name === name);
  const { limits, total } = provider ?? data;
  const of = provider === undefined ? '' : name;
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
    limits: all.map(([limit, value]) => shown(limit, value, originOf(of, limit))),
    sources: [...((provider ?? data).sources ?? [])].map(([source, values]) => ({
      source,
      limits: Object.entries(values).flatMap(([limit, value]) => {
        const origin = originOf(of, limit, source);
        const isOwn = origin?.place !== originOf(of, limit)?.place;
        return isOwn ? [shown(limit, value, origin)] : [];
      }),
    })),
  };
}

const shown = (limit: string, value: unknown, origin: Origin | null): ShownLimit => ({
  limit,
  value,
  file: origin?.place.file ?? '',
  line: origin?.place.line ?? 0,
  source: origin?.source || null,
  as_of: origin?.asOf || null,
});

function textOf(shown: readonly Shown[]): string {
  return shown
    .map(({ provider, mx_suffix, mx_exact, domain, limits, sources, learned, learned_limits }) => {
      const lists = { 'MX below': mx_suffix, MX: mx_exact, domains: domain };
      const who = Object.entries(lists).flatMap(([title, names]) =>
        names.length === 0 ? [] : [`  ${title} ${names.join(', ')}`],
      );
      const row = ({ limit, value, file, line, source, as_of }: ShownLimit, from: string): string[] => [
        `  ${limit}${from}`,
        typeof value === 'object' ? JSON.stringify(value) : String(value),
        `${file}:${line}${source === null ? '' : ` (${source}, ${as_of})`}`,
      ];
      const ofSources = sources.flatMap(({ source, limits: own }) =>
        own.map((one) => row(one, ` from ${source === '' ? 'the default source' : source}`)),
      );
      const rows = [...limits.map((one) => row(one, '')), ...ofSources];
      const told = [...learnedLines(learned), ...learnedLimitLines(learned_limits)];
      const lines = told.map((one) => `${one}\n`);
      return `${[provider, ...who].join('\n')}\n${columns(rows)}${lines.join('')}`;
    })
    .join('\n');
}
