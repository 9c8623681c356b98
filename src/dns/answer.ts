/** Reads from a reply what it says of the name that was asked for. */
import type { DnsRecord, DnsReply, DnsType } from './wire.ts';

export interface Answer {
  kind: 'found' | 'no-record' | 'no-name' | 'temporary';
  /** Why the failure is temporary. */
  detail: string;
  records: DnsRecord[];
  /** Whether the resolver has validated the answer. */
  secure: boolean;
  /** Where the aliases of the name lead. */
  canonical: string;
}

/** That are followed from one name. */
export const MAX_ALIASES = 8;

export const temporary = (detail: string): Answer => ({
  kind: 'temporary',
  detail,
  records: [],
  secure: false,
  canonical: '',
});

/** @param reply as Resolvers.ask returns it. */
export function answerOf(reply: DnsReply | string | null, type: DnsType): Answer {
  if (reply === null) return { ...temporary(''), kind: 'no-name' };
  return typeof reply === 'string' ? temporary(reply) : read(reply, type);
}

/** Follows the aliases in the reply; what does not belong to the question is no part of the answer. */
function read(reply: DnsReply, type: DnsType): Answer {
  const followed = follow(reply, type);
  if (followed === null) return temporary('too many aliases');
  const { canonical, chain, records } = followed;
  const base = { detail: '', secure: reply.authentic, canonical };
  if (records.length > 0) return { ...base, kind: 'found', records: [...chain, ...records] };
  return { ...base, kind: reply.code === 3 ? 'no-name' : 'no-record', records: [] };
}

interface Followed {
  canonical: string;
  chain: DnsRecord[];
  records: DnsRecord[];
}

/** @returns null when there are too many aliases, or they go round. */
function follow({ question, answers }: DnsReply, type: DnsType): Followed | null {
  let canonical = question.name;
  const chain: DnsRecord[] = [];
  for (let i = 0; type !== 'CNAME'; i++) {
    const alias = answers.find((one) => one.type === 'CNAME' && one.name === canonical);
    if (alias?.type !== 'CNAME') break;
    if (i >= MAX_ALIASES) return null;
    chain.push(alias);
    canonical = alias.value;
  }
  const records = answers.filter((one) => one.type === type && one.name === canonical);
  return { canonical, chain, records };
}

/** Where the aliases lead when the reply ends there without a word on what is, or is not, at that name; else null. */
export function openAlias(reply: DnsReply, type: DnsType): string | null {
  if (reply.code !== 0 || reply.denies) return null;
  const followed = follow(reply, type);
  if (followed === null || followed.chain.length === 0 || followed.records.length > 0) return null;
  return followed.canonical;
}
