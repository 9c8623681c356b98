/**
 * What an operator means of the queue. Values of one key are alternatives; an entry must satisfy every key that is given.
 * Texts are patterns (base/glob.ts). With `domains` or `recipients`, single recipients of an entry are meant.
 */
import { domainToUnicode } from 'node:url';
import { domainForm, domainKey } from '../base/domain.ts';
import { anyGlobOf, literalOf } from '../base/glob.ts';
import { destinationKey } from './destination.ts';
import type { Job } from './job.ts';
import { hopOfKey, shownDestination } from './operator-keys.ts';

export interface Selection<State extends string = string> {
  /** Queue ids. */
  ids?: string[];
  states?: State[];
  destinations?: string[];
  /** Of recipients. */
  domains?: string[];
  recipients?: string[];
  /** Reverse-paths; '' is the null one. */
  senders?: string[];
  /** Who authenticated. */
  users?: string[];
  listeners?: string[];
  /** Attributes of the message (mail/attributes.ts). */
  tenants?: string[];
  campaigns?: string[];
  classes?: string[];
  pools?: string[];
  /** Why the entry waits. */
  reasons?: string[];
  /** What is said of why. */
  details?: string[];
  messageIds?: string[];
  /** Of the header fields kept at intake. Values of one field are alternatives. */
  headers?: { name: string; value: string }[];
  receivedBeforeMs?: number;
  receivedAfterMs?: number;
  minAttempts?: number;
  maxAttempts?: number;
  minBytes?: number;
  maxBytes?: number;
  /** Only entries that are not due at this time. */
  notDueAtMs?: number;
  /** Not those of these destinations; patterns for keys as they are stored. */
  notDestinations?: string[];
  /** Only what an operator has rerouted. */
  rerouted?: boolean;
}

/** Most values of a key, and of `ids`. */
export const MAX_VALUES = 100;
export const MAX_IDS = 1000;
/** Longest value. */
export const MAX_VALUE_LENGTH = 1000;

/** Whether single recipients are meant. */
export const meansRecipients = ({ domains, recipients }: Selection): boolean =>
  domains !== undefined || recipients !== undefined;

/** A pattern for domains as they are stored, from one in any spelling. Labels with wildcards are taken as they are. */
export function domainPattern(written: string): string {
  if (literalOf(written) !== null || written.startsWith('[')) return domainKey(written);
  const labels = written
    .replace(/[\u3002\uff0e\uff61]/g, '.')
    .replace(/\.$/, '')
    .split('.');
  return labels
    .map((label) => (literalOf(label) === null ? label.toLowerCase() : labelForm(label)))
    .join('.');
}

const labelForm = (label: string): string => domainForm(label) ?? label.toLowerCase();

/** A pattern for destinations as they are stored. */
export const destinationPattern = (written: string): string =>
  literalOf(written) === null ? domainPattern(written) : destinationKey(written);

/** Patterns for addresses, which are stored as they were written: the domain in A-labels and in U-labels. */
export function addressPatterns(written: string): string[] {
  const at = written.lastIndexOf('@') + 1;
  if (at === 0) return [written];
  const domain = domainPattern(written.slice(at));
  const unicode = domain
    .split('.')
    .map((label) => (label.startsWith('xn--') ? domainToUnicode(label) || label : label))
    .join('.');
  return [...new Set([domain, unicode])].map((one) => written.slice(0, at) + one);
}

/** Keys that select by an attribute. */
const ATTRIBUTE_KEYS = [
  ['tenants', 'tenant'],
  ['campaigns', 'campaign'],
  ['classes', 'class'],
  ['pools', 'pool'],
] as const;

/** The keys that `meantBy` can judge by what delivery knows of an entry. */
const JUDGED = new Set<keyof Selection>([
  'ids',
  'destinations',
  'notDestinations',
  'rerouted',
  'domains',
  'recipients',
  'senders',
  'tenants',
  'campaigns',
  'classes',
  'pools',
  'receivedBeforeMs',
  'receivedAfterMs',
  'minAttempts',
  'maxAttempts',
  'minBytes',
  'maxBytes',
]);

/** What `meantBy` can judge of a selection. */
export const judged = (selection: Selection): Omit<Selection, 'states'> =>
  Object.fromEntries(Object.entries(selection).filter(([key]) => JUDGED.has(key as keyof Selection)));

type Judge = (job: Job) => boolean;

/** Which entries in delivery a selection means; none when it cannot be judged there. */
export function meantBy(selection: Selection): Judge {
  if (Object.keys(judged(selection)).length < Object.keys(selection).length) return () => false;
  const { ids, destinations, notDestinations, rerouted, domains, recipients, senders } = selection;
  const { receivedBeforeMs, receivedAfterMs, minAttempts, maxAttempts, minBytes, maxBytes } = selection;
  const judges: Judge[] = [];
  if (ids !== undefined) {
    const known = new Set(ids);
    judges.push(({ queueId }) => known.has(queueId));
  }
  if (destinations !== undefined) {
    const isOne = anyGlobOf(destinations.map(destinationPattern));
    judges.push(({ destination }) => isOne(destination) || isOne(shownDestination(destination)));
  }
  if (notDestinations !== undefined) {
    const isOne = anyGlobOf(notDestinations);
    judges.push(({ destination }) => !isOne(destination));
  }
  if (rerouted === true) judges.push(({ destination }) => hopOfKey(destination) !== null);
  if (senders !== undefined) {
    const isOne = anyGlobOf(senders.flatMap(addressPatterns));
    judges.push(({ reversePath }) => isOne(reversePath));
  }
  for (const [patterns, name] of ATTRIBUTE_KEYS.map(([key, name]) => [selection[key], name] as const)) {
    if (patterns === undefined) continue;
    const isOne = anyGlobOf(patterns);
    judges.push(({ attributes }) => attributes?.[name] !== undefined && isOne(attributes[name]));
  }
  if (domains !== undefined || recipients !== undefined) {
    const isDomain = domains === undefined ? () => true : anyGlobOf(domains.map(domainPattern));
    const isAddress = recipients === undefined ? () => true : anyGlobOf(recipients.flatMap(addressPatterns));
    judges.push((job) =>
      job.recipients.some(
        ({ address }) =>
          isAddress(address) && isDomain(domainKey(address.slice(address.lastIndexOf('@') + 1))),
      ),
    );
  }
  judges.push(
    within(({ receivedAtMs }) => receivedAtMs, receivedAfterMs, receivedBeforeMs),
    within(({ attempts }) => attempts, minAttempts, maxAttempts),
    within(({ sizeBytes }) => sizeBytes, minBytes, maxBytes),
  );
  return (job) => judges.every((judge) => judge(job));
}

const within =
  (value: (job: Job) => number, least = -Infinity, most = Infinity): Judge =>
  (job) => {
    const n = value(job);
    return n >= least && n <= most;
  };
