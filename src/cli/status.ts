/** `protorelay status`: how the relay of this host is, on one screen, with an exit code by its health. */
import type { Writable } from 'node:stream';
import type { Command } from 'commander';
import { RelayError } from '../base/errors.ts';
import { EXIT, type ExitCode } from '../base/exit-codes.ts';
import { printableJson } from '../base/printable.ts';
import { dataDirOf } from '../config/load.ts';
import { type HostStatus, type Impairment, impairments } from '../control/status.ts';
import { statusAnswer } from '../control/status-answer.ts';
import { STATES } from '../control/words.ts';
import type { OutboxState } from '../mail/outbox-state.ts';
import { WAITING_STATES } from '../mail/queue-stats.ts';
import type { CommandLine } from './command-line.ts';
import { counted, duration, plain, size } from './format.ts';
import {
  clusterLine,
  deliveryLine,
  faultsLine,
  fileLine,
  formatJournal,
  formatProcesses,
  holdLines,
  suspendedLine,
} from './stats-text.ts';

export function addStatus(program: Command, line: CommandLine): void {
  program
    .command('status')
    .description(
      'how the relay of this host is; ends with 0 when it is healthy, 75 when not, 69 when it does not run',
    )
    .option('--json', 'print JSON', false)
    .action(async ({ json }: { json: boolean }) => {
      line.endsWith(await showStatus(dataDirOf(line.configPath()), json, line.out, Date.now()));
    });
}

export async function showStatus(
  dataDir: string,
  json: boolean,
  out: Writable,
  nowMs: number,
): Promise<ExitCode> {
  const { askRelay } = await import('../control/running-relay.ts');
  let running = false;
  try {
    const status = await askRelay(dataDir, (client) => {
      running = true;
      return client.status();
    });
    if (json) out.write(`${printableJson(JSON.stringify(statusAnswer(status), null, 2))}\n`);
    else out.write(formatStatus(status, nowMs));
    return impairments(status).length === 0 ? EXIT.ok : EXIT.temporary;
  } catch (error) {
    const says = error instanceof RelayError && (!running || error.code === 'control_silent');
    if (json && says) out.write(`${JSON.stringify({ running, healthy: false }, null, 2)}\n`);
    throw error;
  }
}

const CAUSES: Readonly<Record<Impairment['cause'], string>> = {
  pressure: 'new mail is refused',
  overloaded: 'new connections are refused',
  draining: 'the relay drains',
  database_away: 'the queue cannot be reached',
  suspensions_unknown: 'what operators suspended cannot be read, so nothing is sent',
  shard_down: 'a shard is down',
  redis_down: 'Redis cannot be used',
  journal_stuck: 'the journal cannot be drained',
  storage_fault: 'a storage cannot be used',
  process_down: 'a relay process is not ready',
};

export function formatStatus(status: HostStatus, nowMs: number): string {
  const { rates, scheduler, journal, processes } = status;
  const found = impairments(status);
  const said = found.map(
    ({ cause, detail }) => `Impaired    ${CAUSES[cause]}${detail === '' ? '' : `: ${plain(detail)}`}\n`,
  );
  const health = found.length === 0 ? 'healthy' : 'impaired';
  let text = `ProtoRelay ${plain(status.version)}, ${health}, running for ${duration(nowMs - status.startedAtMs)} (pid ${status.pid})\n`;
  text += said.join('');
  text += holdLines(
    (scheduler.holds ?? []).filter(({ kind }) => kind === 'delivery_disabled' || kind === 'suspended'),
  );
  text += `Listening   ${status.listeners.map(plain).join(', ')}\n`;
  text += `Connections ${status.connectionsIn} in, ${status.connectionsOut} out\n`;
  text += mailLines(status, nowMs);
  text += `Last ${rates.ms >= 55_000 ? 'minute' : duration(rates.ms).padEnd(6)} accepted ${counted(rates.acceptedMessages, 'message', 'messages')} (${counted(rates.accepted, 'recipient', 'recipients')}); delivered ${rates.delivered}, deferred ${rates.deferred}, bounced ${rates.bounced}\n`;
  if (status.freeDiskBytes !== null) text += `Free disk   ${size(status.freeDiskBytes)}\n`;
  if (status.file !== null) text += fileLine(status.file, limitOf(status.file.maxMb, processes.length));
  if (status.shards.length > 0)
    text += `Shards      ${status.shards.filter(({ up }) => up).length} of ${status.shards.length} up\n`;
  if (scheduler.cluster !== undefined) text += clusterLine(scheduler.cluster, nowMs);
  if (journal !== null) text += formatJournal(journal, nowMs);
  text += suspendedLine(scheduler);
  if (scheduler.faults !== undefined) text += faultsLine(scheduler.faults);
  text += reloadLine(status, nowMs);
  if (processes.length > 0) text += `\n${formatProcesses(processes, nowMs)}`;
  return text;
}

function limitOf(maxMb: number, processes: number): string {
  if (maxMb === 0) return '; no limit (database.max_mb 0)';
  return `; database.max_mb ${maxMb}${processes > 1 ? ' for each process' : ''}`;
}

/** Counts from the queue, with their age; until there are some, what the scheduler knows. */
function mailLines({ counts, scheduler }: HostStatus, nowMs: number): string {
  const flow = deliveryLine(scheduler);
  if (counts === null) return `${flow}Mail        is being counted\n`;
  const sum = (by: Record<OutboxState, number>): number =>
    WAITING_STATES.reduce((total, state) => total + by[state], 0);
  const oldest = counts.oldestMs === null ? '' : `, oldest ${duration(nowMs - counts.oldestMs)}`;
  const both = (state: OutboxState): string => `${counts.messages[state]} (${counts.recipients[state]})`;
  return (
    `${flow}Waiting     ${counted(sum(counts.recipients), 'recipient', 'recipients')}${oldest}; counted ${duration(nowMs - counts.countedAtMs)} ago\n` +
    `Queue       deferred ${both(STATES.deferred)}, held ${both(STATES.held)}, failed ${both(STATES.failed)}: messages (recipients)\n`
  );
}

function reloadLine({ reload }: HostStatus, nowMs: number): string {
  if (reload === null) return '';
  const ago = `${duration(nowMs - reload.atMs)} ago`;
  const restart =
    reload.needsRestart.length === 0 ? '' : `; a restart is needed for ${reload.needsRestart.join(', ')}`;
  if (reload.problems.length > 0)
    return `Reload      refused ${ago}: ${reload.problems.map(plain).join('; ')}${restart}\n`;
  return `Reload      ${ago}${restart}\n`;
}
