/**
 * What the connection policy answers: for each rule one row to defer with and one to reject with, in the form of
 * reply-form.ts. Rows with {} take run-time text.
 */
import { type Reply, type ReplyTemplate, replyOf } from './reply-form.ts';

const TABLE = {
  ban_defer: [421, '4.7.0', '{} takes no mail from your address for a while'],
  ban_reject: [554, '5.7.1', '{} takes no mail from your address'],
  total_defer: [421, '4.3.2', '{} has as many connections as it takes; try again later'],
  total_reject: [554, '5.3.2', '{} has as many connections as it takes'],
  per_ip_defer: [421, '4.7.0', '{} has too many connections from your address; try again later'],
  per_ip_reject: [554, '5.7.0', '{} has too many connections from your address'],
  per_network_defer: [421, '4.7.0', '{} has too many connections from your network; try again later'],
  per_network_reject: [554, '5.7.0', '{} has too many connections from your network'],
  connection_rate_defer: [
    421,
    '4.7.0',
    '{} sees too many connections from you in this time; try again later',
  ],
  connection_rate_reject: [554, '5.7.0', '{} sees too many connections from you in this time'],
  message_rate_defer: [450, '4.7.0', 'Too many messages in this time; try again in {} s'],
  message_rate_reject: [550, '5.7.0', 'Too many messages in this time: room again in {} s'],
  recipient_rate_defer: [450, '4.7.0', 'Too many recipients in this time; try again in {} s'],
  recipient_rate_reject: [550, '5.7.0', 'Too many recipients in this time: room again in {} s'],
  command_rate_defer: [421, '4.7.0', '{} closes the connection: too many commands in this time'],
  command_rate_reject: [554, '5.7.0', '{} closes the connection: too many commands in this time'],
  reverse_dns_defer: [450, '4.7.25', 'Your address has no confirmed name in DNS: {}'],
  reverse_dns_reject: [550, '5.7.25', 'Your address has no confirmed name in DNS: {}'],
  reverse_dns_unknown: [451, '4.4.3', 'The name of your address cannot be looked up now; try again later'],
  helo_defer: [450, '4.7.1', 'The name you gave in HELO or EHLO is not yours: {}'],
  helo_reject: [550, '5.7.1', 'The name you gave in HELO or EHLO is not yours: {}'],
  helo_unknown: [451, '4.4.3', 'The name you gave in HELO or EHLO cannot be looked up now; try again later'],
  dnsbl_defer: [450, '4.7.1', 'You or your sender are listed: {}'],
  dnsbl_reject: [550, '5.7.1', 'You or your sender are listed: {}'],
  dnsbl_unknown: [451, '4.4.3', 'Lists of senders do not answer now; try again later'],
  sender_domain_defer: [450, '4.1.8', 'The domain of the sender takes no mail: {}'],
  sender_domain_reject: [550, '5.1.8', 'The domain of the sender takes no mail: {}'],
  sender_domain_unknown: [451, '4.4.3', 'The domain of the sender cannot be looked up now; try again later'],
  sender_address_defer: [450, '4.1.7', 'Sender address not accepted: {}'],
  sender_address_reject: [550, '5.1.7', 'Sender address not accepted: {}'],
  recipient_address_defer: [450, '4.1.3', 'Recipient address not accepted: {}'],
  recipient_address_reject: [550, '5.1.3', 'Recipient address not accepted: {}'],
  address_unknown: [451, '4.4.3', 'The domain of the address cannot be looked up now; try again later'],
  greylist_defer: [451, '4.7.1', 'Greylisted: try again in {} s'],
  greylist_reject: [550, '5.7.1', 'Greylisted: known in {} s'],
  early_talker_defer: [421, '4.5.1', '{} was not greeting you yet: wait for the banner'],
  early_talker_reject: [554, '5.5.1', '{} was not greeting you yet: wait for the banner'],
  tarpit_defer: [421, '4.7.0', '{} closes the connection: errors again and again'],
  tarpit_reject: [554, '5.7.0', '{} closes the connection: errors again and again'],
  xclient_denied: [550, '5.7.1', 'XCLIENT is not for you'],
  xforward_denied: [550, '5.7.1', 'XFORWARD is not for you'],
  xclient_syntax: [501, '5.5.4', 'Syntax: XCLIENT attribute=value ...: {}'],
  xforward_syntax: [501, '5.5.4', 'Syntax: XFORWARD attribute=value ...: {}'],
  xclient_late: [503, '5.5.1', 'XCLIENT cannot be used in a transaction'],
  xforward_late: [503, '5.5.1', 'XFORWARD cannot be used in a transaction'],
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
