/**
 * Entries of the suppression list: addresses and domains that get no mail. Here is their one form, by which they are
 * compared, and what is asked of the tables that hold them.
 */
import { domainForm } from '../base/domain.ts';

/** Whose list, what it names, and of which mail it speaks. */
export interface SuppressionKey {
  /** '': the list of the relay itself. */
  tenant: string;
  /** An address or a domain, as suppressionTarget makes it. */
  target: string;
  /** `all` mail; or a count of what may lead to an entry (`counted`), which holds nothing back. */
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
}

/** Who put an entry there: a reply to our own delivery, a report that came by mail, a complaint, an operator, a file. */
export const SUPPRESSION_SOURCES = ['reply', 'report', 'complaint', 'operator', 'import'] as const;
export type SuppressionSource = (typeof SUPPRESSION_SOURCES)[number];

export const SCOPE_ALL = 'all';
/** A row with this and a reason as scope has the times of the messages that count towards an entry as its detail. */
const COUNT = 'count:';
export const MAX_TENANT_LENGTH = 128;
export const MAX_TARGET_LENGTH = 320;
export const MAX_REASON_LENGTH = 64;
export const MAX_DETAIL_LENGTH = 500;

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

function mixed(word: number): number {
  let h = word;
  h = Math.imul(h ^ (h >>> 16), 0x7feb352d);
  h = Math.imul(h ^ (h >>> 15), 0x846ca68b);
  return h ^ (h >>> 16);
}

/** What is written for a bounce that counts: how often there were such, and the entry itself once that is often enough. */
export function counted(
  { after, withinMs, ...entry }: SuppressionOrder,
  there: readonly Suppression[],
): Suppression[] {
  if (after <= 1) return [entry];
  const scope = COUNT + entry.reason;
  const before = there.find((one) => one.scope === scope)?.detail ?? '';
  const times = before
    .split(' ')
    .filter((text) => text !== '' && Date.parse(text) > entry.createdAtMs - withinMs)
    .slice(1 - after);
  times.push(new Date(entry.createdAtMs).toISOString());
  const isFull = times.length >= after;
  const count: Suppression = {
    ...entry,
    scope,
    detail: isFull ? '' : times.join(' '),
    expiresAtMs: entry.createdAtMs + (isFull ? 0 : withinMs),
  };
  return isFull ? [entry, count] : [count];
}

export const isCount = ({ scope }: SuppressionKey): boolean => scope.startsWith(COUNT);

/** Of two entries for the same key the one that holds longer. */
export const holdsLonger = (a: Suppression, b: Suppression): boolean =>
  (a.expiresAtMs ?? Number.POSITIVE_INFINITY) > (b.expiresAtMs ?? Number.POSITIVE_INFINITY);

export const isInForce = ({ expiresAtMs }: Suppression, nowMs: number): boolean =>
  expiresAtMs === null || expiresAtMs > nowMs;

/** '550 5.1.1 …' is not said: that stays with the entry. */
export const suppressionDetail = ({ target, reason, source, createdAtMs }: Suppression): string =>
  `${target} is suppressed: ${reason}, ${source}, since ${new Date(createdAtMs).toISOString()}`;
