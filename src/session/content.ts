/** DATA (RFC 5321 §4.1.1.4) and BDAT (RFC 3030): from the envelope to reading content. */

import { argumentOf, type BdatCommand, parseBdat } from '../protocol/command.ts';
import { REPLY, Reply } from '../protocol/reply.ts';
import { outOfTransaction } from './failures.ts';
import type { Session } from './session.ts';
import { isTransaction, READY, type SessionState } from './state.ts';
import type { SessionView, Verb } from './verb.ts';

/** Longest refused chunk that is read to keep the connection usable; a longer one closes it. */
const MAX_DISCARDED_OCTETS = 0x7fff_ffff;

export const data: Verb<true> = {
  name: 'DATA',

  check(session, line) {
    const { state } = session;
    if (argumentOf(line, 4) !== '') return REPLY.no_argument;
    switch (state.phase) {
      case 'envelope': {
        const { recipients, body } = state.transaction.envelope;
        if (body === 'BINARYMIME') return REPLY.binary_needs_bdat;
        return recipients.length === 0 ? REPLY.no_recipients : true;
      }
      case 'new':
        return REPLY.hello_first;
      case 'chunks':
        return REPLY.chunks_open;
      default:
        return outOfTransaction(session);
    }
  },

  apply(session) {
    const { state, context, connection } = session;
    if (state.phase !== 'envelope') return;
    session.reply(REPLY.start_data);
    book(session);
    context.port.expectData(connection, context.settings.textRules);
    session.readContent({ phase: 'data', transaction: state.transaction });
  },
};

/** A chunk to take, or one to read past: its octets follow the command in any case. */
type Chunk = BdatCommand & { refusal: Reply | null; next: SessionState };

export const bdat: Verb<Chunk> = {
  name: 'BDAT',
  // The octets that follow have to be read past in any case; the chunk is refused, since MAIL has to wait for TLS.
  beforeTls: true,

  check(session, line) {
    const command = parseBdat(line);
    if (command instanceof Reply)
      return { octets: Number.POSITIVE_INFINITY, last: true, refusal: command, next: READY };
    return { ...command, ...judge(session, command.octets) };
  },

  apply(session, { octets, last, refusal, next }) {
    if (refusal !== null) {
      discard(session, octets, refusal, next);
      return;
    }
    const { state, context, connection } = session;
    if (state.phase !== 'envelope' && state.phase !== 'chunks') return;
    const { transaction } = state;
    const { settings, port } = context;
    const before = state.phase === 'chunks' ? state.octets : 0;
    const rules = transaction.envelope.body === 'BINARYMIME' ? settings.binaryRules : settings.textRules;
    book(session);
    port.expectChunk(connection, octets, last, rules);
    const sinceMs = state.phase === 'chunks' ? state.sinceMs : context.clock.steadyMs;
    session.readContent({
      phase: 'chunk',
      transaction,
      octets: before + octets,
      chunkOctets: octets,
      sinceMs,
    });
  },
};

/** The content that comes next is counted for this client. */
function book({ policy, context, connection }: Session): void {
  const { client, network, trusted } = policy.share.account;
  context.port.account(connection, client, network, trusted);
}

/** Whether the chunk fits the dialog, and the state after it when it does not. */
function judge(session: SessionView, octets: number): { refusal: Reply | null; next: SessionState } {
  const { state, context } = session;
  switch (state.phase) {
    case 'new':
      return { refusal: REPLY.hello_first, next: state };
    case 'envelope':
      if (state.transaction.envelope.recipients.length === 0)
        return { refusal: REPLY.no_recipients, next: state };
      break;
    case 'chunks':
      break;
    default:
      return { refusal: outOfTransaction(session), next: READY };
  }
  const before = state.phase === 'chunks' ? state.octets : 0;
  const tooBig = before + octets > context.settings.maxMessageSize;
  return { refusal: tooBig ? REPLY.too_big : null, next: READY };
}

/**
 * Reads the octets of a refused chunk, then answers. A chunk whose length is unknown or absurd closes the connection:
 * its octets would be taken for commands.
 */
function discard(session: Session, octets: number, refusal: Reply, next: SessionState): void {
  const { port, settings } = session.context;
  if (octets > MAX_DISCARDED_OCTETS) {
    session.reply(refusal === REPLY.bdat_syntax ? refusal : REPLY.chunk_too_big);
    session.close();
    return;
  }
  if (session.state.phase === 'chunks') port.dropContent(session.connection);
  if (isTransaction(session.state)) session.offerRefused = true;
  port.expectChunk(session.connection, octets, true, { ...settings.binaryRules, maxBytes: 0 });
  session.readContent({ phase: 'discard', reply: refusal, next });
}
