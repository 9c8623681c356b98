/** What sessions need of the configuration, worked out once per (re)load: constant replies encoded, rules built. */
import type { Config } from '../config/schema.ts';
import type { ContentRules } from '../native.ts';
import { ehloReply, REPLY, type Reply } from '../protocol/reply.ts';

export interface SessionSettings {
  readonly hostname: string;
  readonly banner: Reply;
  readonly hello: Reply;
  readonly ehlo: Reply;
  readonly maxMessageSize: number;
  readonly maxRecipients: number;
  readonly maxTransactions: number;
  readonly maxErrors: number;
  readonly maxHops: number;
  readonly commandTimeoutMs: number;
  readonly dataTimeoutMs: number;
  readonly minRateBytesPerSecond: number;
  readonly minRateGraceMs: number;
  readonly refuseBareNewlines: boolean;
  readonly refuseNul: boolean;
  readonly vrfy: boolean;
  /** The 250 waits until the message is durable. */
  readonly durableFirst: boolean;
  readonly persistWaitMs: number;
  readonly textRules: ContentRules;
  /** BODY=BINARYMIME: octets are octets. */
  readonly binaryRules: ContentRules;
}

export function settingsOf(config: Config): SessionSettings {
  const { smtp, hostname } = config;
  const maxBytes = config.max_message_size;
  return {
    hostname,
    banner: REPLY.banner.constant(hostname),
    hello: REPLY.hello.constant(hostname),
    ehlo: ehloReply(hostname, [
      'PIPELINING',
      `SIZE ${maxBytes}`,
      '8BITMIME',
      'SMTPUTF8',
      'ENHANCEDSTATUSCODES',
      'CHUNKING',
      'BINARYMIME',
      'DSN',
      'HELP',
    ]),
    maxMessageSize: maxBytes,
    maxRecipients: smtp.max_recipients,
    maxTransactions: smtp.max_transactions,
    maxErrors: smtp.max_errors,
    maxHops: smtp.max_hops,
    commandTimeoutMs: smtp.command_timeout_ms,
    dataTimeoutMs: smtp.data_timeout_ms,
    minRateBytesPerSecond: smtp.min_data_rate_bytes_per_s,
    minRateGraceMs: smtp.min_data_rate_grace_ms,
    refuseBareNewlines: smtp.bare_newlines === 'refuse',
    refuseNul: smtp.nul_bytes === 'refuse',
    vrfy: smtp.vrfy,
    durableFirst: config.inbound_ack_mode !== 'after_enqueue',
    persistWaitMs: config.inbound_persist_wait_timeout_ms,
    textRules: {
      maxBytes,
      maxLineBytes: smtp.max_text_line_bytes,
      normalizeNewlines: smtp.bare_newlines === 'normalize',
    },
    binaryRules: { maxBytes, maxLineBytes: smtp.max_text_line_bytes, normalizeNewlines: false },
  };
}
