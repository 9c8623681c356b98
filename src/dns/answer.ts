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

const MAX_ALIASES = 8;

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

/** Follows the aliases in the reply, and ignores records that do not belong to the question. */
function read({ code, authentic, question, answers }: DnsReply, type: DnsType): Answer {
  let canonical = question.name;
  const chain: DnsRecord[] = [];
  for (let i = 0; type !== 'CNAME'; i++) {
    const alias = answers.find((one) => one.type === 'CNAME' && one.name === canonical);
    if (alias?.type !== 'CNAME') break;
    if (i >= MAX_ALIASES) return temporary('too many aliases');
    chain.push(alias);
    canonical = alias.value;
  }
  const records = answers.filter((one) => one.type === type && one.name === canonical);
  const base = { detail: '', secure: authentic, canonical };
  if (records.length > 0) return { ...base, kind: 'found', records: [...chain, ...records] };
  return { ...base, kind: code === 3 ? 'no-name' : 'no-record', records: [] };
}
