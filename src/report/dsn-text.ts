/** The part of a DSN that people read. */
import { onOneLine } from '../base/printable.ts';
import { peerText } from '../mail/peer.ts';
import { formatDate } from '../protocol/date.ts';
import type { DsnRecipient, ReportInput } from './report-input.ts';

const INTRODUCTION: Record<DsnRecipient['action'], string> = {
  failed: 'Your message could not be delivered to these recipients. It will not be tried again:',
  delayed: 'Your message has not yet been delivered to these recipients. It is still being tried:',
  relayed:
    'Your message was passed on for these recipients to a mail system that may not send a report on delivery:',
};

/** Longest line; RFC 5322 allows 998. */
const MAX_LINE = 900;

/** The text; its lines end in CRLF. */
export function writeText(input: ReportInput): string {
  const { hostname, original } = input;
  const lines = [
    `This is the mail relay ${hostname}.`,
    '',
    `About your message received ${formatDate(original.receivedAtMs)} (queue id ${original.queueId}):`,
  ];
  for (const action of ['failed', 'delayed', 'relayed'] as const) {
    const recipients = input.recipients.filter((recipient) => recipient.action === action);
    if (recipients.length === 0) continue;
    lines.push('', INTRODUCTION[action], '');
    for (const recipient of recipients) lines.push(...recipientLines(recipient));
  }
  const until = input.recipients.find(({ willRetryUntilMs }) => willRetryUntilMs !== undefined);
  if (until?.willRetryUntilMs !== undefined)
    lines.push(
      '',
      `It will be tried until ${formatDate(until.willRetryUntilMs)}. You need not send it again.`,
    );
  lines.push('');
  return lines.map((line) => `${line.slice(0, MAX_LINE)}\r\n`).join('');
}

function recipientLines({ address, reply, detail, status }: DsnRecipient): string[] {
  const lines = [`  <${onOneLine(address)}>`];
  if (detail !== undefined && detail !== '') lines.push(`    ${onOneLine(detail)} (${status})`);
  else if (reply !== undefined)
    lines.push(`    ${onOneLine(`${peerText(reply.peer)} said: ${reply.code} ${reply.text}`)}`);
  return lines;
}
