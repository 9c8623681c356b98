/** `protorelay queue why`: for each entry of a message, or of mail to a recipient or domain, what keeps it. */
import { EXIT, type ExitCode } from '../base/exit-codes.ts';
import { printable, printableLines } from '../base/printable.ts';
import { missingAnswer, type VerdictOn } from '../control/queue-answers.ts';
import { askedOf, destinationsOf, type WhyAnswer, whyAnswer } from '../control/why.ts';
import type { MailDetail, Missing, Selection } from '../database/database.ts';
import type { OutboxState } from '../mail/outbox-state.ts';
import { rowsOfLines } from '../mail/queue-lines.ts';
import type { QueueRow } from '../mail/queue-row.ts';
import { addressOf } from './arguments.ts';
import { columns, counted } from './format.ts';
import type { QueueSource } from './open-queue.ts';
import { jsonOf, missingOf, type QueueOutput, told } from './queue-output.ts';
import { verdictsOn } from './stored-verdicts.ts';

export async function whyMail(
  { client, rules }: QueueSource,
  mail: MailDetail,
  missing: readonly Missing[],
  nowMs: number,
  verdictOn: VerdictOn,
): Promise<WhyAnswer> {
  if (client === null) return whyAnswer(mail, null, await rules(), missing, nowMs, verdictOn);
  const standing = await client.standing(destinationsOf(mail));
  const explained = await client.explain(askedOf(mail));
  return whyAnswer(mail, standing, standing.rules, missing, nowMs, verdictOn, explained);
}

/** What an argument means: mail to a recipient or a domain, patterns too; null: it is the id of a message. */
export function selectionMeant(what: string): Selection | null {
  if (what.includes('@')) return { recipients: [addressOf(what)], states: WAITING };
  return what.includes('.') ? { domains: [what], states: WAITING } : null;
}

const WAITING: OutboxState[] = ['PENDING', 'SENDING', 'RETRY', 'HELD'];
/** So many entries of a page. */
const PAGE_ROWS = 200;

/** Says it of each message that is meant, the oldest first: of the entries with such recipients. */
export async function sayWhyOf(
  source: QueueSource,
  what: string,
  selection: Selection,
  { json, limit }: { json: boolean; limit: number },
  { out, err, nowMs }: QueueOutput,
): Promise<ExitCode> {
  const messages: WhyAnswer[] = [];
  let more = false;
  let after = '';
  for (let isLast = false; !isLast && !more; ) {
    const filter = { limit: PAGE_ROWS, selection, ...(after === '' ? {} : { afterQueueId: after }) };
    const rows = rowsOfLines(await source.reader.lines(filter));
    isLast = rows.length < PAGE_ROWS;
    for (const [queueId, destinations] of byMessage(rows)) {
      more = messages.length === limit;
      if (more) break;
      after = queueId;
      const mail = await source.reader.show(queueId);
      // It may have gone meanwhile.
      if (mail === null) continue;
      const meant = { ...mail, rows: mail.rows.filter((row) => destinations.has(row.destination)) };
      const verdictOn = await verdictsOn(meant, source.replyRules ?? (() => ''));
      messages.push(await whyMail(source, meant, [], nowMs, verdictOn));
    }
  }
  const missing = await missingOf(source);
  if (json) out.write(jsonOf({ messages, more, missing: missing.map(missingAnswer) }));
  else out.write(messages.map(whyText).join('\n') + (more ? '\nThere are more: --limit shows them.\n' : ''));
  if (messages.length === 0)
    err.write(printableLines(`protorelay: no message to ${what} waits in the queue\n`));
  return told(missing, err, messages.length === 0 ? EXIT.dataError : EXIT.ok);
}

function byMessage(rows: readonly QueueRow[]): Map<string, Set<string>> {
  const all = new Map<string, Set<string>>();
  for (const { queueId, destination } of rows) {
    const known = all.get(queueId);
    if (known === undefined) all.set(queueId, new Set([destination]));
    else known.add(destination);
  }
  return all;
}

export function whyText({ queue_id, entries }: WhyAnswer): string {
  let text = `Queue id    ${queue_id}\n`;
  for (const entry of entries) {
    const { destination, state, waiting_recipients: waiting, attempts, next_move_at: next } = entry;
    text += `\n${printable(destination)}: ${state}, ${waiting} waiting, ${counted(attempts, 'attempt', 'attempts')}`;
    text += `${next === null || entry.causes.length < 2 ? '' : `, moves ${next}`}\n`;
    const rows = entry.causes.map(({ cause, kind, detail, limit, used, since, until }) => [
      `  ${cause}`,
      kind,
      until === null ? '' : `until ${until}`,
      printable(
        `${detail ?? ''}${limit === null ? '' : `, ${used ?? 0} of ${limit}`}${since === null ? '' : `, since ${since}`}`,
      ),
    ]);
    const { verdict, position, position_exact: isExact } = entry;
    if (position !== null)
      rows.push([
        '  position',
        '',
        '',
        `${isExact ? '' : 'at least '}${position} recipients there are due before`,
      ]);
    for (const { recipients, reason, detail: said } of entry.last_replies)
      rows.push(['  last', reason, counted(recipients, 'recipient', 'recipients'), printable(said)]);
    if (verdict !== null) rows.push(['  means', `${verdict.class} (${verdict.scope})`, verdict.move, '']);
    text += columns(rows);
  }
  return text;
}
