/** The queue for people: tables and pages of plain text. Pure. */
import { printable } from '../base/printable.ts';
import {
  attributesOf,
  hasNextAttempt,
  type VerdictAnswer,
  type VerdictOn,
} from '../control/queue-answers.ts';
import { fateOf, stateWord } from '../control/words.ts';
import type { MailDetail } from '../database/database.ts';
import type { ShardReport } from '../database/shard-setup.ts';
import type { QueueRow } from '../mail/queue-row.ts';
import type { SuspensionRule } from '../mail/suspension.ts';

/** Text from outside (addresses, peer replies) without what could steer a terminal. */
export const plain = (text: string): string => printable(text);

const TITLES = [
  'QUEUE ID',
  'STATE',
  'AGE',
  'SIZE',
  'ATTEMPTS',
  'NEXT',
  'RCPTS',
  'DESTINATION',
  'SENDER',
  'REASON',
];

/** One page of a list. @param widths of the columns on the page before; null on the first page. */
export function formatRows(
  rows: readonly QueueRow[],
  nowMs: number,
  widths: number[] | null,
): { text: string; widths: number[] } {
  const table = rows.map((row) => [
    row.queueId,
    stateWord(row.state),
    duration(nowMs - row.receivedAtMs),
    size(row.sizeBytes),
    String(row.attempts),
    next(row, nowMs),
    String(row.waiting),
    plain(row.destination),
    `<${plain(row.reversePath)}>`,
    reason(row),
  ]);
  const all = widths === null ? [TITLES, ...table] : table;
  const grown = widthsOf(all, widths ?? []);
  return { text: columns(all, grown), widths: grown };
}

export function formatShards(shards: readonly ShardReport[], nowMs: number): string {
  const titles = [
    'SHARD',
    'ID',
    'WEIGHT',
    'STATE',
    'MESSAGES',
    'WAITING',
    'LATENCY',
    'FREE',
    'ERRORS',
    'LAST ERROR',
  ];
  const rows = shards.map((shard) => [
    plain(shard.name),
    String(shard.id),
    String(shard.weight),
    shard.up ? 'up' : `down${shard.downSinceMs === null ? '' : ` ${duration(nowMs - shard.downSinceMs)}`}`,
    String(shard.mails ?? '?'),
    String(shard.waitingRows ?? '?'),
    shard.latencyMs === null ? '-' : `${shard.latencyMs} ms`,
    String(shard.freeConnections),
    String(shard.errors),
    plain(shard.lastError),
  ]);
  return columns([titles, ...rows]);
}

/** @param suspensions the rules that hold each entry. */
export function formatMail(
  mail: MailDetail,
  suspensions: readonly (readonly SuspensionRule[])[],
  nowMs: number,
  verdictOn: VerdictOn = () => null,
): string {
  const lines = [
    `Queue id    ${mail.queueId}`,
    `Sender      <${plain(mail.reversePath)}>`,
    ...(mail.rows[0]?.messageId ? [`Message-ID  <${plain(mail.rows[0].messageId)}>`] : []),
    `Size        ${mail.sizeBytes} bytes`,
    `Received    ${new Date(mail.receivedAtMs).toISOString()} (${duration(nowMs - mail.receivedAtMs)} ago)`,
    `Client      ${clientOf(mail)}`,
    ...attributeLines(mail.rows[0]),
    '',
    'Destinations',
  ];
  const rows = mail.rows.map((row, i) => [
    `  ${plain(row.destination)}`,
    stateWord(row.state),
    counted(row.attempts, 'attempt', 'attempts'),
    suspensions[i]?.length
      ? `suspended by ${suspensions[i].map(({ id }) => id).join(', ')}`
      : `next ${next(row, nowMs)}`,
    reason(row),
  ]);
  const recipients = mail.recipients.map((r) => [
    `  <${plain(r.address)}>`,
    fateOf(r),
    r.class,
    `${meaning(verdictOn(r))}${plain([r.reason, r.detail].filter((text) => text !== '').join(': '))}`,
  ]);
  let text = `${lines.join('\n')}\n${columns(rows)}\nRecipients\n${columns(recipients)}`;
  if (mail.attachments.length > 0) {
    const parts = mail.attachments.map((a) => [
      `  ${plain(a.name)}`,
      plain(a.type),
      size(a.sizeBytes),
      `at ${a.offset}`,
    ]);
    text += `\nAttachments\n${columns(parts)}`;
  }
  return `${text}\nTrace\n${plainLines(mail.trace)}\n`;
}

