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
    .action((networks: string[], { for: durationMs }) =>
      onBans(line, (bans) => banNetworks(bans, networks, durationMs, line.out)),
    );
  ban
    .command('delete')
    .argument('<networks...>', 'as 192.0.2.1 or 2001:db8::/64', networksOf)
    .description('serve them again: addresses or networks as `ban list` shows them')
    .action((networks: string[]) => onBans(line, (bans) => unban(bans, networks, line.out, line.err)));
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
  if (json) out.write(`${printableJson(JSON.stringify(list.map(banAnswer), null, 2))}\n`);
  else if (list.length === 0) out.write('nobody is banned\n');
  else for (const ban of list) out.write(`${lineOf(ban)}\n`);
  return EXIT.ok;
}

export async function banNetworks(
  bans: BanBook,
  networks: readonly string[],
  durationMs: number | null,
  out: Writable,
): Promise<ExitCode> {
  for (const network of networks) out.write(`${lineOf(await bans.add(network, durationMs))}\n`);
  return EXIT.ok;
}

export async function unban(
  bans: BanBook,
  networks: readonly string[],
  out: Writable,
  err: Writable,
): Promise<ExitCode> {
  let code: ExitCode = EXIT.ok;
  for (const network of networks) {
    if (await bans.delete(network)) out.write(printableLines(`${network} is served again\n`));
    else {
      err.write(printableLines(`protorelay: ${network} is not banned; see protorelay ban list\n`));
      code = EXIT.dataError;
    }
  }
  return code;
}

function lineOf(ban: Ban): string {
  const { network, kind, banned_at, ends_at, times } = banAnswer(ban);
  const end = ends_at === null ? 'until it is deleted' : `until ${ends_at}`;
  const again = times > 1 ? `, the ${times}th time` : '';
  return printable(`${network}  ${kind}  since ${banned_at} ${end}${again}`);
}
