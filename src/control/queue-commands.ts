/**
 * `protorelay queue …`: asks the running relay, or reads a stopped one's database. Prints for people, or JSON with
 * --json; anything that changes the queue needs the running relay.
 */

import { once } from 'node:events';
import type { Writable } from 'node:stream';
import { EXIT, type ExitCode } from '../base/exit-codes.ts';
import type {
  OperateAction,
  OperateTarget,
  OutboxState,
  QueueFilter,
  QueueRow,
} from '../database/database.ts';
import type { ControlClient } from './client.ts';
import { formatList, formatMail, formatStats } from './format.ts';
import { MAX_CONTENT_BYTES, MAX_LIST_ROWS, type QueueReader } from './protocol.ts';

export interface QueueSource {
  reader: QueueReader;
  /** Present when a relay is running. */
  client: ControlClient | null;
  close(): void;
}

export interface QueueOutput {
  out: Writable;
  err: Writable;
  nowMs: number;
}

export interface ListOptions {
  state?: OutboxState;
  destination?: string;
  sender?: string;
  recipient?: string;
  limit: number;
  json: boolean;
}

const PAGE_ROWS = 1000;

export async function listQueue(
  source: QueueSource,
  options: ListOptions,
  { out, nowMs }: QueueOutput,
): Promise<ExitCode> {
  const { limit, json, state, ...texts } = options;
  const filter: QueueFilter = {
    ...texts,
    ...(state === undefined ? {} : { state }),
    limit,
  };
  const rows = await readRows(source.reader, filter, limit + 1);
  const shown = rows.slice(0, limit);
  if (json) out.write(`${JSON.stringify(shown, null, 2)}\n`);
  else out.write(formatList(shown, rows.length > limit, nowMs));
  return EXIT.ok;
}

/** Reads page by page. A mail with several destinations has several rows and is never cut between two pages. */
async function readRows(reader: QueueReader, filter: QueueFilter, limit: number): Promise<QueueRow[]> {
  const rows: QueueRow[] = [];
  let after: string | undefined;
  let size = PAGE_ROWS;
  while (rows.length < limit) {
    const page = await reader.list({
      ...filter,
      limit: size,
      ...(after === undefined ? {} : { afterQueueId: after }),
    });
    const last = page.at(-1);
    if (last === undefined || page.length < size) return rows.concat(page);
    const whole = page.filter((row) => row.queueId !== last.queueId);
    if (whole.length === 0 && size < MAX_LIST_ROWS) {
      size = MAX_LIST_ROWS;
      continue;
    }
    const taken = whole.length === 0 ? page : whole;
    rows.push(...taken);
    after = (taken.at(-1) as QueueRow).queueId;
    size = PAGE_ROWS;
  }
  return rows;
}

export async function showMail(
  source: QueueSource,
  queueId: string,
  json: boolean,
  { out, err, nowMs }: QueueOutput,
): Promise<ExitCode> {
  const mail = await source.reader.show(queueId);
  if (mail === null) return unknownMail(queueId, err);
  out.write(json ? `${JSON.stringify(mail, null, 2)}\n` : formatMail(mail, nowMs));
  return EXIT.ok;
}

/** Trace and content, byte for byte. */
export async function catMail(
  source: QueueSource,
  queueId: string,
  { out, err }: QueueOutput,
): Promise<ExitCode> {
  for (let offset = 0; ; ) {
    const bytes = await source.reader.content(queueId, offset, MAX_CONTENT_BYTES);
    if (bytes === null) return unknownMail(queueId, err);
    if (bytes.length === 0) return EXIT.ok;
    offset += bytes.length;
    if (!out.write(bytes)) await once(out, 'drain');
  }
}

function unknownMail(queueId: string, err: Writable): ExitCode {
  err.write(`protorelay: no message ${queueId} in the queue (settled messages leave it)\n`);
  return EXIT.dataError;
}

export async function queueStats(
  source: QueueSource,
  json: boolean,
  { out, nowMs }: QueueOutput,
): Promise<ExitCode> {
  const running = (await source.client?.runningStats()) ?? null;
  const queue = running?.queue ?? (await source.reader.stats());
  const scheduler = running?.scheduler ?? null;
  const processes = running?.processes;
  const journal = running?.journal ?? null;
  if (json) {
    const report = { running: running !== null, queue, scheduler, journal, processes };
    out.write(`${JSON.stringify(report, null, 2)}\n`);
  } else out.write(formatStats(queue, scheduler, nowMs, processes, journal));
  return EXIT.ok;
}

export async function operateQueue(
  source: QueueSource,
  action: OperateAction,
  targets: OperateTarget[],
  json: boolean,
  { out, err }: QueueOutput,
): Promise<ExitCode> {
  if (source.client === null) {
    err.write('protorelay: the relay is not running; the queue can be changed only through it\n');
    return EXIT.unavailable;
  }
  let rows = 0;
  let code: ExitCode = EXIT.ok;
  for (const target of targets) {
    const changed = (await source.client.operate(action, target)).rows;
    rows += changed;
    if (changed > 0 || typeof target === 'string' || !('queueId' in target)) continue;
    err.write(
      `protorelay: ${target.queueId}: nothing to ${action} (unknown, settled, or being sent just now)\n`,
    );
    code = EXIT.dataError;
  }
  out.write(
    json ? `${JSON.stringify({ action, rows })}\n` : `${action}: ${rows} ${rows === 1 ? 'row' : 'rows'}\n`,
  );
  return code;
}
