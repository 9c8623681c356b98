/**
 * What all sessions of one thread share. Sessions know the reactor only through SessionPort, a few of its methods,
 * so that a test can play the socket.
 */
import type { Admission } from '../admission/admission.ts';
import type { Postmaster } from '../admission/postmaster.ts';
import type { RecipientClasses } from '../admission/recipient-class.ts';
import type { RelayPolicy } from '../admission/relay-policy.ts';
import type { Quotas } from '../auth/quotas.ts';
import type { Log } from '../base/log.ts';
import type { QueueIds } from '../mail/queue-id.ts';
import type { Arena, Reactor } from '../native.ts';
import type { ContentAccount } from '../policy/content-account.ts';
import type { SessionPolicy } from '../policy/session-policy.ts';
import type { DateCache } from '../protocol/date.ts';
import type { Barrier } from './barrier.ts';
import type { Logins } from './logins.ts';
import type { Reports } from './reports.ts';
import type { SessionSettings } from './settings.ts';
import type { ShardRouter } from './shard-router.ts';
import type { Submissions } from './submissions.ts';
import type { SuppressedRecipients } from './suppressed.ts';
import type { Transcript } from './transcript.ts';
import type { VerbTable } from './verb.ts';

export type SessionPort = Pick<
  Reactor,
  | 'send'
  | 'sendLatin1'
  | 'expectLines'
  | 'expectProxy'
  | 'hold'
  | 'flush'
  | 'expectData'
  | 'expectChunk'
  | 'dropContent'
  | 'deadline'
  | 'minRate'
  | 'secure'
  | 'handshakes'
  | 'account'
  | 'close'
>;

/** The time of the loop turn: read once per turn, not once per command. */
export interface TurnClock {
  /** Time of day, for what is stored or shown. */
  nowMs: number;
  /** Steady time, for durations. */
  steadyMs: number;
}

export interface SessionContext {
  readonly port: SessionPort;
  readonly arena: Pick<
    Arena,
    | 'lengthBytes'
    | 'retain'
    | 'release'
    | 'moveState'
    | 'head'
    | 'parts'
    | 'fieldAt'
    | 'textAt'
    | 'marked'
    | 'cut'
  >;
  /** Books the memory of contents on the accounts of their clients. */
  readonly contentAccount: ContentAccount;
  readonly clock: TurnClock;
  readonly queueIds: QueueIds;
  /** Chooses each message's shard, and with it makes its queue id. */
  readonly shards: ShardRouter;
  readonly dates: DateCache;
  readonly verbs: VerbTable;
  readonly admission: Admission;
  readonly submissions: Submissions;
  readonly logins: Logins;
  /** null where no listener has AUTH. */
  readonly quotas: Pick<Quotas, 'check' | 'take' | 'giveBack'> | null;
  readonly log: Log;
  /** Catches the errors of single dialogs. */
  readonly barrier: Barrier;
  /** Slot of the server's TLS context; -1: there is none. */
  readonly tlsSlot: number;
  /** Mail to the domain of return paths. */
  readonly reports: Reports;
  /** Sets the clock: at each turn, and before work between two turns, such as an answer of DNS. */
  readonly readClock: () => void;
  /** This and all that follow are replaced when the configuration is reloaded. */
  settings: SessionSettings;
  /** null: recipients on the suppression list are taken. */
  suppressed: SuppressedRecipients | null;
  relayPolicy: RelayPolicy;
  postmaster: Postmaster;
  classes: RecipientClasses;
  /** Makes the policy of one session; sessions that are open at a reload keep theirs. */
  policyOf: (session: string, address: string, mayRelay: boolean) => SessionPolicy;
  /** null when transcripts are off. */
  transcript: Transcript | null;
}
