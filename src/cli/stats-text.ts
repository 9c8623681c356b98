/** The figures of a queue for people. Pure. */

import { limited } from '../control/stats-answer.ts';
import type { HoldsAll, ProcessStatus, SchedulerStats } from '../control/target.ts';
import { STATES } from '../control/words.ts';
import type { JournalStats } from '../journal/journal.ts';
import type { QueueFile, QueueStats } from '../mail/queue-stats.ts';
import { AGE_MINUTES, type DestinationCounts, type WaitingCounts } from '../mail/queue-stats.ts';
import { SuspensionMatcher, type SuspensionRule } from '../mail/suspension.ts';
import type { ClusterStats, SuspendedDestination } from '../scheduler/scheduler.ts';
import { columns, counted, duration, plain, size, when } from './format.ts';

export interface StatsFigures {
  queue: QueueStats;
  /** null: the relay does not run. */
  scheduler: SchedulerStats | null;
  processes?: readonly ProcessStatus[];
  journal?: JournalStats | null;
}

/** @param limit destinations that are named at most. */
export function formatStats(
  { queue, scheduler, processes = [], journal = null }: StatsFigures,
  nowMs: number,
  limit: number,
): string {
  const oldest = queue.oldestMs === null ? 'none waits' : `oldest ${duration(nowMs - queue.oldestMs)}`;
  let text =
    queue.unavailable === undefined
      ? `Messages    ${queue.mails} (${size(queue.contentBytes)}), ${oldest}\n`
      : `Messages    unknown: ${plain(queue.unavailable)}\n`;
  if (queue.file !== undefined) text += fileLine(queue.file);
  if (queue.suspectedPoison > 0)
    text += `Poison      ${counted(queue.suspectedPoison, 'entry', 'entries')} held that ended the relay twice: see "protorelay queue list --state held"\n`;
  if (journal !== null) text += formatJournal(journal, nowMs);
  if (scheduler === null) text += 'Relay       not running\n';
  else {
    text += deliveryLine(scheduler);
    if (scheduler.cluster !== undefined) text += clusterLine(scheduler.cluster, nowMs);
    if (scheduler.faults !== undefined) text += faultsLine(scheduler.faults);
    text += holdLines(scheduler.holds ?? []);
    text += suspendedLine(scheduler);
  }
  if (processes.length > 0) text += `\n${formatProcesses(processes, nowMs)}`;
  if (queue.unavailable !== undefined) return text;
  text += `\n${stateTable(queue)}`;
  const { named, other, total } = limited(queue, limit);
  if (total.entries === 0) return text;
  const others = other.destinations === 0 ? [] : [other];
  text += `\n${destinationTable(named, others, total, scheduler, nowMs)}`;
  text += `\nRecipients by age of their message, in minutes\n${ageTable(named, others, total)}`;
  if (other.mayLack > 0)
    text += `Too many destinations to count each: any of these may have up to ${other.mayLack} recipients more, which are under "other".\n`;
  return text;
}

/** 'Delivery    1 entry being sent, 3 waiting at 2 destinations' */
export const deliveryLine = ({ inFlight, waitingRows, destinations }: SchedulerStats): string =>
  `Delivery    ${counted(inFlight, 'entry', 'entries')} being sent, ${waitingRows} waiting at ${counted(destinations, 'destination', 'destinations')}\n`;

export const fileLine = ({ bytes, freeBytes }: QueueFile, limit = ''): string =>
  `Queue file  ${size(bytes)}, ${size(freeBytes)} of it free${limit}\n`;

function stateTable(queue: QueueStats): string {
  const rows = Object.entries(STATES).map(([word, state]) => [
    word,
    String(queue.messages[state]),
    String(queue.rows[state]),
    state === 'SENT' ? '-' : String(queue.recipients[state]),
  ]);
  return columns([['STATE', 'MESSAGES', 'ENTRIES', 'RECIPIENTS'], ...rows]);
}

function destinationTable(
  named: readonly DestinationCounts[],
  others: readonly (WaitingCounts & { destinations: number })[],
  total: WaitingCounts,
  scheduler: SchedulerStats | null,
  nowMs: number,
): string {
  const { suspended = [], rules = [] } = scheduler ?? {};
  const matcher = new SuspensionMatcher(rules);
  const suspensions = new Map(suspended.map((one) => [one.destination, one]));
  const figures = ({ entries, recipients, states }: WaitingCounts): string[] =>
    [entries, recipients, ...states].map(String);
  return columns([
    ['DESTINATION', 'ENTRIES', 'RECIPIENTS', 'PENDING', 'SENDING', 'DEFERRED', 'HELD', 'NEXT', ''],
    ...named.map((one) => {
      const next = one.nextDueMs === null ? '-' : when(one.nextDueMs, nowMs);
      return [
        plain(one.destination),
        ...figures(one),
        next,
        suspension(suspensions.get(one.destination), matcher.ofDestination(one.destination), nowMs),
      ];
    }),
    ...others.map((other) => [`other (${other.destinations})`, ...figures(other)]),
    ['TOTAL', ...figures(total)],
  ]);
}

