/** `protorelay ban …`: prints for people, or JSON with --json. */
import type { Writable } from 'node:stream';
import type { Command } from 'commander';
import { EXIT, type ExitCode } from '../base/exit-codes.ts';
import { printable, printableJson, printableLines } from '../base/printable.ts';
import { dataDirOf } from '../config/load.ts';
import { banAnswer } from '../control/ban-answer.ts';
import type { BanBook } from '../control/target.ts';
import type { Ban } from '../policy/ban-table.ts';
import { duration, networksOf } from './arguments.ts';
import type { CommandLine } from './command-line.ts';

export function addBans(program: Command, line: CommandLine): void {
  const ban = program.command('ban').description('clients that are not served').helpCommand(false);
  ban
    .command('list')
    .description('who is banned, why, and until when')
    .option('--json', 'print JSON', false)
    .action(({ json }) => onBans(line, (bans) => listBans(bans, json, line.out)));
  ban
    .command('add')
    .argument('<networks...>', 'as 192.0.2.1 or 2001:db8::/64', networksOf)
    .description('ban addresses or networks')
    .option(
      '--for <time>',
      'how long, as 90s, 10m, 12h or 7d; without it until it is deleted',
      duration,
      null,
    )
    .option('--json', 'print JSON', false)
    .action((networks: string[], { for: durationMs, json }) =>
      onBans(line, (bans) => banNetworks(bans, networks, durationMs, json, line.out)),
    );
  ban
    .command('delete')
    .argument('<networks...>', 'as 192.0.2.1 or 2001:db8::/64', networksOf)
    .description('serve them again: addresses or networks as `ban list` shows them')
    .option('--json', 'print JSON', false)
    .action((networks: string[], { json }) =>
      onBans(line, (bans) => unban(bans, networks, json, line.out, line.err)),
    );
}

/** Runs the command through the running relay, or on the file of a stopped one. */
async function onBans(line: CommandLine, command: (bans: BanBook) => Promise<ExitCode>): Promise<void> {
  const dataDir = dataDirOf(line.configPath());
  const { runningRelay } = await import('../control/running-relay.ts');
  const client = await runningRelay(dataDir);
  if (client !== null) {
    line.endsWith(await command(client.bans).finally(() => client.close()));
    return;
  }
  const { StoppedBans } = await import('../policy/stopped-bans.ts');
  const { lockDataDir } = await import('../base/data-dir.ts');
  const lock = lockDataDir(dataDir);
  try {
    line.endsWith(await command(new StoppedBans(dataDir, Date.now)));
  } finally {
    lock.release();
  }
}

export async function listBans(bans: BanBook, json: boolean, out: Writable): Promise<ExitCode> {
  const list = await bans.list();
  if (json) out.write(jsonText(list.map(banAnswer)));
  else if (list.length === 0) out.write('nobody is banned\n');
  else for (const ban of list) out.write(`${lineOf(ban)}\n`);
  return EXIT.ok;
}

export async function banNetworks(
  bans: BanBook,
  networks: readonly string[],
  durationMs: number | null,
  json: boolean,
  out: Writable,
): Promise<ExitCode> {
  const added: Ban[] = [];
  try {
    for (const network of networks) {
      const ban = await bans.add(network, durationMs);
      added.push(ban);
      if (!json) out.write(`${lineOf(ban)}\n`);
    }
  } finally {
    // Should one fail, those before it are banned all the same.
    if (json) out.write(jsonText(added.map(banAnswer)));
  }
  return EXIT.ok;
}

export async function unban(
  bans: BanBook,
  networks: readonly string[],
  json: boolean,
  out: Writable,
  err: Writable,
): Promise<ExitCode> {
  const deleted: string[] = [];
  const unknown: string[] = [];
  try {
    for (const network of networks) {
      const wasBanned = await bans.delete(network);
      (wasBanned ? deleted : unknown).push(network);
      if (!wasBanned)
        err.write(printableLines(`protorelay: ${network} is not banned; see protorelay ban list\n`));
      else if (!json) out.write(printableLines(`${network} is served again\n`));
    }
  } finally {
    if (json) out.write(jsonText({ deleted, unknown }));
  }
  return unknown.length === 0 ? EXIT.ok : EXIT.dataError;
}

const jsonText = (value: object): string => `${printableJson(JSON.stringify(value, null, 2))}\n`;

function lineOf(ban: Ban): string {
  const { network, kind, banned_at, ends_at, times } = banAnswer(ban);
  const end = ends_at === null ? 'until it is deleted' : `until ${ends_at}`;
  const again = times > 1 ? `, the ${times}th time` : '';
  return printable(`${network}  ${kind}  since ${banned_at} ${end}${again}`);
}
