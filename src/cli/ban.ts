/** `protorelay ban …`: prints for people, or JSON with --json. */
import type { Writable } from 'node:stream';
import { EXIT, type ExitCode } from '../base/exit-codes.ts';
import { printable, printableJson, printableLines } from '../base/printable.ts';
import type { Ban } from '../policy/ban-table.ts';
import type { BanBook } from '../control/protocol.ts';

/** Ends past this year have no date worth printing. */
const FOREVER_YEAR = 2100;

export async function listBans(bans: BanBook, json: boolean, out: Writable): Promise<ExitCode> {
  const list = await bans.list();
  if (json) out.write(`${printableJson(JSON.stringify(list, null, 2))}\n`);
  else if (list.length === 0) out.write('nobody is banned\n');
  else for (const ban of list) out.write(`${lineOf(ban)}\n`);
  return EXIT.ok;
}

export async function addBans(
  bans: BanBook,
  networks: readonly string[],
  durationMs: number | null,
  out: Writable,
): Promise<ExitCode> {
  for (const network of networks) out.write(`${lineOf(await bans.add(network, durationMs))}\n`);
  return EXIT.ok;
}

export async function deleteBans(
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

function lineOf({ network, kind, sinceMs, untilMs, times }: Ban): string {
  const until = new Date(untilMs);
  const end = until.getUTCFullYear() >= FOREVER_YEAR ? 'until it is deleted' : `until ${until.toISOString()}`;
  const again = times > 1 ? `, the ${times}th time` : '';
  return printable(`${network}  ${kind}  since ${new Date(sinceMs).toISOString()} ${end}${again}`);
}
