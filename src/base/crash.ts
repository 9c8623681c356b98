/** Our own fault, in a program or a relay process: it is reported, and the process ends; its parent starts it again. */
import { EXIT } from './exit-codes.ts';
import type { Log } from './log.ts';
import { sayAtOnce } from './log-sink.ts';

/**
 * From now on, ends the program (exit 70) on an error that nobody caught: the queue is safe on disk, and to go on in an
 * unknown state is the greater risk. Returns the function that does so.
 */
export function crashOnFaults(log: Log & { close(): void }): (error: unknown) => never {
  const crash = (error: unknown): never => {
    log.error('relay.crashed', { error });
    sayAtOnce(`protorelay: crashed: ${(error as Error)?.stack ?? String(error)}\n`);
    log.close();
    process.exit(EXIT.software);
  };
  process.on('uncaughtException', crash).on('unhandledRejection', crash);
  return crash;
}
