/**
 * Why mail is not gone: for each entry of a message the causes, from what the queue says of it, from what the relay
 * processes know of its destination, and from the rules of operators.
 */
import type { MailDetail, Missing } from '../database/database.ts';
import type { AskedEntry, Blocker, BlockerKind, Explained } from '../mail/blocker.ts';
import { MOST_BEFORE, type QueueRow } from '../mail/queue-row.ts';
import { HELD_BY_RULE, rulesIn } from '../mail/rule-hold.ts';
import { SuspensionMatcher, type SuspensionRule } from '../mail/suspension.ts';
import type { DestinationStanding } from '../scheduler/scheduler.ts';
import { missingText } from './missing.ts';
import { attributesOf, type VerdictAnswer, type VerdictOn } from './queue-answers.ts';
import { type HoldsAll, MAX_STANDINGS, type Standing } from './target.ts';
import { type EntryState, stateWord, textOrNull, timeOrNull } from './words.ts';

export interface Cause {
  /** The word of older relays, finer where it is about the relay itself. */
  cause:
    | 'relay_not_running'
    | HoldsAll['kind']
    | 'suspended'
    | 'destination_suspended'
    | 'held'
    | 'suspected_poison'
    | 'being_sent'
    | 'deferred'
    | 'places_used_up'
    | 'rate_used_up'
    | 'site_limit_used_up'
    | 'connections_used_up'
    | 'no_source'
    | 'waits_for_its_turn'
    | 'not_seen';
  kind: CauseKind;
  /** What it is about: a rule, a destination, a limit and whose it is. */
  key: string | null;
  limit: number | null;
  used: number | null;
  since: string | null;
  /** When it is over by itself, where that is known: `ends_at` too. */
  until: string | null;
  /** File and line, a rule, a reply, an operator. */
  set_by: string | null;
  detail: string | null;
  ends_at: string | null;
}

export type CauseKind =
  | BlockerKind
  | 'relay'
  | 'not_seen'
  | 'suspend'
  | 'hold'
  | 'in_delivery'
  | 'lease_other_node'
  | 'connect_failures'
  | 'retry_delay'
  | 'dns'
  | 'suppression_unknown'
  | 'signing'
  | 'content'
  | 'memory'
  | 'fair_queue';

/** An entry that is not over, and its causes: first what must be mended, or waited for, before others matter. */
export interface WhyAnswer {
  queue_id: string;
  entries: {
    destination: string;
    state: EntryState;
    waiting_recipients: number;
    attempts: number;
    causes: Cause[];
    /** When the last of its causes is over; null: nobody knows. */
    next_move_at: string | null;
    /** It does not move before: the last end that is known; null: no end is. */
    not_before_at: string | null;
    /** How many recipients of other mail to its destination are due before it; null: it does not wait for its turn. */
    position: number | null;
    /** false: there may be more. */
    position_exact: boolean;
    /** What hosts, or the relay, said last of recipients that wait. */
    last_replies: { recipients: number; reason: string; detail: string }[];
    /** Where it leads and leaves from; null: not known. */
    site: string | null;
    source: string | null;
    /** What the last refusal of a host means. */
    verdict: VerdictAnswer | null;
  }[];
}

const isOver = ({ state }: QueueRow): boolean => state === 'DEAD' || state === 'SENT';

/** The destinations to ask the relay about. */
export const destinationsOf = ({ rows }: MailDetail): string[] =>
  rows
    .filter((row) => !isOver(row))
    .map(({ destination }) => destination)
    .slice(0, MAX_STANDINGS);

/** The entries to ask the relay about, in the order of `destinationsOf`. */
export const askedOf = (mail: MailDetail): AskedEntry[] =>
  mail.rows
    .filter((row) => !isOver(row))
    .slice(0, MAX_STANDINGS)
    .map((row) => {
      const { tenant = '', campaign = '', class: kind = '', pool = '' } = attributesOf(row);
      const { destination, reversePath: sender } = row;
      return { queueId: mail.queueId, destination, sender, tenant, campaign, class: kind, pool };
    });

/**
 * @param standing null: the relay does not run. @param rules those in force.
 * @param explained what the relay says of the entries that `askedOf` names.
 */