function suspension(
  one: SuspendedDestination | undefined,
  rule: SuspensionRule | null,
  nowMs: number,
): string {
  if (rule !== null) return `suspended by ${rule.id}${rule.reason === '' ? '' : `: ${plain(rule.reason)}`}`;
  if (one === undefined) return '';
  const reason = one.reason === '' ? '' : `: ${plain(one.reason)}`;
  return `suspended for ${duration(one.untilMs - nowMs)}${reason}`;
}

function ageTable(
  named: readonly DestinationCounts[],
  others: readonly (WaitingCounts & { destinations: number })[],
  total: WaitingCounts,
): string {
  const row = (name: string, { recipients, ages }: WaitingCounts): string[] => [
    name,
    ...[recipients, ...ages].map(String),
  ];
  return columns([
    ['DESTINATION', 'T', ...AGE_MINUTES.map(String), `${AGE_MINUTES.at(-1)}+`],
    ...named.map((one) => row(plain(one.destination), one)),
    ...others.map((other) => row(`other (${other.destinations})`, other)),
    row('TOTAL', total),
  ]);
}

/** Suspended destinations; each is named with what waits there. */
export function suspendedLine({ suspended, suspendedDestinations, rules = [] }: SchedulerStats): string {
  const ordered =
    rules.length === 0
      ? ''
      : `Rules       ${counted(rules.length, 'suspension', 'suspensions')} by operators: see "protorelay suspensions"\n`;
  if (suspendedDestinations === 0) return ordered;
  const names = suspended.slice(0, 5).map(({ destination }) => plain(destination));
  const more = suspendedDestinations > names.length ? ', …' : '';
  return `${ordered}Suspended   ${counted(suspendedDestinations, 'destination', 'destinations')}: ${names.join(', ')}${more}\n`;
}

const HOLDS: Readonly<Record<HoldsAll['kind'], string>> = {
  delivery_disabled: 'nothing is sent: delivery.enabled is false',
  suspended: 'nothing is sent: all mail is suspended',
  suspensions_unknown: 'nothing is sent: what operators suspended cannot be read',
  draining: 'nothing more is sent: the relay drains',
  database_away: 'nothing is sent: the queue cannot be reached',
};

/** What keeps all mail in the queue. */
export const holdLines = (holds: readonly HoldsAll[]): string =>
  holds
    .map(({ kind, detail }) => {
      const more = kind !== 'delivery_disabled' && detail !== '' ? ` (${plain(detail)})` : '';
      return `Held back   ${HOLDS[kind]}${more}\n`;
    })
    .join('');

/** What errors of the relay itself ended; '' when nothing, as it should be. */
export function faultsLine({ sessions, deliveries, others }: NonNullable<SchedulerStats['faults']>): string {
  if (sessions + deliveries + others === 0) return '';
  return `Faults      ${sessions} dialogs with clients and ${deliveries} with next hops ended by errors of the relay, ${others} other errors; see the log\n`;
}

export function formatJournal(
  { bytes, maxBytes, waiting, oldestMs, shards }: JournalStats,
  nowMs: number,
): string {
  const oldest = oldestMs === null ? '' : `, oldest ${duration(nowMs - oldestMs)}`;
  let text = `Journal     ${counted(waiting, 'message', 'messages')} to drain (${size(bytes)} of ${size(maxBytes)})${oldest}\n`;
  for (const shard of shards) {
    if (shard.aside > 0) text += `Set aside   ${shard.aside} messages that shard ${shard.name} refuses\n`;
    if (shard.error !== null)
      text += `Not drained ${shard.waiting} messages for shard ${shard.name}: ${plain(shard.error)}\n`;
  }
  return text;
}

export function formatProcesses(processes: readonly ProcessStatus[], nowMs: number): string {
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

export function clusterLine({ up, sinceMs, ...counts }: ClusterStats, nowMs: number): string {
  const since = duration(nowMs - sinceMs);
  if (!up) return `Redis       down for ${since}: ${plain(counts.lastError)}; the queue is polled instead\n`;
  const { processes, silent, announced, taken, outages } = counts;
  const members = `${processes} ${processes === 1 ? 'process' : 'processes'}${silent > 0 ? ` (${silent} silent)` : ''}`;
  return `Redis       up for ${since}, ${members}; jobs: ${announced} announced, ${taken} taken; ${outages} outages\n`;
}
