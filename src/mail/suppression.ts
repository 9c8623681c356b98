/**
 * Entries of the suppression list: addresses and domains that get no mail. Here is their one form, by which they are
 * compared, and what is asked of the tables that hold them.
 */
import { domainForm, isDomainForm } from '../base/domain.ts';
import { SCOPE_ALL } from './suppression-scope.ts';

/** Whose list, what it names, and of which mail it speaks. */
export interface SuppressionKey {
  /** '': the list of the relay itself. */
  tenant: string;
  /** An address or a domain, as suppressionTarget makes it. */
  target: string;
  /** A scope (suppression-scope.ts); or a count of what may lead to an entry (`counted`), which holds nothing back. */
  scope: string;
}

export interface Suppression extends SuppressionKey {
  reason: string;
  source: SuppressionSource;
  /** What led to it: the reply of a peer, or an operator's words. */
  detail: string;
  createdAtMs: number;
  /** null: never. */
  expiresAtMs: number | null;
}

/** An entry that a bounce calls for: after so many messages within a time. */
export interface SuppressionOrder extends Suppression {
  after: number;
  withinMs: number;
  /** What it is about, as countKey makes it: said again, it counts no further. */
  about: string;
}

/** Who put an entry there: a reply to our own delivery, a report that came by mail, a complaint, an operator, a file. */
export const SUPPRESSION_SOURCES = ['reply', 'report', 'complaint', 'operator', 'import'] as const;
export type SuppressionSource = (typeof SUPPRESSION_SOURCES)[number];

/** A row with this and a reason as scope has the messages that count towards an entry as its detail. */
const COUNT = 'count:';
export const MAX_TENANT_LENGTH = 128;
export const MAX_TARGET_LENGTH = 320;
export const MAX_REASON_LENGTH = 64;
export const MAX_DETAIL_LENGTH = 500;
/** Of messages that are counted towards an entry: what is kept of so many fits into a detail. */
export const MAX_COUNTED = 30;

/** What is asked of one table; `SuppressionAnswers` has the answer to each. */
export type SuppressionAsk =
  | { op: 'mark' }
  /** About how many rows there are. */
  | { op: 'count' }
  /** Hashes of the rows after a version or a hash, in this order. */
  | { op: 'hashes'; by: 'version' | 'hash'; after: number; limit: number }
  /** The entries of these lists, those that are over among them. */
  | { op: 'find'; pairs: { tenant: string; target: string }[] }
  /** replace: whatever is there already; else the one that holds longer stays. */
  | { op: 'put'; entries: Suppression[]; replace: boolean }
  /** Writes what `counted` says of it, or nothing. */
  | { op: 'learn'; order: SuppressionOrder }
  | { op: 'remove'; keys: SuppressionKey[] }
  | { op: 'list'; after: string; limit: number; tenant: string | null; reason: string | null }
  /** Removes up to `limit` entries that are over. */
  | { op: 'purge'; nowMs: number; limit: number };

export interface SuppressionAnswers {
  mark: SuppressionMark;
  count: number;
  hashes: { hashes: number[]; last: number | null };
  find: Suppression[];
  put: { added: number; changed: number };
  learn: null;
  remove: number;
  list: { entries: Suppression[]; next: string | null };
  purge: number;
}

export type SuppressionAnswer = SuppressionAnswers[SuppressionAsk['op']];

/** How far a table has come. */
export interface SuppressionMark {
  /** Tells it from any other table. */
  epoch: number;
  /** Of the newest row that was ever inserted. */
  version: number;
}

