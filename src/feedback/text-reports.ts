/**
 * Reports of programs that write their own form: qmail (QSBMF), Exim without a machine-readable part, Exchange. Bounded like
 * report-reader.ts. Pure.
 */
import type { Fields } from './report-parts.ts';
import { split } from './report-parts.ts';
import { addressesIn, type Failure, refusalIn } from './reported-failure.ts';

const MAX_FAILURES = 100;
const MAX_TEXT_LENGTH = 32_768;
const MAX_REASON_LENGTH = 1000;

const QMAIL = /^Hi\. This is (?:the|a) [^\n]{1,200}(?:program|system)/m;
const QMAIL_COPY = '--- Below this line is a copy of the message.';
const EXIM =
  /^(?:This message was created automatically by mail delivery software|A message that you (?:sent|have sent) )/m;
const EXIM_COPY = /^-{4,10} This is a copy of [^\n]{1,200}$/m;
const EXCHANGE = /^Diagnostic information for administrators:/im;
const EXCHANGE_COPY = /^Original message headers:/im;

/** @param text of the first part that is text. [] where it is no report of failures. */
export function failuresInText(fields: Fields, text: string): Failure[] {
  const said = text.slice(0, MAX_TEXT_LENGTH);
  if (QMAIL.test(said)) return qmail(said);
  if (EXIM.test(said) || fields.has('x-failed-recipients')) return exim(fields, said);
  if (EXCHANGE.test(said)) return exchange(said);
  return [];
}

/** The header of our message as the text has it; empty where it has none. */
export function originalInText(text: string): Fields {
  const qmailAt = text.indexOf(QMAIL_COPY);
  const copy =
    qmailAt >= 0 ? { index: qmailAt, 0: QMAIL_COPY } : (EXIM_COPY.exec(text) ?? EXCHANGE_COPY.exec(text));
  if (copy === null) return new Map();
  return split(text.slice(copy.index + copy[0].length).trimStart()).fields;
}

/** '<user@example.com>:' and what was said of it, in paragraphs (QSBMF). */
function qmail(text: string): Failure[] {
  const failures: Failure[] = [];
  const end = text.indexOf(QMAIL_COPY);
  for (const paragraph of (end < 0 ? text : text.slice(0, end)).split('\n\n')) {
    const [, address, reason] = /^\s*<([^\s<>]{1,320})>:\n([\s\S]{1,4000})/.exec(paragraph) ?? [];
    if (address !== undefined && reason !== undefined) failures.push(failureOf([address], reason));
    if (failures.length >= MAX_FAILURES) break;
  }
  return failures;
}

/** Addresses with two spaces before them, and what was said of each with four; or X-Failed-Recipients alone. */
function exim(fields: Fields, text: string): Failure[] {
  const copy = EXIM_COPY.exec(text);
  const lines = (copy === null ? text : text.slice(0, copy.index)).split('\n');
  // A message that is only late says so; it has no list of those that failed.
  if (
    !fields.has('x-failed-recipients') &&
    /^(?:No action is required|[^\n]{0,80}has not yet been delivered)/m.test(text)
  )
    return [];
  const failures: Failure[] = [];
  for (let i = 0; i < lines.length && failures.length < MAX_FAILURES; i++) {
    const address = /^ {2}([^\s<>]{1,64}@[^\s<>]{1,255})$/.exec(lines[i] as string)?.[1];
    if (address === undefined) continue;
    let reason = '';
    while (reason.length < MAX_REASON_LENGTH && /^ {4}/.test(lines[i + 1] ?? ''))
      reason += `${(lines[++i] as string).trim()} `;
    failures.push(failureOf([address], reason));
  }
  const missing = addressesIn(fields.get('x-failed-recipients') ?? '').filter(
    (address) => !failures.some(({ addresses }) => addresses.includes(address)),
  );
  return [...failures, ...missing.map((address) => failureOf([address], ''))];
}

/** An address on a line, then '#550 5.1.1 …##' or 'Remote Server returned '…'' for it. */
function exchange(text: string): Failure[] {
  const from = EXCHANGE.exec(text)?.index ?? 0;
  const until = EXCHANGE_COPY.exec(text)?.index ?? text.length;
  const failures: Failure[] = [];
  let address = '';
  for (const line of text.slice(from, until).split('\n')) {
    const alone = /^\s*([^\s<>#']{1,64}@[^\s<>#']{1,255})\s*$/.exec(line)?.[1];
    if (alone !== undefined) address = alone;
    const said = /^(?:#<?|.{0,60}returned '(?:<[^>]{0,255}>? ?#?)?)(.{3,1000})/.exec(line.trim())?.[1];
    if (said === undefined || address === '') continue;
    failures.push(failureOf([address], said));
    address = '';
    if (failures.length >= MAX_FAILURES) break;
  }
  return failures;
}

function failureOf(addresses: string[], reason: string): Failure {
  const said = reason.replaceAll(/\s+/g, ' ').trim();
  // Before the reply stand words of the program: 'SMTP error from remote mail server after RCPT TO:<…>: 550 …'.
  const reply = /(?:^|[:\s'])([45]\d\d[ -].*)/.exec(said.slice(0, MAX_REASON_LENGTH))?.[1];
  return { addresses, ...refusalIn(reply ?? said, ''), host: '' };
}
