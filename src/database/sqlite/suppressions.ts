/** The suppression list in a sqlite file: what is asked of it (mail/suppression.ts), and entries that a settlement writes. */
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import {
  counted,
  holdsLonger,
  isCount,
  type Suppression,
  type SuppressionAnswer,
  type SuppressionAnswers,
  type SuppressionAsk,
  type SuppressionKey,
  type SuppressionMark,
  type SuppressionOrder,
  suppressionHash,
} from '../../mail/suppression.ts';
import type { SuppressionNotes } from '../database.ts';

const COLUMNS = `tenant, target, scope, reason, source, detail, created_at AS createdAtMs, expires_at AS expiresAtMs`;

const INSERT = `INSERT INTO suppressions (hash, tenant, target, scope, reason, source, detail, created_at, expires_at)
  VALUES`;
const ROW = '(?, ?, ?, ?, ?, ?, ?, ?, ?)';
/** Values in a row, and rows of one statement. */
const INSERTED = 9;
const ROWS_AT_ONCE = 64;

type Found = Suppression & { id: number };

export class SqliteSuppressions {
  readonly #db: DatabaseSync;
  readonly #notes: SuppressionNotes | null;
  readonly #find: StatementSync;
  readonly #insert: StatementSync;
  readonly #insertMany: StatementSync;
  readonly #update: StatementSync;

