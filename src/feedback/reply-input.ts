/** Refusals that somebody hands in as JSON: { "provider", "mx_host", "command", "reply" }. */
import { ReplyParser } from '../protocol/reply-parser.ts';
import type { Refusal } from './classifier.ts';

/** What is wrong with what was handed in. */
export class InputError extends Error {}

export interface GivenRefusal {
  /** All that was in the line. */
  given: Record<string, unknown>;
  refusal: Refusal;
  /** '' where none was named. */
  provider: string;
  mxHost: string;
}

/** @param text null where it was too long. @throws InputError */
export function readRefusal(text: string | null): GivenRefusal {
  if (text === null) throw new InputError('longer than 1 MiB');
  let given: unknown;
  try {
    given = JSON.parse(text);
  } catch (error) {
    throw new InputError(`not JSON: ${(error as Error).message}`);
  }
  if (typeof given !== 'object' || given === null || Array.isArray(given))
    throw new InputError('not an object: write {"reply": "550 …"}');
  const { reply, provider, mx_host: mxHost } = given as Record<string, unknown>;
  if (typeof reply !== 'string') throw new InputError('"reply" is missing, or is no text');
  return {
    given: given as Record<string, unknown>,
    refusal: refusalIn(reply),
    provider: textOrNone('provider', provider),
    mxHost: textOrNone('mx_host', mxHost),
  };
}

function textOrNone(key: string, value: unknown): string {
  if (value === undefined || value === null) return '';
  if (typeof value !== 'string') throw new InputError(`"${key}" is no text`);
  return value;
}

/** A reply as it came over the line. That its last line says that more follow is forgiven. */
function refusalIn(reply: string): Refusal {
  const lines = reply.trimEnd().split(/\r\n|\r|\n/);
  const last = lines.pop() as string;
  const parser = new ReplyParser();
  const first = lines.map((line) => parser.push(line)).find((read) => read !== null);
  const read = first === undefined ? parser.push(last.replace(/^(\d{3})-/, '$1 ')) : first;
  if (read === null || typeof read === 'string' || read.code < 400)
    throw new InputError('"reply" is no refusal: it begins with 4 or 5 and two more digits');
  return { code: read.code, enhanced: read.enhanced, text: read.lines.join('\n') };
}
