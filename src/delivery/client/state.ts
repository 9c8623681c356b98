/** The states of a client session, and what it works on in each of them. */

import type { DeferralReason, PeerReply } from '../../mail/outcome.ts';
import type { Peer } from '../../mail/peer.ts';
import type { Verdict } from '../../mail/verdict.ts';
import type { Attempt } from '../attempt.ts';
import type { ClientExchange } from './sasl.ts';

/** Some recipients of one attempt on their way through MAIL, RCPT…, DATA. */
export interface Transaction {
  readonly attempt: Attempt;
  /** Recipients attempt.todo[from … from + count). */
  readonly from: number;
  readonly count: number;
  /** ' BODY=8BITMIME', ' BODY=BINARYMIME' or ''. */
  readonly body: string;
  readonly utf8: boolean;
  /** Content goes by BDAT instead of DATA. */
  readonly bdat: boolean;
  /** The command whose reply comes next. */
  awaits: 'rset' | 'mail' | 'rcpt' | 'data';
  /** Whether it was sent behind the content of another one. */
  readonly ahead: boolean;
  /** Number of replies read, not counting that to RSET. 0: the peer may not even have seen the transaction. */
  replies: number;
  /** MAIL was refused, so replies to commands that were sent ahead of its reply mean nothing. */
  refused: boolean;
  rcptSent: number;
  rcptReplied: number;
  dataSent: boolean;
  /** Positions whose RCPT was accepted. */
  readonly accepted: number[];
  /**
   * Refusals of a MAIL and of RCPTs that were sent ahead. They count once the reply to DATA shows that replies and
   * commands fit.
   */
  mailRefusal: PeerReply | null;
  refusals: { position: number; reply: PeerReply }[] | null;
  /** Positions of recipients that the peer called too many. */
  tooMany: number[] | null;
  tooManyReply: PeerReply | null;
}

export type ClientState =
  | { readonly phase: 'connecting' }
  | { readonly phase: 'greeting' }
  | { readonly phase: 'hello'; readonly verb: 'EHLO' | 'HELO' }
  /** STARTTLS was sent. */
  | { readonly phase: 'starttls' }
  /** A TLS handshake is under way. */
  | { readonly phase: 'securing' }
  | {
      readonly phase: 'auth';
      readonly exchange: ClientExchange;
      /** Exchanges of other mechanisms, to be tried after this one. */
      readonly others: ClientExchange[];
      /** An initial response that was too long for the command. */
      pending: Buffer | null;
    }
  | { readonly phase: 'idle' }
  | { readonly phase: 'envelope'; readonly transaction: Transaction }
  | {
      readonly phase: 'content';
      readonly transaction: Transaction;
      /** No recipient was accepted, so only the end of data was sent (RFC 2920 §3.1). */
      readonly empty: boolean;
      /** Whether all content is with the kernel. */
      sent: boolean;
      /**
       * The transaction whose commands were sent behind the content (RFC 2920 §3.1). Its replies come after the final
       * one.
       */
      next: Transaction | null;
    }
  | { readonly phase: 'quitting' }
  | { readonly phase: 'closed' };

export const CONNECTING: ClientState = { phase: 'connecting' };
export const GREETING: ClientState = { phase: 'greeting' };
export const EHLO: ClientState = { phase: 'hello', verb: 'EHLO' };
export const HELO: ClientState = { phase: 'hello', verb: 'HELO' };
export const STARTTLS: ClientState = { phase: 'starttls' };
export const SECURING: ClientState = { phase: 'securing' };
export const IDLE: ClientState = { phase: 'idle' };
export const QUITTING: ClientState = { phase: 'quitting' };
export const CLOSED: ClientState = { phase: 'closed' };

/** Why a session cannot go on. */
export interface Fault {
  reason: DeferralReason;
  /** The reply that is the reason, when there is one. */
  reply: PeerReply | null;
  /** What the reply means; absent where it says nothing about mail. */
  verdict?: Verdict;
  /** The host, where there is no reply to say so; the session fills it in. */
  peer?: Peer;
  detail: string;
  /** Whether the same host is to be tried again without TLS. */
  plainRetry?: boolean;
  /** Whether the peer's replies do not fit the commands. */
  confused?: boolean;
  /** Whether the fault is this connection's and not the host's, so that a new connection may work. */
  ofConnection?: boolean;
}

/** The transaction whose replies come next. */
export const transactionIn = (state: ClientState): Transaction | null =>
  state.phase === 'envelope' || state.phase === 'content' ? state.transaction : null;

/** What did not come in time. */
export function lackOf(state: ClientState): string {
  switch (state.phase) {
    case 'connecting':
      return 'no connection in time';
    case 'greeting':
      return 'no greeting in time';
    case 'hello':
      return `no reply to ${state.verb} in time`;
    case 'starttls':
      return 'no reply to STARTTLS in time';
    case 'auth':
      return 'no reply to AUTH in time';
    case 'envelope':
      return `no reply to ${state.transaction.awaits.toUpperCase()} in time`;
    case 'content':
      return state.sent ? 'no reply to the end of data in time' : 'content was not taken in time';
    default:
      return 'no reply in time';
  }
}