  /** @param notes is told of hashes before they are durable; null: nobody listens. */
  constructor(db: DatabaseSync, notes: SuppressionNotes | null) {
    this.#db = db;
    this.#notes = notes;
    this.#find = db.prepare(`SELECT id, ${COLUMNS} FROM suppressions WHERE hash = ?`);
    this.#insert = db.prepare(`${INSERT} ${ROW}`);
    this.#insertMany = db.prepare(`${INSERT} ${new Array(ROWS_AT_ONCE).fill(ROW).join(', ')}`);
    this.#update = db.prepare(
      'UPDATE suppressions SET reason = ?, source = ?, detail = ?, created_at = ?, expires_at = ? WHERE id = ?',
    );
  }

  /** Does what is asked, in a transaction of its own where it writes. */
  answer(ask: SuppressionAsk): SuppressionAnswer {
    switch (ask.op) {
      case 'mark':
        return this.#mark();
      case 'count':
        return Number(this.#db.prepare('SELECT count(*) AS n FROM suppressions').get()?.n);
      case 'hashes':
        return this.#hashes(ask.by, ask.after, ask.limit);
      case 'find':
        return ask.pairs.flatMap(({ tenant, target }) =>
          this.#all(tenant, target).map(({ id, ...entry }) => entry),
        );
      case 'put':
        return this.#transaction(() => this.#putAll(ask.entries, ask.replace));
      case 'remove':
        return this.#transaction(() => ask.keys.reduce((sum, key) => sum + this.#remove(key), 0));
      case 'list':
        return this.#list(ask);
      case 'purge':
        return Number(
          this.#db
            .prepare(
              'DELETE FROM suppressions WHERE id IN (SELECT id FROM suppressions WHERE expires_at <= ? LIMIT ?)',
            )
            .run(ask.nowMs, ask.limit).changes,
        );
      default:
        return ask satisfies never;
    }
  }

  /**
   * In the order of the index: each of its pages is then written once. Rows that are surely new go in by many at a time, which
   * costs less than half.
   */
  #putAll(entries: readonly Suppression[], replace: boolean): SuppressionAnswers['put'] {
    const sum = { added: 0, changed: 0 };
    const hashes = new Float64Array(entries.length);
    entries.forEach(({ tenant, target }, i) => {
      hashes[i] = suppressionHash(tenant, target);
    });
    const order = Uint32Array.from(entries, (_, i) => i);
    if (entries.length > ROWS_AT_ONCE) order.sort((a, b) => (hashes[a] as number) - (hashes[b] as number));
    let values: (string | number | null)[] = [];
    for (const i of order) {
      const entry = entries[i] as Suppression;
      const hash = hashes[i] as number;
      if (this.#notes === null || this.#notes.mayHold(hash)) {
        this.#insertAll(values);
        values = [];
        const done = this.put(entry, replace);
        if (done !== null) sum[done]++;
        continue;
      }
      this.#notes.add(hash);
      sum.added++;
      const { tenant, target, scope, reason, source, detail, createdAtMs, expiresAtMs } = entry;
      values.push(hash, tenant, target, scope, reason, source, detail, createdAtMs, expiresAtMs);
      if (values.length < ROWS_AT_ONCE * INSERTED) continue;
      this.#insertMany.run(...values);
      values = [];
    }
    this.#insertAll(values);
    return sum;
  }

  #insertAll(values: readonly (string | number | null)[]): void {
    for (let at = 0; at < values.length; at += INSERTED) this.#insert.run(...values.slice(at, at + INSERTED));
  }

  /** Writes what a bounce calls for. Within a transaction of the caller's. */
  order(order: SuppressionOrder): void {
    for (const entry of counted(order, this.#all(order.tenant, order.target)))
      this.put(entry, isCount(entry));
  }

  /** Within a transaction of the caller's. @returns null: a stronger entry is there already. */
  put(entry: Suppression, replace: boolean): 'added' | 'changed' | null {
    const { tenant, target, scope, reason, source, detail, createdAtMs, expiresAtMs } = entry;
    const hash = suppressionHash(tenant, target);
    // What the filter does not know is not in the table either, which saves the search for it.
    const isNew = this.#notes !== null && !this.#notes.mayHold(hash);
    const there = isNew ? undefined : this.#all(tenant, target, hash).find((one) => one.scope === scope);
    if (there === undefined) {
      this.#notes?.add(hash);
      this.#insert.run(hash, tenant, target, scope, reason, source, detail, createdAtMs, expiresAtMs);
      return 'added';
    }
    if (!replace && !holdsLonger(entry, there)) return null;
    this.#update.run(reason, source, detail, createdAtMs, expiresAtMs, there.id);
    return 'changed';
  }

  #all(tenant: string, target: string, hash = suppressionHash(tenant, target)): Found[] {
    const found = this.#find.all(hash) as unknown as Found[];
    return found.filter((one) => one.target === target && one.tenant === tenant);
  }

  #remove({ tenant, target, scope }: SuppressionKey): number {
    const rows = this.#all(tenant, target).filter((one) => one.scope === scope);
    for (const { id } of rows) this.#db.prepare('DELETE FROM suppressions WHERE id = ?').run(id);
    return rows.length;
  }

  #mark(): SuppressionMark {
    const epoch = this.#db.prepare("SELECT value FROM relay_state WHERE name = 'suppression_epoch'").get();
    const newest = this.#db.prepare("SELECT seq FROM sqlite_sequence WHERE name = 'suppressions'").get();
    return { epoch: Number(epoch?.value ?? 0), version: Number(newest?.seq ?? 0) };
  }

  #hashes(by: 'version' | 'hash', after: number, limit: number): SuppressionAnswers['hashes'] {
    const statement =
      by === 'version'
        ? this.#db.prepare('SELECT hash, id FROM suppressions WHERE id > ? ORDER BY id LIMIT ?')
        : this.#db.prepare('SELECT hash, hash FROM suppressions WHERE hash > ? ORDER BY hash LIMIT ?');
    statement.setReturnArrays(true);
    const rows = statement.all(after, limit) as unknown as [number, number][];
    return {
      hashes: rows.map(([hash]) => hash),
      last: rows.length < limit ? null : ((rows.at(-1) as [number, number])[1] as number),
    };
  }

  #list({ after, limit, tenant, reason }: SuppressionAsk & { op: 'list' }): SuppressionAnswers['list'] {
    const rows = this.#db
      .prepare(
        `SELECT id, ${COLUMNS} FROM suppressions WHERE id > ? AND scope NOT LIKE 'count:%' AND (? IS NULL OR tenant = ?) AND (? IS NULL OR reason = ?)
         ORDER BY id LIMIT ?`,
      )
      .all(Number(after), tenant, tenant, reason, reason, limit) as unknown as Found[];
    const next = rows.length < limit ? null : String((rows.at(-1) as Found).id);
    return { entries: rows.map(({ id, ...entry }) => entry), next };
  }

  #transaction<T>(work: () => T): T {
    this.#db.exec('BEGIN IMMEDIATE');
    try {
      const done = work();
      this.#db.exec('COMMIT');
      return done;
    } catch (error) {
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
      throw error;
    }
  }
}
