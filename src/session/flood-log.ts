/**
 * The log lines that clients, or a full disk, can cause in any number, and how many of each are written a second.
 * Composition roots wrap their logs in these.
 */
import { type Calmed, CalmLog } from '../base/calm-log.ts';
import type { FieldsOf, Log } from '../base/log.ts';

const LINES_PER_SECOND = 100;
/** Lines that come once a message: the first of them says what is wrong. */
const MAIL_LINES_PER_SECOND = 10;
/** Errors of our own: each comes with its stack. */
const FAULTS_PER_SECOND = 5;

const OF_SESSIONS: Calmed[] = [
  { event: 'policy.hit', linesPerSecond: LINES_PER_SECOND, kind: 'rule' },
  { event: 'session.refused', linesPerSecond: LINES_PER_SECOND, kind: 'reason' },
  { event: 'session.tls_failed', linesPerSecond: LINES_PER_SECOND, kind: 'reason' },
  { event: 'session.proxy_refused', linesPerSecond: LINES_PER_SECOND, kind: 'reason' },
  { event: 'session.fault', linesPerSecond: FAULTS_PER_SECOND, kind: 'at' },
];

const OF_DELIVERY: Calmed[] = [{ event: 'delivery.fault', linesPerSecond: FAULTS_PER_SECOND, kind: 'at' }];

/** Lines that come with every message, commit or claim while a server or a shard is away. */
const OF_MAIL: Calmed[] = (
  [
    ['commit.retrying', 'error'],
    ['settlement.rejected', 'advice'],
    ['scheduler.claim_failed', 'error'],
    ['destination.suspended', 'reason'],
    ['destination.resumed', 'reason'],
  ] as const
).map(([event, kind]) => ({
  event,
  linesPerSecond: MAIL_LINES_PER_SECOND,
  kind,
  rest: { event: `${event}-not-logged`, lines: 'lines', kinds: 'kinds' },
}));

/** While the disk is full, every message that clients offer becomes a commit that fails. */
const OF_COMMITS: Calmed[] = [{ event: 'commit.failed', linesPerSecond: FAULTS_PER_SECOND, kind: 'code' }];

const OF_LOGINS: Calmed[] = [{ event: 'auth.failed', linesPerSecond: LINES_PER_SECOND, kind: 'mechanism' }];

/** For the sessions of one thread. */
export const sessionLog = (log: Log): Log => new CalmLog(log, OF_SESSIONS);

/** For our own errors in the delivery threads of one process. */
export function faultsTo(log: Log): (fault: FieldsOf<'delivery.fault'>) => void {
  const calm: Log = new CalmLog(log, OF_DELIVERY);
  return (fault) => calm.error('delivery.fault', fault);
}

/** For what the main thread of one process says of the mail. */
export const mailLog = (log: Log): Log => new CalmLog(log, OF_MAIL);

/** For commits of the mail that clients hand to one process. */
export const intakeLog = (log: Log): Log => new CalmLog(log, OF_COMMITS);

/** For the logins of one process. */
export const loginLog = (log: Log): Log => new CalmLog(log, OF_LOGINS);
