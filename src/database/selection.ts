/** A selection (mail/selection.ts) as conditions of SQL, for both engines. */
import { isAscii } from '../base/ascii.ts';
import { likeOf, literalOf } from '../base/glob.ts';
import { failKey } from '../mail/operator-keys.ts';
import { addressPatterns, destinationPattern, domainPattern, meansRecipients } from '../mail/selection.ts';
import type { Selection } from './database.ts';

export type SqlValue = string | number | null;

/** A condition; `sql` is '1 = 1' where everything is meant. */
export interface Condition {
  sql: string;
  values: SqlValue[];
}

/** What engines write in different ways. */
export interface Dialect {
  /** The table mail_outbox as `o`, read by its primary key. */
  outbox: string;
  /** The column in lower case. @param ascii whether it is compared with ASCII only. */
  lower(column: string, ascii: boolean): string;
}

export interface Compiled {
  /** In ascending order, each once; null: not named. */
  ids: string[] | null;
  /** On mail_outbox `o` and mails `m`. */
  entry: Condition;
  /** On mail_recipients `r`; null: whole entries are meant. */
  recipient: Condition | null;
  /** Whether `entry` speaks of mails. */
  ofMails: boolean;
  /** The same as `entry`, on `o` alone. */
  alone: Condition;
}

export function compile(selection: Selection, dialect: Dialect): Compiled {
  const { ids, states, destinations, domains, recipients, senders, users, listeners, reasons } = selection;
  const { messageIds, headers, notDueAtMs } = selection;
  const folded = (column: string, patterns: readonly string[] | undefined): Condition[] =>
    patterns === undefined ? [] : [oneOf((ascii) => dialect.lower(column, ascii), patterns)];
  /** For what is stored in lower case. */
  const plain = (column: string, patterns: readonly string[] | undefined): Condition[] =>
    patterns === undefined ? [] : [oneOf(() => column, patterns)];
  const rows = [
    ...plain(
      'o.destination',
      destinations?.map(destinationPattern).flatMap((one) => [one, failKey(one)]),
    ),
    ...plain('o.destination', selection.notDestinations).map(not),
    ...(selection.rerouted ? plain('o.destination', ['via:*']) : []),
    ...plain('o.reason', reasons),
    ...plain('o.detail', selection.details),
    ...(states === undefined ? [] : [isIn('o.state', states)]),
    ...between('o.attempts', selection.minAttempts, selection.maxAttempts),
    ...(notDueAtMs === undefined
      ? []
      : [{ sql: '(o.due_at IS NULL OR o.due_at > ?)', values: [notDueAtMs] }]),
  ];
  const mails = [
    ...folded('m.reverse_path', senders?.flatMap(addressPatterns)),
    ...folded('m.auth_user', users),
    ...folded('m.listener', listeners),
    ...folded('m.tenant', selection.tenants),
    ...folded('m.campaign', selection.campaigns),
    ...plain('m.mail_class', selection.classes),
    ...folded('m.pool', selection.pools),
    ...folded('m.message_id', messageIds?.map(bare)),
    ...between('m.received_at', selection.receivedAfterMs, selection.receivedBeforeMs),
    ...between('m.size_bytes', selection.minBytes, selection.maxBytes),
  ];
  const kept = [...Map.groupBy(headers ?? [], ({ name }) => name.toLowerCase())].map(([name, values]) => {
    const is = oneOf(
      (ascii) => dialect.lower('h.value', ascii),
      values.map(({ value }) => value),
    );
    return {
      sql: `EXISTS (SELECT 1 FROM mail_headers h WHERE h.mail_id = o.mail_id AND h.name = ? AND ${is.sql})`,
      values: [name, ...is.values],
    };
  });
  return {
    ids: ids === undefined ? null : [...new Set(ids)].sort(),
    entry: allOf([...rows, ...mails, ...kept]),
    alone: allOf([...rows, ...kept, ...(mails.length === 0 ? [] : [ofItsMail(allOf(mails))])]),
    recipient: meansRecipients(selection)
      ? allOf([
          ...plain('r.domain', domains?.map(domainPattern)),
          ...folded('r.address', recipients?.flatMap(addressPatterns)),
        ])
      : null,
    ofMails: mails.length > 0,
  };
}

const ofItsMail = ({ sql, values }: Condition): Condition => ({
  sql: `EXISTS (SELECT 1 FROM mails m WHERE m.id = o.mail_id AND ${sql})`,
  values,
});

/** As it is stored, without angle brackets. */
const bare = (messageId: string): string => messageId.replace(/^<(.*)>$/, '$1');

const not = ({ sql, values }: Condition): Condition => ({ sql: `NOT ${sql}`, values });

export function allOf(conditions: readonly Condition[]): Condition {
  if (conditions.length === 0) return { sql: '1 = 1', values: [] };
  return {
    sql: conditions.map(({ sql }) => sql).join(' AND '),
    values: conditions.flatMap(({ values }) => values),
  };
}

export const marksOf = (values: readonly unknown[]): string => values.map(() => '?').join(',');

const isIn = (column: string, values: readonly SqlValue[]): Condition => ({
  sql: values.length === 0 ? '1 = 0' : `${column} IN (${marksOf(values)})`,
  values: [...values],
});

/** Texts without wildcards are looked up in a list, the others are tried one by one. */
function oneOf(columnFor: (ascii: boolean) => string, patterns: readonly string[]): Condition {
  const literals = patterns.map(literalOf).filter((text) => text !== null);
  const likes = patterns.filter((pattern) => literalOf(pattern) === null).map(likeOf);
  const column = columnFor([...literals, ...likes].every(isAscii));
  const parts = [
    ...(literals.length > 0 ? [`${column} IN (${marksOf(literals)})`] : []),
    ...likes.map(() => `${column} LIKE ? ESCAPE '!'`),
  ];
  return { sql: parts.length === 0 ? '1 = 0' : `(${parts.join(' OR ')})`, values: [...literals, ...likes] };
}

function between(column: string, least: number | undefined, most: number | undefined): Condition[] {
  return [
    ...(least === undefined ? [] : [{ sql: `${column} >= ?`, values: [least] }]),
    ...(most === undefined ? [] : [{ sql: `${column} <= ?`, values: [most] }]),
  ];
}
