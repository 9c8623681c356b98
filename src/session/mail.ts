/** MAIL (RFC 5321 §4.1.1.2): opens a transaction. */
import type { Envelope } from '../mail/envelope.ts';
import { type MailCommand, parseMail } from '../protocol/command.ts';
import { REPLY, type Reply } from '../protocol/reply.ts';
import { authMissing, quotaRefusal, senderRefusal, submitterOf } from './rights.ts';
import type { SessionView, Verb } from './verb.ts';

const ENVELOPE_OVERHEAD_BYTES = 600;
/** Memory that every content takes at its beginning. */
const LEAST_CONTENT_KIB = 4;

export const mail: Verb<MailCommand> = {
  name: 'MAIL',
  offers: true,

  check(session, line) {
    switch (session.state.phase) {
      case 'new':
        return REPLY.hello_first;
      case 'ready':
        break;
      case 'chunks':
        return REPLY.chunks_open;
      default:
        return REPLY.nested_mail;
    }
    const missing = authMissing(session);
    if (missing !== null) return missing;
    const command = parseMail(line, session.context.settings.strictAddresses);
    if (!('path' in command)) return command;
    if (command.parameters.size > session.context.settings.maxMessageSize) return REPLY.too_big;
    if (command.parameters.auth !== undefined && session.listener.auth === 'off')
      return REPLY.bad_parameter.with('AUTH');
    return command;
  },

  admit(session, { path, parameters }): Reply | null {
    const { settings, admission } = session.context;
    if (session.transactions >= settings.maxTransactions)
      return REPLY.too_many_transactions.with(settings.hostname);
    return (
      senderRefusal(session, path) ??
      quotaRefusal(session, 1, 0) ??
      admission.transaction() ??
      shareRefusal(session, parameters.size)
    );
  },

  screen: ({ policy, client }, { path }) => policy.mail(path.address, path.domain, client.helo),

  apply(session, { path, parameters }) {
    if (!session.policy.share.takeEnvelope(ENVELOPE_OVERHEAD_BYTES + session.lineBytes)) {
      session.reply(REPLY.envelopes_full);
      return;
    }
    const { body, smtpUtf8, ret, envid } = parameters;
    const envelope: Envelope = { reversePath: path.address, body, smtpUtf8, recipients: [] };
    // A stranger can name anybody as the sender, who must not get the stranger's content returned.
    if (ret !== undefined) envelope.ret = session.mayRelay ? ret : 'HDRS';
    if (envid !== undefined) envelope.envid = envid;
    const submitter = submitterOf(session, parameters);
    if (submitter !== undefined) envelope.submitter = submitter;
    session.transactions++;
    session.offerRefused = false;
    session.forwardMs = session.context.clock.steadyMs;
    session.context.shards.expect(envelope.reversePath);
    session.state = {
      phase: 'envelope',
      transaction: { envelope, seen: null, startedAtMs: session.context.clock.steadyMs },
    };
    session.reply(REPLY.mail_ok);
  },
};

/** The refusal when what this client has open leaves no room. Reserves nothing. @param sizeBytes -1: not declared. */
function shareRefusal({ policy, context }: SessionView, sizeBytes: number): Reply | null {
  const { share } = policy;
  if (!share.fits('content', LEAST_CONTENT_KIB)) return REPLY.content_memory_full;
  const spills = sizeBytes > context.settings.spillThresholdBytes;
  return spills && !share.fits('spill', Math.ceil(sizeBytes / 1024)) ? REPLY.disk_pressure : null;
}
