/**
 * Commands of operators in this process, where what they do is asked about and not that they are a program: a start of
 * Node for each would take longer than most tests. Tests of the program itself start it (test/cli).
 */
import { Writable } from 'node:stream';
import { CommanderError } from 'commander';
import { RelayError } from '../../src/base/errors.ts';
import { EXIT, EXIT_OF_ERROR, type ExitCode } from '../../src/base/exit-codes.ts';
import type { CommandLine } from '../../src/cli/command-line.ts';
import { newProgram } from '../../src/cli/program.ts';
import { addQueue } from '../../src/cli/queue.ts';
import { addReload } from '../../src/cli/reload.ts';
import { addReplies } from '../../src/cli/replies.ts';
import { addRoute } from '../../src/cli/route.ts';
import { addShaping } from '../../src/cli/shaping.ts';
import { addStatus } from '../../src/cli/status.ts';
import { addSuppression } from '../../src/cli/suppression.ts';
import { addSuspensions } from '../../src/cli/suspensions.ts';
import { addTokens } from '../../src/cli/token.ts';
import { addWarmUp } from '../../src/cli/warmup.ts';
import type { Ran } from './child.ts';

class Kept extends Writable {
  readonly #parts: Buffer[] = [];

  override _write(part: Buffer, _encoding: string, done: () => void): void {
    this.#parts.push(part);
    done();
  }

  get text(): string {
    return Buffer.concat(this.#parts).toString();
  }
}

/** As main.ts does it. */
export async function runHere(configPath: string, args: readonly string[]): Promise<Ran> {
  const [out, err] = [new Kept(), new Kept()];
  let code: ExitCode = EXIT.ok;
  const program = newProgram(out, err);
  const line: CommandLine = {
    out,
    err,
    configPath: () => configPath,
    endsWith: (ended) => {
      code = ended;
    },
    usage: (message) => program.error(`protorelay: ${message}`),
  };
  const groups = [
    addQueue,
    addReload,
    addReplies,
    addRoute,
    addStatus,
    addSuppression,
    addSuspensions,
    addTokens,
    addShaping,
    addWarmUp,
  ];
  for (const add of groups) add(program, line);
  try {
    await program.parseAsync(args, { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError) code = error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    else if (error instanceof RelayError) {
      err.write(`protorelay: ${error.message}\n`);
      code = EXIT_OF_ERROR[error.code];
    } else throw error;
  }
  return { code, signal: null, stdout: out.text, stderr: err.text };
}
