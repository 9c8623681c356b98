/**
 * What operators read of the queue. Every query here looks at a bounded number of rows, because it shares its
 * thread with the writer: the caller asks again from `next` on.
 */

import type { DatabaseSync, StatementSync } from 'node:sqlite';
import type { CountKey, CountSlice } from '../../mail/queue-counts.ts';
import type { QueueRow } from '../../mail/queue-row.ts';
import { countRows } from '../count-rows.ts';
import type { DestinationBacklog, MailDetail, QueueFilter, RecipientStatus, Selection } from '../database.ts';
import { QUEUE_ROW, shownRow } from '../outbox-rows.ts';
import { beforeSql, placed } from '../queue-place.ts';
import type { ListSlice } from '../select-rows.ts';
import { listLines } from '../select-rows.ts';
import { parseRuns } from '../seq-runs.ts';
import { answered, DIALECT } from './dialect.ts';

/** How many rows are looked at in one go; takes about 10 ms. */
const SLICE_ROWS = 10_000;

export class Inspector {
  readonly #db: DatabaseSync;
  readonly #rowsOf: StatementSync;
  readonly #mail: StatementSync;
  readonly #recipients: StatementSync;
  readonly #attachments: StatementSync;
  readonly #before: StatementSync;
  readonly #backlog: StatementSync;
  readonly #backlogOf: StatementSync;

  constructor(db: DatabaseSync) {
    this.#db = db;
    this.#rowsOf = db.prepare(
      `SELECT ${QUEUE_ROW}, o.seqs FROM mail_outbox o JOIN mails m ON m.id = o.mail_id WHERE o.mail_id = ? ORDER BY o.destination`,
    );
    this.#mail = db.prepare(
      `SELECT id AS queueId, reverse_path AS reversePath, size_bytes AS sizeBytes, received_at AS receivedAtMs,
         client_address AS clientAddress, client_helo AS clientHelo, protocol, trace FROM mails WHERE id = ?`,
    );
    this.#recipients = db.prepare(
      'SELECT seq, address, class, status, reason, detail FROM mail_recipients WHERE mail_id = ? ORDER BY seq',
    );
    this.#attachments = db.prepare(
      'SELECT seq, name, type, size_bytes AS sizeBytes, offset FROM attachments WHERE mail_id = ? ORDER BY seq',
    );
    this.#before = db.prepare(beforeSql('mail_outbox INDEXED BY outbox_due'));
    this.#backlog = db.prepare(
      `SELECT destination, count(*) AS rows, min(due_at) AS nextDueMs FROM mail_outbox INDEXED BY outbox_due
       WHERE due_at IS NOT NULL GROUP BY destination`,
    );
    this.#backlogOf = db.prepare(
      `SELECT destination, count(*) AS rows, min(due_at) AS nextDueMs FROM mail_outbox INDEXED BY outbox_due
       WHERE destination = ? AND due_at IS NOT NULL GROUP BY destination`,
    );
  }

  linesSlice(filter: QueueFilter): ListSlice<string> {
    return answered(this.#db, listLines(DIALECT, filter));
  }

  countSlice(selection: Selection, by: CountKey | null, after: string): CountSlice {
    return answered(this.#db, countRows(selection, by, DIALECT, after, SLICE_ROWS));
  }

  show(queueId: string): MailDetail | null {
    const mail = this.#mail.get(queueId) as unknown as Omit<
      MailDetail,
      'rows' | 'recipients' | 'attachments' | 'before'
    >;
    if (mail === undefined) return null;
    const rows: QueueRow[] = [];
    const raw = this.#rowsOf.all(queueId) as unknown as (QueueRow & { seqs: string })[];
    const destinations: { first: number; last: number; destination: string }[] = [];
    for (const found of raw) {
      const { seqs, ...row } = shownRow(found);
      rows.push(row);
      for (const [first, last] of parseRuns(seqs))
        destinations.push({ first, last, destination: row.destination });
    }
    destinations.sort((a, b) => a.first - b.first);
    let at = 0;
    const recipients = this.#recipients.all(queueId).map((found) => {
      const seq = found.seq as number;
      while (at < destinations.length && (destinations[at] as { last: number }).last < seq) at++;
      const run = destinations[at];
      return {
        seq,
        address: found.address as string,
        destination: run !== undefined && run.first <= seq ? run.destination : '',
        class: found.class as string,
        status: found.status as RecipientStatus,
        reason: found.reason as string,
        detail: found.detail as string,
      };
    });
    const attachments = this.#attachments
      .all(queueId)
      .map((row) => ({ ...row })) as unknown as MailDetail['attachments'];
    const before = Object.fromEntries(
      placed(raw).map((row) => [
        shownRow(row).destination,
        this.#before.get(row.destination, row.nextAttemptMs)?.n as number,
      ]),
    );
    return { ...mail, rows, recipients, attachments, before };
  }

  backlog(): DestinationBacklog[] {
    return this.#backlog.all().map((row) => ({ ...row })) as unknown as DestinationBacklog[];
  }

  /** The backlog of one destination; rows = 0 when nothing waits there. */
  backlogOf(destination: string): DestinationBacklog {
    const found = this.#backlogOf.get(destination) as unknown as DestinationBacklog | undefined;
    return found ? { ...found } : { destination, rows: 0, nextDueMs: 0 };
  }
}
