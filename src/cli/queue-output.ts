/** How the queue commands write: at the pace of who reads it, and saying what could not be seen. */
import { once } from 'node:events';
import type { Writable } from 'node:stream';
import { EXIT, type ExitCode } from '../base/exit-codes.ts';
import { printableJson, printableLines } from '../base/printable.ts';
import { missingText } from '../control/missing.ts';
import type { Missing } from '../database/database.ts';
import type { QueueSource } from './open-queue.ts';

export interface QueueOutput {
  out: Writable;
  err: Writable;
  nowMs: number;
  /** Asks on the terminal. null: there is nobody to ask. */
  ask?: ((question: string) => Promise<boolean>) | null;
  /** Aborted when the command is to end after the part under way. */
  interrupted?: AbortSignal;
  /** From here on an interrupt aborts `interrupted`, instead of ending the program. */
  heedInterrupts?(): void;
}

export const isTerminal = (out: Writable): boolean => (out as { isTTY?: boolean }).isTTY === true;

export async function written(out: Writable, text: string): Promise<void> {
  if (!out.write(text)) await once(out, 'drain');
}

export const jsonOf = (answer: object): string => `${printableJson(JSON.stringify(answer, null, 2))}\n`;

export async function missingOf({ reader }: QueueSource): Promise<Missing[]> {
  return (await reader.missing?.()) ?? [];
}

/** Prints what an answer leaves out. Returns the exit code: `code` when nothing is missing. */
export function told(missing: readonly Missing[], err: Writable, code: ExitCode): ExitCode {
  for (const one of missing) err.write(printableLines(`protorelay: not seen: ${missingText(one)}\n`));
  return missing.length > 0 ? EXIT.temporary : code;
}