/** '192.0.2.1 (helo.test) by ESMTPA at submission as shop'; of what is known. */
function clientOf({ clientAddress, clientHelo, protocol, rows: [row] }: MailDetail): string {
  const helo = clientHelo === '' ? '' : ` (${clientHelo})`;
  const known = (word: string, value = ''): string => (value === '' ? '' : ` ${word} ${value}`);
  const user = known('as', row?.user ?? '');
  return plain(`${clientAddress}${helo}${known('by', protocol)}${known('at', row?.listener)}${user}`);
}

const meaning = (verdict: VerdictAnswer | null): string =>
  verdict === null ? '' : `${verdict.class}, ${verdict.scope}, ${verdict.move}: `;

/** A line for each attribute that the message has. */
function attributeLines(row: QueueRow | undefined): string[] {
  const {
    tenant,
    campaign,
    class: kind,
    pool,
    metadata,
    deadlineMs,
    priorityHint,
  } = row === undefined ? {} : attributesOf(row);
  const deadline = deadlineMs === undefined ? undefined : new Date(deadlineMs).toISOString();
  return Object.entries({
    Tenant: tenant,
    Campaign: campaign,
    Class: kind,
    Pool: pool,
    Metadata: metadata,
    Deadline: deadline,
    Priority: priorityHint === undefined ? undefined : String(priorityHint),
  })
    .filter(([, value]) => value !== undefined)
    .map(([word, value]) => `${word.padEnd(11)} ${plain(value as string)}`);
}

function reason(row: QueueRow): string {
  return plain([row.reason, row.detail].filter((text) => text !== '').join(': '));
}

function next(row: QueueRow, nowMs: number): string {
  return hasNextAttempt(row) ? when(row.nextAttemptMs, nowMs) : '-';
}

/** '1 entry', '3 entries' */
export const counted = (n: number, one: string, many: string): string => `${n} ${n === 1 ? one : many}`;

export const when = (atMs: number, nowMs: number): string =>
  atMs <= nowMs ? 'now' : `in ${duration(atMs - nowMs)}`;

/** 350 → "350ms", 61_000 → "1m1s", 90_000_000 → "1d1h". */
export function duration(ms: number): string {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))}ms`;
  const units: [string, number][] = [
    ['d', 86_400],
    ['h', 3600],
    ['m', 60],
    ['s', 1],
  ];
  let seconds = Math.floor(ms / 1000);
  const parts: string[] = [];
  for (const [unit, length] of units) {
    const whole = Math.floor(seconds / length);
    seconds -= whole * length;
    if (whole > 0) parts.push(`${whole}${unit}`);
    else if (parts.length > 0) break;
    if (parts.length === 2) break;
  }
  return parts.join('');
}

/** 1536 → "1.5K" */
export function size(bytes: number): string {
  let value = bytes;
  for (const unit of ['', 'K', 'M', 'G', 'T']) {
    if (value < 1024 || unit === 'T') return unit === '' ? `${value}` : `${value.toFixed(1)}${unit}`;
    value /= 1024;
  }
  return '';
}

function widthsOf(rows: readonly string[][], least: readonly number[] = []): number[] {
  const widths = [...least];
  for (const row of rows)
    for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length);
  return widths;
}

export function columns(rows: string[][], widths = widthsOf(rows)): string {
  return rows
    .map(
      (row) =>
        `${row
          .map((cell, i) => cell.padEnd(widths[i] ?? 0))
          .join('  ')
          .trimEnd()}\n`,
    )
    .join('');
}

/** Lines of a header, indented, without what could steer a terminal. */
function plainLines(text: string): string {
  return text
    .trimEnd()
    .split('\r\n')
    .map((line) => `  ${plain(line.replace(/^\t/, '    '))}`)
    .join('\n');
}