const PLAIN = /^[!#-?A-Z^-~]+$/;

/**
 * The form in which addresses and domains are compared: domain in lower case as A-labels, local part without quotes, in
 * lower case (RFC 5321 §2.4 lets hosts tell cases apart; none that matters does, and who was suppressed must not get mail
 * because of a capital letter). `user+tag` and `user` stay two addresses. null: it is neither.
 */
export function suppressionTarget(text: string): string | null {
  const at = text.lastIndexOf('@');
  const domain = domainForm(text.slice(at + 1));
  if (domain === null || /[\s\p{Cc}]/u.test(domain)) return null;
  if (at < 0) return domain.includes('.') ? bounded(domain) : null;
  const local = text.slice(0, at);
  if (PLAIN.test(local)) return bounded(`${local.toLowerCase()}@${domain}`);
  if (local === '' || /\p{Cc}/u.test(local)) return null;
  return bounded(`${unquoted(local).normalize('NFC').toLowerCase()}@${domain}`);
}

/** The same for what somebody writes to put it on the list: null also for what no mail is ever sent to, and would hold nothing back. */
export function writtenTarget(text: string): string | null {
  const target = suppressionTarget(text);
  if (target === null || target.includes('\ufffd')) return null;
  const domain = domainOfTarget(target);
  return isDomainForm(domain) || (domain.startsWith('[') && domain.endsWith(']')) ? target : null;
}

const bounded = (target: string): string | null => (target.length > MAX_TARGET_LENGTH ? null : target);

const unquoted = (local: string): string =>
  local.startsWith('"') && local.endsWith('"') && local.length > 1
    ? local.slice(1, -1).replace(/\\(.)/gs, '$1')
    : local;

/** The part of a target after its last '@': all of it, when it is a domain. */
export const domainOfTarget = (target: string): string => target.slice(target.lastIndexOf('@') + 1);

/**
 * 53 bits that stand for a list and a target. Stored with the rows and in the filter's file, so it must stay as it is. Nothing
 * depends on its being hard to collide with: what has the same hash is compared as text.
 */
export function suppressionHash(tenant: string, target: string): number {
  let a = 0x9e3779b9;
  let b = 0x7f4a7c15;
  for (let i = 0; i < tenant.length; i++) {
    const unit = tenant.charCodeAt(i);
    a = Math.imul(a ^ unit, 0x01000193);
    b = Math.imul(b + unit, 0x85ebca6b) ^ (b >>> 15);
  }
  a = Math.imul(a ^ 0x10000, 0x01000193);
  for (let i = 0; i < target.length; i++) {
    const unit = target.charCodeAt(i);
    a = Math.imul(a ^ unit, 0x01000193);
    b = Math.imul(b + unit, 0x85ebca6b) ^ (b >>> 15);
  }
  a = mixed(a ^ Math.imul(b, 0xc2b2ae35));
  b = mixed(b ^ Math.imul(a, 0x27d4eb2f));
  return (b >>> 11) * 0x1_0000_0000 + (a >>> 0);
}

/** Most entries that byHash tells apart. */
export const MAX_SORTED = 2 ** 19;
const HASH_REST = 2 ** 20;

/**
 * Entries by their hash (its upper 33 bits, which with a place among 2^19 fit into a double): so a table's index is written page
 * after page, each of them once.
 */
export function byHash(entries: readonly Suppression[]): Suppression[] {
  const keys = Float64Array.from(
    entries,
    ({ tenant, target }, i) => Math.floor(suppressionHash(tenant, target) / HASH_REST) * MAX_SORTED + i,
  ).sort();
  return Array.from(keys, (key) => entries[key % MAX_SORTED] as Suppression);
}

function mixed(word: number): number {
  let h = word;
  h = Math.imul(h ^ (h >>> 16), 0x7feb352d);
  h = Math.imul(h ^ (h >>> 15), 0x846ca68b);
  return h ^ (h >>> 16);
}

/** What is written for a bounce that counts: how often there were such, and the entry itself once that is often enough. */
export function counted(
  { after, withinMs, about, ...entry }: SuppressionOrder,
  there: readonly Suppression[],
): Suppression[] {
  if (after <= 1) return [entry];
  const scope = COUNT + entry.reason;
  const before = messagesIn(there.find((one) => one.scope === scope)?.detail ?? '');
  if (before.some((one) => one.about === about)) return [];
  const counts = before.filter(({ atMs }) => atMs > entry.createdAtMs - withinMs).slice(1 - after);
  counts.push({ atMs: entry.createdAtMs, about });
  const isFull = counts.length >= after;
  // Counting begins anew; what was counted last is known nevertheless, should it be said again.
  const kept = isFull ? [{ atMs: 0, about }] : counts;
  const detail = kept.map(({ atMs, about: one }) => digits(atMs, TIME_DIGITS) + one).join('');
  const count: Suppression = { ...entry, scope, detail, expiresAtMs: entry.createdAtMs + withinMs };
  return isFull ? [entry, count] : [count];
}

const TIME_DIGITS = 9;
const ABOUT_DIGITS = 7;

const digits = (number: number, count: number): string =>
  number.toString(36).padStart(count, '0').slice(-count);

/** Names a recipient of a message within a count. */
export const countKey = (queueId: string, seq: number): string =>
  digits(suppressionHash(queueId, String(seq)), ABOUT_DIGITS);

/** What the detail of a count says: 16 characters a message. */
function messagesIn(detail: string): { atMs: number; about: string }[] {
  const length = TIME_DIGITS + ABOUT_DIGITS;
  return Array.from({ length: Math.floor(detail.length / length) }, (_, i) => {
    const at = i * length;
    const about = detail.slice(at + TIME_DIGITS, at + length);
    return { atMs: Number.parseInt(detail.slice(at, at + TIME_DIGITS), 36), about };
  });
}

export const isCount = ({ scope }: SuppressionKey): boolean => scope.startsWith(COUNT);

/** Of two entries for the same key the one that holds longer. */
export const holdsLonger = (a: Suppression, b: Suppression): boolean =>
  (a.expiresAtMs ?? Number.POSITIVE_INFINITY) > (b.expiresAtMs ?? Number.POSITIVE_INFINITY);

export const isInForce = ({ expiresAtMs }: Suppression, nowMs: number): boolean =>
  expiresAtMs === null || expiresAtMs > nowMs;

/** '550 5.1.1 …' is not said: that stays with the entry. */
export const suppressionDetail = ({ target, scope, reason, source, createdAtMs }: Suppression): string =>
  `${target} is suppressed${scope === SCOPE_ALL ? '' : ` for ${scope}`}: ${reason}, ${source}, since ${new Date(createdAtMs).toISOString()}`;
