/** Every reply that this relay gives, in one table by reason; those of the connection policy are in policy-reply.ts. */
import { harmless, Reply, ReplyTemplate, type Row, replyOf } from './reply-form.ts';

export { Reply, ReplyTemplate };

const TABLE = {
  banner: [220, null, '{} ESMTP ProtoRelay'],
  hello: [250, null, '{}'],
  ok: [250, '2.0.0', 'Ok'],
  mail_ok: [250, '2.1.0', 'Ok'],
  rcpt_ok: [250, '2.1.5', 'Ok'],
  chunk_ok: [250, '2.0.0', 'Ok: {} octets received'],
  queued: [250, '2.0.0', 'Ok: queued as {}'],
  report_read: [250, '2.0.0', 'Report read'],
  in_memory: [250, '2.0.0', 'Ok: in memory as {}, not yet durable'],
  help: [214, '2.0.0', 'Commands: HELO EHLO STARTTLS AUTH MAIL RCPT DATA BDAT RSET NOOP VRFY EXPN HELP QUIT'],
  bye: [221, '2.0.0', 'Bye'],
  vrfy_any: [252, '2.5.0', 'Cannot verify, but will take mail for this address and try to deliver it'],
  vrfy_relayed: [252, '2.1.5', 'Cannot verify the mailbox; mail for it would be relayed'],
  starttls: [220, '2.0.0', 'Ready to start TLS'],
  auth_ok: [235, '2.7.0', 'Authentication successful'],
  challenge: [334, null, '{}'],
  start_data: [354, null, 'End data with <CR><LF>.<CR><LF>'],

  internal_error: [421, '4.3.0', '{} closes the connection: internal error; try again later'],
  draining: [421, '4.3.2', '{} is shutting down; try again later'],
  overloaded: [421, '4.3.2', '{} is overloaded; try again later'],
  too_many_connections: [421, '4.3.2', '{} has too many connections; try again later'],
  too_many_from_address: [421, '4.7.0', '{} has too many connections from your address'],
  timed_out: [421, '4.4.2', '{} timed out waiting for you'],
  too_slow: [421, '4.4.2', '{} closes the connection: content comes too slowly'],
  other_protocol: [421, '4.7.0', '{} closes the connection: this is SMTP'],
  too_many_errors: [421, '4.7.0', '{} closes the connection: too many errors'],
  too_many_idle_commands: [
    421,
    '4.7.0',
    '{} closes the connection: too many commands without mail; connect again',
  ],
  too_much_ahead: [421, '4.7.0', '{} closes the connection: too much sent ahead'],
  too_many_transactions: [421, '4.7.0', '{} closes the connection: too many transactions; connect again'],
  too_many_auth_failures: [421, '4.7.0', '{} closes the connection: too many failed logins'],

  auth_unavailable: [454, '4.7.0', 'Temporary authentication failure; try again later'],
  quota_used_up: [451, '4.7.1', 'Quota of your account is used up: {}; try again later'],
  persist_timeout: [451, '4.3.0', 'Could not store the message in time; try again later'],
  persist_failed: [451, '4.3.0', 'Could not store the message; try again later'],
  database_pressure: [451, '4.3.0', 'Queue database is busy; try again later'],
  spill_failed: [451, '4.3.0', 'Could not write the content; try again later'],
  spill_full: [452, '4.3.1', 'No room for the content; try again later'],
  inflight_full: [452, '4.3.1', 'Too many messages in flight; try again later'],
  memory_pressure: [452, '4.3.1', 'Out of memory; try again later'],
  content_memory_full: [452, '4.3.1', 'No memory for the content; try again later'],
  disk_pressure: [452, '4.3.1', 'Out of disk space; try again later'],
  journal_full: [452, '4.3.1', 'Journal is full; try again later'],
  queue_full: [452, '4.3.1', 'Queue is full; try again later'],
  too_many_recipients: [452, '4.5.3', 'Too many recipients; send the rest in another transaction'],
  envelopes_full: [452, '4.5.3', 'Too many recipients in open transactions; try again later'],
  tls_unavailable: [454, '4.7.0', 'TLS is not available now; try again later'],

  unknown_command: [500, '5.5.2', 'Command not recognized'],
  command_too_long: [500, '5.5.2', 'Line too long'],
  command_bad_bytes: [500, '5.5.2', 'Bare CR, bare LF or NUL in a command'],
  auth_line_too_long: [500, '5.5.6', 'Authentication exchange line is too long'],
  auth_syntax: [501, '5.5.4', 'Syntax: AUTH mechanism [initial-response]'],
  auth_malformed: [501, '5.5.2', 'Authentication response cannot be decoded'],
  auth_no_initial: [501, '5.7.0', 'This mechanism takes no initial response'],
  auth_cancelled: [501, '5.7.0', 'Authentication cancelled'],
  helo_syntax: [501, '5.5.4', 'Syntax: HELO or EHLO, then your host name or [address]'],
  mail_syntax: [501, '5.5.4', 'Syntax: MAIL FROM:<address> [parameters]'],
  rcpt_syntax: [501, '5.5.4', 'Syntax: RCPT TO:<address> [parameters]'],
  bdat_syntax: [501, '5.5.4', 'Syntax: BDAT octets [LAST]; closing connection'],
  vrfy_syntax: [501, '5.5.4', 'Syntax: VRFY address'],
  expn_syntax: [501, '5.5.4', 'Syntax: EXPN list'],
  no_argument: [501, '5.5.4', 'This command takes no argument'],
  sender_syntax: [501, '5.1.7', 'Bad sender address syntax'],
  recipient_syntax: [501, '5.1.3', 'Bad recipient address syntax'],
  not_implemented: [502, '5.5.1', 'Command not implemented'],
  hello_first: [503, '5.5.1', 'Send HELO or EHLO first'],
  mail_first: [503, '5.5.1', 'Send MAIL first'],
  offer_refused: [503, '5.5.1', 'The offer was refused; send MAIL again'],
  nested_mail: [503, '5.5.1', 'A transaction is open already'],
  chunks_open: [503, '5.5.1', 'BDAT has begun; only BDAT or RSET can follow'],
  already_secure: [503, '5.5.1', 'TLS is active already'],
  binary_needs_bdat: [503, '5.5.1', 'BODY=BINARYMIME needs BDAT'],
  starttls_first: [530, '5.7.0', 'Must issue a STARTTLS command first'],
  auth_twice: [503, '5.5.1', 'Already authenticated'],
  auth_in_transaction: [503, '5.5.1', 'AUTH is not allowed in a transaction'],
  auth_mechanism: [504, '5.5.4', 'Authentication mechanism not offered'],
  auth_required: [530, '5.7.0', 'Authentication required'],
  auth_invalid: [535, '5.7.8', 'Authentication credentials invalid'],
  auth_needs_tls: [538, '5.7.11', 'Encryption required for authentication'],
  no_such_return_path: [550, '5.1.1', 'No such address'],
  recipient_suppressed: [550, '5.7.1', 'Recipient is on the suppression list'],
  relay_denied: [550, '5.7.1', 'Relaying denied'],
  bare_newline: [550, '5.6.11', 'Bare CR or bare LF in the content'],
  nul_content: [550, '5.6.0', 'NUL in the content'],
  bad_attribute: [550, '5.6.0', 'Bad attribute: {}'],
  unknown_tenant: [550, '5.7.1', 'Unknown tenant: {}'],
  too_big: [552, '5.3.4', 'Message is larger than the limit'],
  header_too_long: [552, '5.3.4', 'Header section is longer than the limit'],
  chunk_too_big: [552, '5.3.4', 'Chunk is larger than the limit; closing connection'],
  needs_smtputf8: [553, '5.6.7', 'Address outside ASCII needs the parameter SMTPUTF8'],
  sender_not_owned: [553, '5.7.1', 'Sender address does not belong to your account'],
  no_recipients: [554, '5.5.1', 'No valid recipients'],
  content_line_too_long: [554, '5.6.0', 'Line too long in the content'],
  client_certificate_refused: [
    554,
    '5.7.1',
    'Your client certificate is not accepted here; closing connection',
  ],
  mail_loop: [554, '5.4.6', 'Too many hops: mail loop'],
  bad_parameter: [555, '5.5.4', 'Parameter not recognized, given twice or not valid: {}'],
} as const satisfies Record<string, Row>;

