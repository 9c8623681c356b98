/**
 * Why mail is not gone: for each entry of a message the causes, from what the queue says of it, from what the relay
 * processes know of its destination, and from the rules of operators.
 */
import type { MailDetail, Missing, QueueRow } from '../database/database.ts';
import { SuspensionMatcher, type SuspensionRule } from '../mail/suspension.ts';
import type { DestinationStanding } from '../scheduler/scheduler.ts';
import { missingText } from './missing.ts';
import { attributesOf, type VerdictAnswer, type VerdictOn } from './queue-answers.ts';
import { type HoldsAll, MAX_STANDINGS, type Standing } from './target.ts';
import { type EntryState, stateWord, textOrNull, timeOrNull } from './words.ts';

export interface Cause {
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
    | 'waits_for_its_turn'
    | 'not_seen';
  detail: string | null;
  /** When it is over by itself, where that is known. */
  ends_at: string | null;
}

/** An entry that is not over, and its causes: first what must be mended, or waited for, before others matter. */
export interface WhyAnswer {
  queue_id: string;
  entries: {
    destination: string;
    state: EntryState;
    waiting_recipients: number;
    attempts: number;
    causes: Cause[];
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

/** @param standing null: the relay does not run. @param rules those in force. */
export function whyAnswer(
  mail: MailDetail,
  standing: Standing | null,
  rules: readonly SuspensionRule[],
  missing: readonly Missing[],
  nowMs: number,
  verdictOn: VerdictOn = () => null,
): WhyAnswer {
  const matcher = new SuspensionMatcher(rules);
  const all = [...missing.map((one) => cause('not_seen', missingText(one))), ...causesOfAll(standing)];
  const entries = mail.rows.map((row) => ({
    destination: row.destination,
    state: stateWord(row.state),
    waiting_recipients: row.waiting,
    attempts: row.attempts,
    verdict: verdictOn(row),
    causes: isOver(row)
      ? []
      : [
          ...all,
          ...rulesOn(mail, row, matcher).map((rule) => cause('suspended', ruleText(rule), rule.untilMs)),
          ...causesOf(
            row,
            standing?.destinations.find((one) => one.destination === row.destination),
            nowMs,
          ),
        ],
  }));
  for (const { state, causes } of entries)
    if (causes.length === 0 && state !== 'failed' && state !== 'delivered')
      causes.push(cause('waits_for_its_turn'));
  return { queue_id: mail.queueId, entries };
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

const ruleText = ({ id, reason }: SuspensionRule): string => (reason === '' ? id : `${id}: ${reason}`);

function causesOfAll(standing: Standing | null): Cause[] {
  if (standing === null) return [cause('relay_not_running')];
  return standing.holds.map(({ kind, detail }) => cause(kind, detail));
}

function causesOf(row: QueueRow, standing: DestinationStanding | undefined, nowMs: number): Cause[] {
  const said = [row.reason, row.detail].filter((text) => text !== '').join(': ');
  if (row.state === 'HELD')
    return [cause(row.reason === 'suspected_poison' ? 'suspected_poison' : 'held', said)];
  if (row.state === 'SENDING') return [cause('being_sent', said)];
  const causes: Cause[] = [];
  const untilMs = standing?.suspendedUntilMs ?? null;
  if (untilMs !== null) causes.push(cause('destination_suspended', standing?.suspendedReason, untilMs));
  // A rule that holds it is named already.
  if (row.nextAttemptMs > nowMs && row.reason !== 'suspended')
    causes.push(cause('deferred', said, row.nextAttemptMs));
  if (causes.length === 0 && standing?.limit === 'places')
    causes.push(cause('places_used_up', 'delivery.max_handoff_mails'));
  if (causes.length === 0 && standing?.limit === 'rate')
    causes.push(cause('rate_used_up', 'delivery.max_messages_per_destination_per_s'));
  if (causes.length === 0 && standing?.limit === 'site')
    causes.push(cause('site_limit_used_up', standing.site ?? ''));
  return causes;
}

const cause = (name: Cause['cause'], detail = '', endsMs: number | null = null): Cause => ({
  cause: name,
  detail: textOrNull(detail),
  ends_at: timeOrNull(endsMs),
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
