/** RCPT (RFC 5321 §4.1.1.3): adds a recipient this relay may take mail for. */
import { domainKey } from '../base/domain.ts';
import { NOTIFY, type Recipient, strangersNotify } from '../mail/envelope.ts';
import { type Path, unquotedLocal } from '../protocol/address.ts';
import { parseRcpt, type RcptCommand } from '../protocol/command.ts';
import { REPLY, type Reply } from '../protocol/reply.ts';
import { outOfTransaction } from './failures.ts';
import { isReport, mixes, reportTo } from './reports.ts';
import { quotaRefusal } from './rights.ts';
import type { Session } from './session.ts';
import type { Transaction } from './state.ts';
import type { SessionView, Verb } from './verb.ts';

const RECIPIENT_OVERHEAD_BYTES = 300;

export const rcpt: Verb<RcptCommand> = {
  name: 'RCPT',

  check(session, line) {
    const { state } = session;
    switch (state.phase) {
      case 'new':
        return REPLY.hello_first;
      case 'envelope':
        return parseRcpt(line, state.transaction.envelope.smtpUtf8, session.context.settings.strictAddresses);
      case 'chunks':
        return REPLY.chunks_open;
      default:
        return outOfTransaction(session);
    }
  },

  admit(session, { path }): Reply | null {
    const { admission, settings } = session.context;
    const report = reportTo(session, path);
    if (report !== null) return report.refusal ?? (mixes(session) ? REPLY.too_many_recipients : null);
    if (isReport(session)) return REPLY.too_many_recipients;
    if (!isTaken(session, path)) return REPLY.relay_denied;
    if (!session.mayRelay && !settings.untrustedRouting && localPart(path).startsWith('-'))
      return REPLY.recipient_syntax;
    if (recipientsOf(session) >= settings.maxRecipients) return REPLY.too_many_recipients;
    return quotaRefusal(session, 0, recipientsOf(session) + 1) ?? admission.recipient();
  },

  screen(session, { path }) {
    const { policy, state, context } = session;
    if (state.phase !== 'envelope' || reportTo(session, path) !== null) return null;
    const { reversePath } = state.transaction.envelope;
    const answer = policy.recipient(reversePath, path.address, path.domain);
    const { suppressed } = context;
    // Reports go to whom they concern.
    if (suppressed === null || reversePath === '') return answer;
    if (answer === null) return suppressed.look(path.address);
    return answer instanceof Promise
      ? answer.then((verdict) => verdict ?? suppressed.look(path.address))
      : answer;
  },

  apply(session, { path, parameters }) {
    const { state } = session;
    if (state.phase !== 'envelope') return;
    const report = reportTo(session, path);
    if (report !== null) state.transaction.report = report;
    const { address, domain } = placeOf(path, session);
    if (!session.policy.share.takeEnvelope(RECIPIENT_OVERHEAD_BYTES + session.lineBytes)) {
      session.reply(REPLY.envelopes_full);
      return;
    }
    if (isNew(state.transaction, address, domain)) {
      const recipient: Recipient = {
        address,
        domain,
        class: session.context.classes.classOf(domain),
        notify: notifyOf(session, path, parameters.notify),
      };
      if (parameters.orcpt !== undefined) recipient.orcpt = parameters.orcpt;
      state.transaction.envelope.recipients.push(recipient);
      session.movedOn();
    }
    session.reply(REPLY.rcpt_ok);
  },
};

function recipientsOf({ state }: SessionView): number {
  return state.phase === 'envelope' ? state.transaction.envelope.recipients.length : 0;
}

/** Whether mail to this recipient can be taken from this client at all. */
export function isTaken({ mayRelay, context }: SessionView, path: Path): boolean {
  const { relayPolicy, postmaster, settings } = context;
  // RFC 5321 §4.5.1: <postmaster> is taken from anyone, where an address is configured that it goes to.
  if (postmaster.target !== null && postmaster.isOurs(path)) return true;
  if (path.domain === '') return relayPolicy.isRelayDomain(domainKey(settings.hostname));
  if (mayRelay) return true;
  return relayPolicy.isRelayDomain(path.domain) && (settings.untrustedRouting || !isRouted(path));
}

/**
 * The local part as the next host may read it: without quotes, and normalised, because software that normalises
 * addresses takes some Unicode characters (`％`, `﹫`) for their ASCII forms.
 */
function localPart({ address, nonAscii }: Path): string {
  const local = unquotedLocal(address.slice(0, address.lastIndexOf('@')));
  return nonAscii ? local.normalize('NFKC') : local;
}

/** `user%other@`, `other!user@`, `"user@other"@`: the next host could send it on, and so relay for strangers. */
const isRouted = (path: Path): boolean => /[%!@]/.test(localPart(path));

function placeOf(path: Path, { context }: Session): Pick<Path, 'address' | 'domain'> {
  const { postmaster, settings } = context;
  if (postmaster.target !== null && postmaster.isOurs(path)) return postmaster.target;
  if (path.domain !== '') return path;
  return { address: `${path.address}@${settings.hostname}`, domain: domainKey(settings.hostname) };
}

/** Mail of strangers to our own postmaster makes no report at all: a failure there is for the operator to mend. */
function notifyOf({ mayRelay, context }: Session, path: Path, notify: number): number {
  if (mayRelay) return notify;
  return strangersNotify(context.postmaster.isOurs(path) ? NOTIFY.never : notify);
}

/** False for a recipient the transaction has already: it is answered like any other, and gets the message once. */
function isNew(transaction: Transaction, address: string, domain: string): boolean {
  const { recipients } = transaction.envelope;
  const first = recipients[0];
  if (first === undefined) return true;
  if (transaction.seen === null) transaction.seen = new Set([keyOf(first.address, first.domain)]);
  const before = transaction.seen.size;
  return transaction.seen.add(keyOf(address, domain)).size > before;
}

/** Domains compare without case, local parts with (RFC 5321 §2.4). */
function keyOf(address: string, domain: string): string {
  return address.endsWith(domain) ? address : address.slice(0, address.lastIndexOf('@') + 1) + domain;
}