export function whyAnswer(
  mail: MailDetail,
  standing: Standing | null,
  rules: readonly SuspensionRule[],
  missing: readonly Missing[],
  nowMs: number,
  verdictOn: VerdictOn = () => null,
  explained: readonly Explained[] = [],
): WhyAnswer {
  const matcher = new SuspensionMatcher(rules);
  const all = [
    ...missing.map((one) => causeOf('not_seen', 'not_seen', { key: one.name, detail: missingText(one) })),
    ...causesOfAll(standing),
  ];
  let asked = 0;
  const entries = mail.rows.map((row) => {
    const known = isOver(row) ? undefined : explained[asked++];
    const causes: Cause[] = [];
    if (!isOver(row)) {
      causes.push(...all, ...rulesOn(mail, row, matcher).map(ruleCause));
      causes.push(...causesOf(row, at(standing, row.destination), known?.blockers ?? [], nowMs));
      if (causes.length === 0) causes.push(causeOf('waits_for_its_turn', 'fair_queue', {}));
    }
    return {
      destination: row.destination,
      state: stateWord(row.state),
      waiting_recipients: row.waiting,
      attempts: row.attempts,
      next_move_at: nextMove(causes),
      not_before_at: notBefore(causes),
      position: mail.before?.[row.destination] ?? null,
      position_exact: (mail.before?.[row.destination] ?? 0) < MOST_BEFORE,
      last_replies: lastReplies(mail, row),
      site: known?.site ?? at(standing, row.destination)?.site ?? null,
      source: known?.source ?? null,
      verdict: verdictOn(row),
      causes,
    };
  });
  return { queue_id: mail.queueId, entries };
}

const at = (standing: Standing | null, destination: string): DestinationStanding | undefined =>
  standing?.destinations.find((one) => one.destination === destination);

/** When all causes are over; null where one has no end. */
function nextMove(causes: readonly Cause[]): string | null {
  const ends = causes.map(({ until }) => until);
  return ends.length === 0 || ends.includes(null) ? null : (ends.sort().at(-1) ?? null);
}

const notBefore = (causes: readonly Cause[]): string | null =>
  causes
    .flatMap(({ until }) => until ?? [])
    .sort()
    .at(-1) ?? null;

const MOST_REPLIES = 10;

function lastReplies(mail: MailDetail, row: QueueRow): WhyAnswer['entries'][number]['last_replies'] {
  const all = new Map<string, { recipients: number; reason: string; detail: string }>();
  for (const { destination, status, reason = '', detail = '' } of mail.recipients) {
    if (destination !== row.destination || status !== 'waiting' || reason === '') continue;
    const known = all.get(`${reason} ${detail}`);
    if (known !== undefined) known.recipients++;
    else all.set(`${reason} ${detail}`, { recipients: 1, reason, detail });
  }
  return [...all.values()].sort((a, b) => b.recipients - a.recipients).slice(0, MOST_REPLIES);
}

/** The rules that hold recipients of the entry. */
function rulesOn(mail: MailDetail, row: QueueRow, matcher: SuspensionMatcher): SuspensionRule[] {
  if (isOver(row)) return [];
  const recipients = mail.recipients.filter(
    ({ destination, status }) => destination === row.destination && status === 'waiting',
  );
  const { reversePath, destination, user } = row;
  const attributes = attributesOf(row);
  return matcher.of({ reversePath, destination, recipients, attributes, ...(user === null ? {} : { user }) });
}

/** The rules that hold recipients of each entry, in order of the entries. */
export function suspensionsOn(mail: MailDetail, rules: readonly SuspensionRule[]): SuspensionRule[][] {
  const matcher = new SuspensionMatcher(rules);
  return mail.rows.map((row) => rulesOn(mail, row, matcher));
}

const ruleCause = ({ id, reason, createdBy, createdAtMs, untilMs }: SuspensionRule): Cause =>
  causeOf('suspended', 'suspend', {
    key: id,
    detail: reason === '' ? id : `${id}: ${reason}`,
    sinceMs: createdAtMs === 0 ? null : createdAtMs,
    untilMs,
    setBy: reason === '' ? createdBy : `${createdBy}: ${reason}`,
  });

function causesOfAll(standing: Standing | null): Cause[] {
  if (standing === null) return [causeOf('relay_not_running', 'relay', {})];
  return standing.holds.map(({ kind, detail }) =>
    causeOf(kind, kind === 'suspended' ? 'suspend' : 'relay', { detail, setBy: detail }),
  );
}

/** The reasons of a deferral that say of themselves what was waited for. */
const REASON_KINDS: Readonly<Record<string, CauseKind>> = {
  dns_temporary: 'dns',
  dns_unavailable: 'dns',
  suppression_unknown: 'suppression_unknown',
  signing_failed: 'signing',
  content_unavailable: 'content',
};

