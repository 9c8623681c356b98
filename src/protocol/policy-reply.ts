/**
 * What the connection policy answers: for each rule one row to defer with and one to reject with, in the form of
 * reply-form.ts. Rows with {} take run-time text.
 */
import { type Reply, type ReplyTemplate, replyOf } from './reply-form.ts';

const TABLE = {
  banDefer: [421, '4.7.0', '{} takes no mail from your address for a while'],
  banReject: [554, '5.7.1', '{} takes no mail from your address'],
  totalDefer: [421, '4.3.2', '{} has as many connections as it takes; try again later'],
  totalReject: [554, '5.3.2', '{} has as many connections as it takes'],
  perIpDefer: [421, '4.7.0', '{} has too many connections from your address; try again later'],
  perIpReject: [554, '5.7.0', '{} has too many connections from your address'],
  perNetworkDefer: [421, '4.7.0', '{} has too many connections from your network; try again later'],
  perNetworkReject: [554, '5.7.0', '{} has too many connections from your network'],
  connectionRateDefer: [421, '4.7.0', '{} sees too many connections from you in this time; try again later'],
  connectionRateReject: [554, '5.7.0', '{} sees too many connections from you in this time'],
  messageRateDefer: [450, '4.7.0', 'Too many messages in this time; try again in {} s'],
  messageRateReject: [550, '5.7.0', 'Too many messages in this time: room again in {} s'],
  recipientRateDefer: [450, '4.7.0', 'Too many recipients in this time; try again in {} s'],
  recipientRateReject: [550, '5.7.0', 'Too many recipients in this time: room again in {} s'],
  commandRateDefer: [421, '4.7.0', '{} closes the connection: too many commands in this time'],
  commandRateReject: [554, '5.7.0', '{} closes the connection: too many commands in this time'],
  reverseDnsDefer: [450, '4.7.25', 'Your address has no confirmed name in DNS: {}'],
  reverseDnsReject: [550, '5.7.25', 'Your address has no confirmed name in DNS: {}'],
  reverseDnsUnknown: [451, '4.4.3', 'The name of your address cannot be looked up now; try again later'],
  heloDefer: [450, '4.7.1', 'The name you gave in HELO or EHLO is not yours: {}'],
  heloReject: [550, '5.7.1', 'The name you gave in HELO or EHLO is not yours: {}'],
  heloUnknown: [451, '4.4.3', 'The name you gave in HELO or EHLO cannot be looked up now; try again later'],
  dnsblDefer: [450, '4.7.1', 'You or your sender are listed: {}'],
  dnsblReject: [550, '5.7.1', 'You or your sender are listed: {}'],
  dnsblUnknown: [451, '4.4.3', 'Lists of senders do not answer now; try again later'],
  senderDomainDefer: [450, '4.1.8', 'The domain of the sender takes no mail: {}'],
  senderDomainReject: [550, '5.1.8', 'The domain of the sender takes no mail: {}'],
  senderDomainUnknown: [451, '4.4.3', 'The domain of the sender cannot be looked up now; try again later'],
  senderAddressDefer: [450, '4.1.7', 'Sender address not accepted: {}'],
  senderAddressReject: [550, '5.1.7', 'Sender address not accepted: {}'],
  recipientAddressDefer: [450, '4.1.3', 'Recipient address not accepted: {}'],
  recipientAddressReject: [550, '5.1.3', 'Recipient address not accepted: {}'],
  addressUnknown: [451, '4.4.3', 'The domain of the address cannot be looked up now; try again later'],
  greylistDefer: [451, '4.7.1', 'Greylisted: try again in {} s'],
  greylistReject: [550, '5.7.1', 'Greylisted: known in {} s'],
  earlyTalkerDefer: [421, '4.5.1', '{} was not greeting you yet: wait for the banner'],
  earlyTalkerReject: [554, '5.5.1', '{} was not greeting you yet: wait for the banner'],
  tarpitDefer: [421, '4.7.0', '{} closes the connection: errors again and again'],
  tarpitReject: [554, '5.7.0', '{} closes the connection: errors again and again'],
  xclientDenied: [550, '5.7.1', 'XCLIENT is not for you'],
  xforwardDenied: [550, '5.7.1', 'XFORWARD is not for you'],
  xclientSyntax: [501, '5.5.4', 'Syntax: XCLIENT attribute=value ...: {}'],
  xforwardSyntax: [501, '5.5.4', 'Syntax: XFORWARD attribute=value ...: {}'],
  xclientLate: [503, '5.5.1', 'XCLIENT cannot be used in a transaction'],
  xforwardLate: [503, '5.5.1', 'XFORWARD cannot be used in a transaction'],
} as const;

export type PolicyReason = keyof typeof TABLE;

type Replies = {
  readonly [R in PolicyReason]: (typeof TABLE)[R][2] extends `${string}{}${string}` ? ReplyTemplate : Reply;
};

/** The replies, by reason. */
export const POLICY_REPLY = Object.fromEntries(
  Object.entries(TABLE).map(([reason, row]) => [reason, replyOf(reason as PolicyReason, row)]),
) as unknown as Replies;

/** All reasons, for the test that each of them occurs. */
export const POLICY_REASONS = Object.keys(TABLE) as PolicyReason[];
