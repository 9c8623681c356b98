/** `protorelay reload`: asks the running relay, prints what became of it. */
import { EXIT, type ExitCode } from '../base/exit-codes.ts';
import { printableLines } from '../base/printable.ts';
import { ControlClient } from '../control/client.ts';

export async function reloadRunning(
  controlPath: string,
  out: NodeJS.WritableStream,
  err: NodeJS.WritableStream,
): Promise<ExitCode> {
  const client = await ControlClient.connect(controlPath);
  if (client === null) {
    err.write(printableLines(`protorelay: no relay is running (${controlPath})\n`));
    return EXIT.unavailable;
  }
  try {
    const { applied, needsRestart, problems } = await client.reload();
    for (const problem of problems) err.write(printableLines(`protorelay: not reloaded: ${problem}\n`));
    if (applied.length > 0) out.write(printableLines(`changed: ${applied.join(', ')}\n`));
    if (needsRestart.length > 0) out.write(printableLines(`takes a restart: ${needsRestart.join(', ')}\n`));
    if (problems.length === 0) out.write('reloaded\n');
    return problems.length === 0 ? EXIT.ok : EXIT.config;
  } finally {
    client.close();
  }
}
