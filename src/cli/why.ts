/** `protorelay queue why ID`: for each entry of a message what keeps it. */
import { printable } from '../base/printable.ts';
import type { VerdictOn } from '../control/queue-answers.ts';
import { destinationsOf, type WhyAnswer, whyAnswer } from '../control/why.ts';
import type { MailDetail, Missing } from '../database/database.ts';
import { columns, counted } from './format.ts';
import type { QueueSource } from './open-queue.ts';

export async function whyMail(
  { client, rules }: QueueSource,
  mail: MailDetail,
  missing: readonly Missing[],
  nowMs: number,
  verdictOn: VerdictOn,
): Promise<WhyAnswer> {
  const standing = client === null ? null : await client.standing(destinationsOf(mail));
  return whyAnswer(mail, standing, standing?.rules ?? (await rules()), missing, nowMs, verdictOn);
}

export function whyText({ queue_id, entries }: WhyAnswer): string {
  let text = `Queue id    ${queue_id}\n`;
  for (const entry of entries) {
    const { destination, state, waiting_recipients: waiting, attempts } = entry;
    text += `\n${printable(destination)}: ${state}, ${waiting} waiting, ${counted(attempts, 'attempt', 'attempts')}\n`;
    const rows = entry.causes.map(({ cause, detail, ends_at }) => [
      `  ${cause}`,
      ends_at === null ? '' : `until ${ends_at}`,
      printable(detail ?? ''),
    ]);
    const { verdict } = entry;
    if (verdict !== null) rows.push(['  means', `${verdict.class} (${verdict.scope})`, verdict.move]);
    text += columns(rows);
  }
  return text;
}
