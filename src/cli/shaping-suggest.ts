/** `protorelay shaping suggest`: sites that look like one, and learned limits that a file could say, with the lines for it. */
import { join } from 'node:path';
import type { Command } from 'commander';
import { printableJson, printableLines } from '../base/printable.ts';
import { steadyMs, timeOfDayMs } from '../base/steady.ts';
import { configFor, dataDirOf } from '../config/load.ts';
import type { SiteReport } from '../mail/site-report.ts';
import type { LearnedLimit } from '../shaping/learned/learned-limits.ts';
import { LEARNED_LIMITS_FILE, readLearnedLimits } from '../shaping/learned/learned-limits-file.ts';
import type { Alike, LearnedToFix, Overrides } from '../shaping/suggestions.ts';
import type { CommandLine } from './command-line.ts';
import { columns } from './format.ts';
import { processFolders } from './learned-shown.ts';

const HELP = `
Sites are told apart by their MX hosts (shaping.rollup). Those that have hosts of one registered domain, or an address in common, are
likely to be one, which counts what it gets from us together. Sites and traffic are what the processes of the running relay know since
they began to send there; learned limits are those of today. The lines go into shaping.overrides_file: a list there is the whole list.`;

interface Suggestions {
  relay_running: boolean;
  alike: {
    by: Alike['by'];
    value: string;
    sites: {
      site: string;
      provider: string | null;
      messages: number;
      recipients: number;
      connections: number;
      since: string;
      hosts: SiteReport['hosts'];
    }[];
    overrides: Overrides;
  }[];
  learned: LearnedToFix[];
  /** All of it as one file. */
  overrides: Overrides;
}

export function suggestCommand(shaping: Command, line: CommandLine): void {
  shaping
    .command('suggest')
    .description('print sites that look like one, and learned limits, with the lines for a file of your own')
    .option('--json', 'print JSON', false)
    .addHelpText('after', HELP)
    .action(async ({ json }: { json: boolean }) => {
      const shown = await suggest(line);
      line.out.write(
        json ? `${printableJson(JSON.stringify(shown, null, 2))}\n` : printableLines(textOf(shown)),
      );
    });
}

async function suggest(line: CommandLine): Promise<Suggestions> {
  const { loadShaping } = await import('../shaping/shaping-file.ts');
  const { alikeSites, learnedToFix, together } = await import('../shaping/suggestions.ts');
  const { data } = loadShaping(configFor(['shaping'], line.configPath()).shaping);
  const dataDir = dataDirOf(line.configPath());
  const sites = await sitesOf(dataDir);
  const alike = alikeSites(sites ?? [], data.providers);
  const learned = learnedToFix(
    learnedIn(dataDir, timeOfDayMs(steadyMs())),
    sites ?? [],
    data.providers,
    (provider, limit) => {
      const { limits } = data.providers.find(({ name }) => name === provider) ?? data;
      return limits[limit] ?? null;
    },
  );
  return {
    relay_running: sites !== null,
    alike: alike.map(({ sites: members, ...group }) => ({
      ...group,
      sites: members.map(({ provider, sinceMs, ...site }) => ({
        ...site,
        provider: provider === '' ? null : provider,
        since: new Date(sinceMs).toISOString(),
      })),
    })),
    learned,
    overrides: together([...alike, ...learned].map(({ overrides }) => overrides)),
  };
}

/** null: no relay is running. */
async function sitesOf(dataDir: string): Promise<SiteReport[] | null> {
  const { ControlClient } = await import('../control/client.ts');
  const client = await ControlClient.connect(join(dataDir, 'control.sock'));
  return client === null ? null : await client.sites().finally(() => client.close());
}

/** Of each relay process. */
const learnedIn = (dataDir: string, nowMs: number): LearnedLimit[][] =>
  processFolders(dataDir).map((folder) =>
    readLearnedLimits(join(folder, LEARNED_LIMITS_FILE)).records.filter(({ until_ms }) => until_ms > nowMs),
  );

function textOf({ relay_running, alike, learned, overrides }: Suggestions): string {
  const groups = alike.map(({ by, value, sites }) => {
    const rows = sites.map(({ site, messages, recipients, connections, since }) => [
      `  ${site}`,
      String(messages),
      String(recipients),
      String(connections),
      since,
    ]);
    const what = by === 'mx_domain' ? `MX hosts below ${value}` : `the address ${value}`;
    return `Sites with ${what}\n${columns([['  SITE', 'MESSAGES', 'RECIPIENTS', 'CONNECTIONS', 'SINCE'], ...rows])}`;
  });
  const limits = learned.map(({ site, limit, value, now }) => [
    `  ${site}`,
    limit,
    String(value),
    now === null || now === 0 ? 'no limit in the files' : `${now} in the files`,
  ]);
  const parts = [
    ...groups,
    ...(limits.length === 0 ? [] : [`Learned of peers, for a day\n${columns(limits)}`]),
    ...(Object.keys(overrides.providers).length === 0
      ? []
      : [`For shaping.overrides_file:\n${JSON.stringify(overrides, null, 2)}\n`]),
    ...(relay_running ? [] : ['No relay is running: which sites look like one is not known.\n']),
  ];
  return parts.length === 0 ? 'Nothing to suggest.\n' : parts.join('\n');
}
