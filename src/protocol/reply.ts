/** Every reply that this relay gives, in one table by reason; those of the connection policy are in policy-reply.ts. */
import { harmless, Reply, ReplyTemplate, type Row, replyOf } from './reply-form.ts';

export { Reply, ReplyTemplate };

const TABLE = {
  banner: [220, null, '{} ESMTP ProtoRelay'],
  hello: [250, null, '{}'],
  ok: [250, '2.0.0', 'Ok'],
  mailOk: [250, '2.1.0', 'Ok'],
  rcptOk: [250, '2.1.5', 'Ok'],
  chunkOk: [250, '2.0.0', 'Ok: {} octets received'],
  queued: [250, '2.0.0', 'Ok: queued as {}'],
  inMemory: [250, '2.0.0', 'Ok: in memory as {}, not yet durable'],
  help: [214, '2.0.0', 'Commands: HELO EHLO STARTTLS AUTH MAIL RCPT DATA BDAT RSET NOOP VRFY EXPN HELP QUIT'],
  bye: [221, '2.0.0', 'Bye'],
  vrfyAny: [252, '2.5.0', 'Cannot verify, but will take mail for this address and try to deliver it'],
  vrfyRelayed: [252, '2.1.5', 'Cannot verify the mailbox; mail for it would be relayed'],
  startTls: [220, '2.0.0', 'Ready to start TLS'],
  authOk: [235, '2.7.0', 'Authentication successful'],
  challenge: [334, null, '{}'],
  startData: [354, null, 'End data with <CR><LF>.<CR><LF>'],

  internalError: [421, '4.3.0', '{} closes the connection: internal error; try again later'],
  draining: [421, '4.3.2', '{} is shutting down; try again later'],
  overloaded: [421, '4.3.2', '{} is overloaded; try again later'],
  tooManyConnections: [421, '4.3.2', '{} has too many connections; try again later'],
  tooManyFromAddress: [421, '4.7.0', '{} has too many connections from your address'],
  timedOut: [421, '4.4.2', '{} timed out waiting for you'],
  tooSlow: [421, '4.4.2', '{} closes the connection: content comes too slowly'],
  otherProtocol: [421, '4.7.0', '{} closes the connection: this is SMTP'],
  tooManyErrors: [421, '4.7.0', '{} closes the connection: too many errors'],
  tooManyIdleCommands: [
    421,
    '4.7.0',
    '{} closes the connection: too many commands without mail; connect again',
  ],
  tooMuchAhead: [421, '4.7.0', '{} closes the connection: too much sent ahead'],
  tooManyTransactions: [421, '4.7.0', '{} closes the connection: too many transactions; connect again'],
  tooManyAuthFailures: [421, '4.7.0', '{} closes the connection: too many failed logins'],

  authUnavailable: [454, '4.7.0', 'Temporary authentication failure; try again later'],
  quotaUsedUp: [451, '4.7.1', 'Quota of your account is used up: {}; try again later'],
  persistTimeout: [451, '4.3.0', 'Could not store the message in time; try again later'],
  persistFailed: [451, '4.3.0', 'Could not store the message; try again later'],
  databasePressure: [451, '4.3.0', 'Queue database is busy; try again later'],
  spillFailed: [451, '4.3.0', 'Could not write the content; try again later'],
  spillFull: [452, '4.3.1', 'No room for the content; try again later'],
  inflightFull: [452, '4.3.1', 'Too many messages in flight; try again later'],
  memoryPressure: [452, '4.3.1', 'Out of memory; try again later'],
  contentMemoryFull: [452, '4.3.1', 'No memory for the content; try again later'],
  diskPressure: [452, '4.3.1', 'Out of disk space; try again later'],
  journalFull: [452, '4.3.1', 'Journal is full; try again later'],
  queueFull: [452, '4.3.1', 'Queue is full; try again later'],
  tooManyRecipients: [452, '4.5.3', 'Too many recipients; send the rest in another transaction'],
  envelopesFull: [452, '4.5.3', 'Too many recipients in open transactions; try again later'],
  tlsUnavailable: [454, '4.7.0', 'TLS is not available now; try again later'],

  unknownCommand: [500, '5.5.2', 'Command not recognized'],
  commandTooLong: [500, '5.5.2', 'Line too long'],
  commandBadBytes: [500, '5.5.2', 'Bare CR, bare LF or NUL in a command'],
  authLineTooLong: [500, '5.5.6', 'Authentication exchange line is too long'],
  authSyntax: [501, '5.5.4', 'Syntax: AUTH mechanism [initial-response]'],
  authMalformed: [501, '5.5.2', 'Authentication response cannot be decoded'],
  authNoInitial: [501, '5.7.0', 'This mechanism takes no initial response'],
  authCancelled: [501, '5.7.0', 'Authentication cancelled'],
  heloSyntax: [501, '5.5.4', 'Syntax: HELO or EHLO, then your host name or [address]'],
  mailSyntax: [501, '5.5.4', 'Syntax: MAIL FROM:<address> [parameters]'],
  rcptSyntax: [501, '5.5.4', 'Syntax: RCPT TO:<address> [parameters]'],
  bdatSyntax: [501, '5.5.4', 'Syntax: BDAT octets [LAST]; closing connection'],
  vrfySyntax: [501, '5.5.4', 'Syntax: VRFY address'],
  expnSyntax: [501, '5.5.4', 'Syntax: EXPN list'],
  noArgument: [501, '5.5.4', 'This command takes no argument'],
  senderSyntax: [501, '5.1.7', 'Bad sender address syntax'],
  recipientSyntax: [501, '5.1.3', 'Bad recipient address syntax'],
  notImplemented: [502, '5.5.1', 'Command not implemented'],
  helloFirst: [503, '5.5.1', 'Send HELO or EHLO first'],
  mailFirst: [503, '5.5.1', 'Send MAIL first'],
  offerRefused: [503, '5.5.1', 'The offer was refused; send MAIL again'],
  nestedMail: [503, '5.5.1', 'A transaction is open already'],
  chunksOpen: [503, '5.5.1', 'BDAT has begun; only BDAT or RSET can follow'],
  alreadySecure: [503, '5.5.1', 'TLS is active already'],
  binaryNeedsBdat: [503, '5.5.1', 'BODY=BINARYMIME needs BDAT'],
  startTlsFirst: [530, '5.7.0', 'Must issue a STARTTLS command first'],
  authTwice: [503, '5.5.1', 'Already authenticated'],
  authInTransaction: [503, '5.5.1', 'AUTH is not allowed in a transaction'],
  authMechanism: [504, '5.5.4', 'Authentication mechanism not offered'],
  authRequired: [530, '5.7.0', 'Authentication required'],
  authInvalid: [535, '5.7.8', 'Authentication credentials invalid'],
  authNeedsTls: [538, '5.7.11', 'Encryption required for authentication'],
  relayDenied: [550, '5.7.1', 'Relaying denied'],
  bareNewline: [550, '5.6.11', 'Bare CR or bare LF in the content'],
  nulContent: [550, '5.6.0', 'NUL in the content'],
  tooBig: [552, '5.3.4', 'Message is larger than the limit'],
  chunkTooBig: [552, '5.3.4', 'Chunk is larger than the limit; closing connection'],
  needsSmtpUtf8: [553, '5.6.7', 'Address outside ASCII needs the parameter SMTPUTF8'],
  senderNotOwned: [553, '5.7.1', 'Sender address does not belong to your account'],
  noRecipients: [554, '5.5.1', 'No valid recipients'],
  contentLineTooLong: [554, '5.6.0', 'Line too long in the content'],
  clientCertificateRefused: [
    554,
    '5.7.1',
    'Your client certificate is not accepted here; closing connection',
  ],
  mailLoop: [554, '5.4.6', 'Too many hops: mail loop'],
  badParameter: [555, '5.5.4', 'Parameter not recognized, given twice or not valid: {}'],
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