/** In the order in which the message meets them: what comes first must be over before the others matter. */
function causesOf(
  row: QueueRow,
  standing: DestinationStanding | undefined,
  blockers: readonly Blocker[],
  nowMs: number,
): Cause[] {
  const said = [row.reason, row.detail].filter((text) => text !== '').join(': ');
  if (row.state === 'HELD') {
    const rules = row.reason === HELD_BY_RULE ? rulesIn(row.detail) : [];
    if (rules.length > 0) {
      const key = rules.join(', ');
      return [causeOf('held', 'hold', { key, detail: said, setBy: `egress.routing: ${row.detail}` })];
    }
    return [
      causeOf(row.reason === 'suspected_poison' ? 'suspected_poison' : 'held', 'hold', {
        detail: said,
        setBy: said === '' ? 'an operator' : said,
      }),
    ];
  }
  const waits = ({ kind }: Blocker): boolean => kind === 'connection_wait';
  if (row.state === 'SENDING') {
    // A lease that no process here knows of is that of another node, or of a process that is gone.
    const isOurs = standing === undefined || standing.sending > 0;
    return [
      ...(isOurs ? blockers.filter(waits).map(blockerCause) : []),
      causeOf('being_sent', isOurs ? 'in_delivery' : 'lease_other_node', { detail: said }),
    ];
  }
  const limits = blockers.filter((one) => !waits(one) || one.untilMs !== null).map(blockerCause);
  const suspended: Cause[] = [];
  const untilMs = standing?.suspendedUntilMs ?? null;
  if (untilMs !== null) {
    const key = row.destination;
    const detail = standing?.suspendedReason ?? '';
    suspended.push(
      causeOf('destination_suspended', 'connect_failures', {
        key,
        detail,
        untilMs,
        sinceMs: standing?.suspendedSinceMs ?? null,
        setBy: detail,
      }),
    );
  }
  // A rule that holds it is named already.
  const isDeferred = row.nextAttemptMs > nowMs && row.reason !== 'suspended';
  const deferred = isDeferred
    ? [
        causeOf('deferred', REASON_KINDS[row.reason] ?? 'retry_delay', {
          key: row.destination,
          detail: said,
          untilMs: row.nextAttemptMs,
          setBy: said,
          used: row.attempts,
        }),
      ]
    : [];
  // A limit sent it back until then: that is no more than the limit's shadow.
  const isShadow = row.reason === 'limit_reached' && limits.length > 0;
  const causes = isShadow ? [...suspended, ...limits, ...deferred] : [...suspended, ...deferred, ...limits];
  if (causes.length > 0) return causes;
  return standing === undefined ? [] : ofScheduler(standing);
}

/** What the scheduler lacks at this moment. */
function ofScheduler({ limit, site }: DestinationStanding): Cause[] {
  const places = 'delivery.max_handoff_messages';
  if (limit === 'places') return [causeOf('places_used_up', 'memory', { key: places, detail: places })];
  const rate = 'delivery.max_messages_per_destination_per_s';
  if (limit === 'rate')
    return [causeOf('rate_used_up', 'provider_limit', { key: rate, detail: rate, setBy: rate })];
  if (limit === 'site')
    return [causeOf('site_limit_used_up', 'provider_limit', { key: site ?? '', detail: site ?? '' })];
  return [];
}

function blockerCause(blocker: Blocker): Cause {
  const { kind, key, setBy } = blocker;
  const word =
    kind === 'connection_wait'
      ? 'connections_used_up'
      : kind === 'source_paused'
        ? 'no_source'
        : 'site_limit_used_up';
  return causeOf(word, kind, { ...blocker, detail: setBy === '' ? key : `${key} (${setBy})` });
}

const causeOf = (
  name: Cause['cause'],
  kind: CauseKind,
  said: Partial<Omit<Blocker, 'kind'>> & { detail?: string },
): Cause => ({
  cause: name,
  kind,
  key: textOrNull(said.key ?? ''),
  limit: said.limit ?? null,
  used: said.used ?? null,
  since: timeOrNull(said.sinceMs ?? null),
  until: timeOrNull(said.untilMs ?? null),
  set_by: textOrNull(said.setBy ?? ''),
  detail: textOrNull(said.detail ?? ''),
  ends_at: timeOrNull(said.untilMs ?? null),
});

/** What several processes know, as one. */
export function mergeStandings(parts: readonly Standing[]): Standing {
  const destinations = new Map<string, DestinationStanding>();
  for (const one of parts.flatMap((part) => part.destinations)) {
    const known = destinations.get(one.destination);
    if (known === undefined) destinations.set(one.destination, { ...one });
    else {
      known.sending += one.sending;
      known.limit ??= one.limit;
      known.site ??= one.site;
      if ((one.suspendedUntilMs ?? 0) > (known.suspendedUntilMs ?? 0)) {
        known.suspendedUntilMs = one.suspendedUntilMs;
        known.suspendedSinceMs = one.suspendedSinceMs;
        known.suspendedReason = one.suspendedReason;
      }
    }
  }
  return {
    holds: [...new Map(parts.flatMap(({ holds }) => holds).map((one) => [one.kind, one])).values()],
    rules: [...new Map(parts.flatMap(({ rules }) => rules).map((one) => [one.id, one])).values()],
    destinations: [...destinations.values()],
  };
}
