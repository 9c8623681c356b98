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

const INSERT = `INSERT INTO suppressions (hash, target, tenant, scope, reason, source, detail, created_at, expires_at)
  VALUES`;
/** What entries of one file mostly have in common is bound once for all rows of a statement. */
const COMMON = '?1, ?2, ?3, ?4, ?5, ?6, ?7';
const COMMON_VALUES = 7;
const ROWS_AT_ONCE = 64;
/** So many kinds of entries are gathered side by side. */
const MAX_KINDS = 64;

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
    this.#insert = db.prepare(`${INSERT} ${rowsOf(1)}`);
    this.#insertMany = db.prepare(`${INSERT} ${rowsOf(ROWS_AT_ONCE)}`);
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
      case 'learn':
        this.#transaction(() => this.order(ask.order));
        return null;
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

  /** Rows that are surely new go in by many at a time, which costs less than half. */
  #putAll(entries: readonly Suppression[], replace: boolean): SuppressionAnswers['put'] {
    const sum = { added: 0, changed: 0 };
    const kinds = new Map<string, Values>();
    for (const entry of entries) {
      const hash = suppressionHash(entry.tenant, entry.target);
      if (this.#notes === null || this.#notes.mayHold(hash)) {
        // What it may be the same as is in the table before it is looked for.
        this.#insertKinds(kinds);
        const done = this.put(entry, replace, hash);
        if (done !== null) sum[done]++;
        continue;
      }
      this.#notes.add(hash);
      sum.added++;
      this.#gather(kinds, entry, hash);
    }
    this.#insertKinds(kinds);
    return sum;
  }

  #gather(kinds: Map<string, Values>, entry: Suppression, hash: number): void {
    const { tenant, target, scope, reason, source, detail, createdAtMs, expiresAtMs } = entry;
    const kind = `${tenant}\0${scope}\0${reason}\0${source}\0${detail}\0${createdAtMs}\0${expiresAtMs}`;
    let values = kinds.get(kind);
    if (values === undefined) {
      if (kinds.size === MAX_KINDS) this.#insertKinds(kinds);
      values = commonValues(entry);
      kinds.set(kind, values);
    }
    values.push(hash, target);
    if (values.length < COMMON_VALUES + 2 * ROWS_AT_ONCE) return;
    this.#insertMany.run(...values);
    values.length = COMMON_VALUES;
  }

  #insertKinds(kinds: Map<string, Values>): void {
    for (const values of kinds.values()) {
      const common = values.slice(0, COMMON_VALUES);
      for (let at = COMMON_VALUES; at < values.length; at += 2)
        this.#insert.run(...common, values[at] as number, values[at + 1] as string);
    }
    kinds.clear();
  }

  /** Writes what a bounce calls for. Within a transaction of the caller's. */
  order(order: SuppressionOrder): void {
    for (const entry of counted(order, this.#all(order.tenant, order.target)))
      this.put(entry, isCount(entry));
  }

  /** Within a transaction of the caller's. @returns null: a stronger entry is there already. */
  put(
    entry: Suppression,
    replace: boolean,
    hash = suppressionHash(entry.tenant, entry.target),
  ): 'added' | 'changed' | null {
    const { tenant, target, scope, reason, source, detail, createdAtMs, expiresAtMs } = entry;
    // What the filter does not know is not in the table either, which saves the search for it.
    const isNew = this.#notes !== null && !this.#notes.mayHold(hash);
    const there = isNew ? undefined : this.#all(tenant, target, hash).find((one) => one.scope === scope);
    if (there === undefined) {
      this.#notes?.add(hash);
      this.#insert.run(...commonValues(entry), hash, target);
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

type Values = (string | number | null)[];

const commonValues = (entry: Suppression): Values => [
  entry.tenant,
  entry.scope,
  entry.reason,
  entry.source,
  entry.detail,
  entry.createdAtMs,
  entry.expiresAtMs,
];

const rowsOf = (count: number): string =>
  Array.from({ length: count }, (_, i) => {
    const at = COMMON_VALUES + 2 * i;
    return `(?${at + 1}, ?${at + 2}, ${COMMON})`;
  }).join(', ');
