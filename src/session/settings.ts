/** What sessions need of the configuration, worked out once per (re)load: constant replies encoded, rules built. */
import type { Config } from '../config/schema.ts';
import { type ContentRules, TLS_VERIFY } from '../native.ts';
import { ehloReply, REPLY, type Reply } from '../protocol/reply.ts';

/** What a listener asks of its connections. */
export interface ListenerSettings {
  readonly tls: 'off' | 'optional' | 'required' | 'implicit';
  /** Of TLS_VERIFY. */
  readonly verify: number;
}

const PLAIN: ListenerSettings = { tls: 'off', verify: TLS_VERIFY.none };
const VERIFY = { off: TLS_VERIFY.none, optional: TLS_VERIFY.ask, required: TLS_VERIFY.need } as const;

export interface SessionSettings {
  readonly hostname: string;
  readonly banner: Reply;
  readonly hello: Reply;
  readonly ehlo: Reply;
  readonly ehloWithStartTls: Reply;
  /** By the number that `opened` carries. */
  readonly listeners: readonly ListenerSettings[];
  readonly handshakeTimeoutMs: number;
  readonly maxHandshakes: number;
  /** Of client certificates that are taken whoever vouches for them. */
  readonly clientFingerprints: ReadonlySet<string>;
  readonly maxMessageSize: number;
  readonly maxRecipients: number;
  readonly maxTransactions: number;
  readonly maxErrors: number;
  readonly maxIdleCommands: number;
  readonly maxHops: number;
  readonly commandTimeoutMs: number;
  readonly dataTimeoutMs: number;
  readonly minRateBytesPerSecond: number;
  readonly minRateGraceMs: number;
  readonly refuseBareNewlines: boolean;
  readonly refuseNul: boolean;
  readonly vrfy: boolean;
  readonly afterPersist: boolean;
  readonly persistWaitMs: number;
  readonly textRules: ContentRules;
  /** BODY=BINARYMIME: octets are octets. */
  readonly binaryRules: ContentRules;
}

export function settingsOf(config: Config): SessionSettings {
  const { smtp, hostname, tls } = config;
  const maxBytes = config.max_message_size;
  const keywords = [
    'PIPELINING',
    `SIZE ${maxBytes}`,
    '8BITMIME',
    'SMTPUTF8',
    'ENHANCEDSTATUSCODES',
    'CHUNKING',
    'BINARYMIME',
    'DSN',
    'HELP',
  ];
  return {
    hostname,
    banner: REPLY.banner.constant(hostname),
    hello: REPLY.hello.constant(hostname),
    ehlo: ehloReply(hostname, keywords),
    ehloWithStartTls: ehloReply(hostname, ['STARTTLS', ...keywords]),
    listeners: config.listeners.map((listener) => ({
      tls: listener.tls,
      verify: VERIFY[listener.client_certificate],
    })),
    handshakeTimeoutMs: tls.handshake_timeout_ms,
    maxHandshakes: tls.max_handshakes,
    clientFingerprints: new Set(tls.client_fingerprints),
    maxMessageSize: maxBytes,
    maxRecipients: smtp.max_recipients,
    maxTransactions: smtp.max_transactions,
    maxErrors: smtp.max_errors,
    maxIdleCommands: smtp.max_idle_commands,
    maxHops: smtp.max_hops,
    commandTimeoutMs: smtp.command_timeout_ms,
    dataTimeoutMs: smtp.data_timeout_ms,
    minRateBytesPerSecond: smtp.min_data_rate_bytes_per_s,
    minRateGraceMs: smtp.min_data_rate_grace_ms,
    refuseBareNewlines: smtp.bare_newlines === 'refuse',
    refuseNul: smtp.nul_bytes === 'refuse',
    vrfy: smtp.vrfy,
    afterPersist: config.inbound_ack_mode === 'after_persist',
    persistWaitMs: config.inbound_persist_wait_timeout_ms,
    textRules: {
      maxBytes,
      maxLineBytes: smtp.max_text_line_bytes,
      normalizeNewlines: smtp.bare_newlines === 'normalize',
    },
    binaryRules: { maxBytes, maxLineBytes: smtp.max_text_line_bytes, normalizeNewlines: false },
  };
}

/** Of the listener a connection came in by. */
export function listenerOf(settings: SessionSettings, number: number): ListenerSettings {
  return settings.listeners[number] ?? PLAIN;
}