export type ReplyReason = keyof typeof TABLE;

type Replies = {
  readonly [R in ReplyReason]: (typeof TABLE)[R][2] extends `${string}{}${string}` ? ReplyTemplate : Reply;
};

/** The replies, by reason. */
export const REPLY: Replies = Object.fromEntries(
  Object.entries(TABLE as Record<string, Row>).map(([reason, row]) => [
    reason,
    replyOf(reason as ReplyReason, row),
  ]),
) as unknown as Replies;

/** All reasons, for the test that each of them occurs. */
export const REPLY_REASONS = Object.keys(TABLE) as ReplyReason[];

/** The reply to EHLO with further keywords, which only this client is offered. */
export function withKeywords(ehlo: Reply, keywords: readonly string[]): Reply {
  const open = ehlo.line.replace(/^250 (?=[^\r\n]*\r\n$)/m, '250-');
  const more = keywords.map((word, i) => `250${i === keywords.length - 1 ? ' ' : '-'}${harmless(word)}\r\n`);
  return new Reply('hello', 250, open + more.join(''), false);
}

/** The reply to EHLO: our name, then a line for each keyword (RFC 5321 §4.1.1.1). */
export function ehloReply(hostname: string, keywords: readonly string[]): Reply {
  const lines = [hostname, ...keywords].map(harmless);
  const text = lines.map((line, i) => `250${i === lines.length - 1 ? ' ' : '-'}${line}\r\n`).join('');
  return new Reply('hello', 250, text, true);
}

/** 334 with the challenge of a mechanism (RFC 4954 §4), which may be longer than other replies. */
export function challengeReply(octets: Uint8Array): Reply {
  return new Reply('challenge', 334, `334 ${Buffer.from(octets).toString('base64')}\r\n`, false);
}
