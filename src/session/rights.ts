/** What a session may, by who authenticated in it: whether AUTH is needed or offered, sender addresses, quotas. */
import type { User } from '../auth/auth.ts';
import type { QuotaRefusal } from '../auth/quotas.ts';
import { domainOf } from '../base/domain.ts';
import { type Path, parseMailbox } from '../protocol/address.ts';
import type { MailParameters } from '../protocol/parameters.ts';
import { REPLY, type Reply } from '../protocol/reply.ts';
import { decodeXtext } from '../protocol/xtext.ts';
import type { AuthOffer } from './settings.ts';
import type { SessionView } from './verb.ts';

/** RFC 6409 §4.3, RFC 4954 §6: 530 where the listener wants AUTH and nobody has authenticated. */
export function authMissing({ listener, user, state }: SessionView): Reply | null {
  if (listener.auth !== 'required' || user !== null) return null;
  return state.phase === 'new' ? REPLY.hello_first : REPLY.auth_required;
}

/** Whether a password may travel here: over TLS, on a Unix socket, or where the config has it so. */
export function isSafeForAuth({ secure, client, context }: SessionView): boolean {
  return secure || client.address === 'unix' || context.settings.authWithoutTls;
}

/** What EHLO says of AUTH. */
export function authOffer(session: SessionView): AuthOffer {
  if (session.listener.auth === 'off' || !isSafeForAuth(session)) return 'none';
  const { mechanisms } = session.context.settings;
  return session.channelBindings.length > 0 && mechanisms.plus.length > mechanisms.auth.length
    ? 'plus'
    : 'auth';
}

/** null, or the refusal of a reverse-path that is not the user's. */
export function senderRefusal({ user }: SessionView, path: Path): Reply | null {
  if (user === null || path.address === '' || isOwnSender(user, path)) return null;
  return REPLY.sender_not_owned;
}

/**
 * AUTH= of MAIL as it is passed on (RFC 4954 §5); undefined stands for `<>`. A user is believed about the mailboxes it may
 * send from, nobody else about any.
 */
export function submitterOf({ user }: SessionView, { auth }: Readonly<MailParameters>): string | undefined {
  if (auth === undefined || auth === '<>' || user === null) return undefined;
  const mailbox = parseMailbox(decodeXtext(auth));
  return mailbox !== null && !mailbox.nonAscii && isOwnSender(user, mailbox) ? auth : undefined;
}

function isOwnSender({ name, rules }: User, { address, domain }: Path): boolean {
  switch (rules.senderPolicy) {
    case 'any':
      return true;
    case 'login':
      return isSame(name, address, domain) || (!name.includes('@') && localOf(address) === name);
    case 'list':
      return rules.senders.some((sender) =>
        sender.startsWith('@') ? sender.slice(1) === domain : isSame(sender, address, domain),
      );
  }
}

const localOf = (address: string): string => address.slice(0, address.lastIndexOf('@'));

/** Domains compare without case, local parts with (RFC 5321 §2.4). @param domain in the form of base/domain.ts. */
function isSame(own: string, address: string, domain: string): boolean {
  const at = own.lastIndexOf('@');
  return at >= 0 && domainOf(own) === domain && own.slice(0, at) === localOf(address);
}

/** null, or the refusal when so many more messages and recipients would exceed the user's quotas. Counts nothing. */
export function quotaRefusal(
  { user, context }: SessionView,
  messages: number,
  recipients: number,
): Reply | null {
  if (user === null || context.quotas === null) return null;
  return quotaReply(context.quotas.check(user.name, user.rules.quotas, messages, recipients));
}

/** Counts a message that is complete; null, or the refusal with nothing counted. */
function takeQuota({ user, context }: SessionView, recipients: number): Reply | null {
  if (user === null || context.quotas === null) return null;
  return quotaReply(context.quotas.take(user.name, user.rules.quotas, recipients));
}

/** Uncounts a message that was not accepted after all. */
export function giveQuotaBack({ user, context }: SessionView, recipients: number): void {
  if (user !== null) context.quotas?.giveBack(user.name, user.rules.quotas, recipients);
}

/** Asks the user's quota, then for room: null when the message is counted in both, else the refusal, nothing counted. */
export function admitMessage(session: SessionView, recipients: number): Reply | null {
  const refusal = takeQuota(session, recipients);
  if (refusal !== null) return refusal;
  const full = session.context.admission.message();
  if (full !== null) giveQuotaBack(session, recipients);
  return full;
}

const WORDS: Record<Exclude<QuotaRefusal, null>, string> = {
  messagesPerHour: 'messages per hour',
  messagesPerDay: 'messages per day',
  recipientsPerHour: 'recipients per hour',
  recipientsPerDay: 'recipients per day',
  full: 'too many accounts today',
};

function quotaReply(refusal: QuotaRefusal): Reply | null {
  return refusal === null ? null : REPLY.quota_used_up.with(WORDS[refusal]);
}
