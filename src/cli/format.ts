/** The queue for people: tables and pages of plain text. Pure. */
import { printable } from '../base/printable.ts';
import type { ProcessStatus, SchedulerStats } from '../control/protocol.ts';
import { hasNextAttempt } from '../control/queue-answers.ts';
import { fateOf, stateWord } from '../control/words.ts';
import type { MailDetail, OutboxState, QueueRow, QueueStats } from '../database/database.ts';
import type { ShardReport } from '../database/shard-setup.ts';
import type { JournalStats } from '../journal/journal.ts';
import type { ClusterStats } from '../scheduler/scheduler.ts';

/** Text from outside (addresses, peer replies) without what could steer a terminal. */
const plain = (text: string): string => printable(text);

export const MORE_ENTRIES =
  '… more entries: raise --limit or narrow the list with --state, --destination, --sender, --recipient\n';

const TITLES = [
  'QUEUE ID',
  'STATE',
  'AGE',
  'SIZE',
  'TRIES',
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

export function formatMail(mail: MailDetail, nowMs: number): string {
  const lines = [
    `Queue id    ${mail.queueId}`,
    `Sender      <${plain(mail.reversePath)}>`,
    `Size        ${mail.sizeBytes} bytes`,
    `Received    ${new Date(mail.receivedAtMs).toISOString()} (${duration(nowMs - mail.receivedAtMs)} ago)`,
    `From        ${plain(mail.clientAddress)} (${plain(mail.clientHelo)}) by ${plain(mail.protocol)}`,
    '',
    'Destinations',
  ];
  const rows = mail.rows.map((row) => [
    `  ${plain(row.destination)}`,
    stateWord(row.state),
    `${row.attempts} tries`,
    `next ${next(row, nowMs)}`,
    reason(row),
  ]);
  const recipients = mail.recipients.map((r) => [
    `  <${plain(r.address)}>`,
    fateOf(r),
    r.class,
    plain([r.reason, r.detail].filter((text) => text !== '').join(': ')),
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

export function formatStats(
  queue: QueueStats,
  scheduler: SchedulerStats | null,
  nowMs: number,
  processes: readonly ProcessStatus[] = [],
  journal: JournalStats | null = null,
): string {
  const states = Object.entries(queue.rows).map(
    ([state, rows]) => `${stateWord(state as OutboxState)} ${rows}`,
  );
  const oldest = queue.oldestMs === null ? 'none' : duration(nowMs - queue.oldestMs);
  let text =
    queue.unavailable === undefined
      ? `Messages    ${queue.mails} (${size(queue.contentBytes)}), oldest ${oldest}\nEntries     ${states.join(', ')}\n`
      : `Messages    unknown: ${plain(queue.unavailable)}\n`;
  if (queue.suspectedPoison > 0)
    text += `Poison      ${queue.suspectedPoison} entries held that ended the relay twice: see "queue list --state held"\n`;
  if (journal !== null) text += formatJournal(journal, nowMs);
  if (scheduler === null) text += 'Relay       not running\n';
  else {
    text += `Delivery    ${scheduler.inFlight} in flight, ${scheduler.waitingRows} waiting at ${scheduler.destinations} destinations\n`;
    if (scheduler.cluster !== undefined) text += clusterLine(scheduler.cluster, nowMs);
    if (scheduler.faults !== undefined) text += faultsLine(scheduler.faults);
    for (const { destination, untilMs } of scheduler.suspended) {
      text += `Suspended   ${plain(destination)} for ${duration(untilMs - nowMs)}\n`;
    }
  }
  if (processes.length > 0) text += `\n${formatProcesses(processes, nowMs)}`;
  if (queue.destinations.length === 0) return text;
  const rows = queue.destinations.map((d) => [
    plain(d.destination),
    String(d.rows),
    when(d.nextDueMs, nowMs),
  ]);
  return `${text}\n${columns([['DESTINATION', 'WAITING', 'NEXT'], ...rows])}`;
}

/** What errors of the relay itself ended; '' when nothing, as it should be. */
function faultsLine({ sessions, deliveries, others }: NonNullable<SchedulerStats['faults']>): string {
  if (sessions + deliveries + others === 0) return '';
  return `Faults      ${sessions} dialogs with clients and ${deliveries} with next hops ended by errors of the relay, ${others} other errors; see the log\n`;
}

function formatJournal({ bytes, maxBytes, waiting, oldestMs, shards }: JournalStats, nowMs: number): string {
  const oldest = oldestMs === null ? 'none' : duration(nowMs - oldestMs);
  let text = `Journal     ${waiting} messages to drain (${size(bytes)} of ${size(maxBytes)}), oldest ${oldest}\n`;
  for (const shard of shards) {
    if (shard.aside > 0) text += `Set aside   ${shard.aside} messages that shard ${shard.name} refuses\n`;
    if (shard.error !== null)
      text += `Not drained ${shard.waiting} messages for shard ${shard.name}: ${plain(shard.error)}\n`;
  }
  return text;
}

function formatProcesses(processes: readonly ProcessStatus[], nowMs: number): string {
  return columns([
    ['PROCESS', 'PID', 'STATE', 'FOR', 'RESTARTS', 'CONNECTIONS', 'MEMORY'],
    ...processes.map((p) => [
      `${p.process}${p.accepts ? '' : ' (empties its queue)'}`,
      p.pid === null ? '-' : String(p.pid),
      p.state,
      p.readySinceMs === null ? '-' : duration(nowMs - p.readySinceMs),
      String(p.restarts),
      String(p.connections),
      `${p.rssMb}M`,
    ]),
  ]);
}

function clusterLine({ up, sinceMs, ...counts }: ClusterStats, nowMs: number): string {
  const since = duration(nowMs - sinceMs);
  if (!up) return `Redis       down for ${since}: ${plain(counts.lastError)}; the queue is polled instead\n`;
  const { processes, silent, announced, taken, outages } = counts;
  const members = `${processes} ${processes === 1 ? 'process' : 'processes'}${silent > 0 ? ` (${silent} silent)` : ''}`;
  return `Redis       up for ${since}, ${members}; jobs: ${announced} announced, ${taken} taken; ${outages} outages\n`;
}

function reason(row: QueueRow): string {
  return plain([row.reason, row.detail].filter((text) => text !== '').join(': '));
}

function next(row: QueueRow, nowMs: number): string {
  return hasNextAttempt(row) ? when(row.nextAttemptMs, nowMs) : '-';
}

const when = (atMs: number, nowMs: number): string =>
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
