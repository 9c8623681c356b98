/** What sessions need of the configuration, worked out once per (re)load: constant replies encoded, rules built. */
import { listenerName } from '../config/listener-name.ts';
import type { Config } from '../config/schema.ts';
import { type ContentRules, TLS_VERIFY } from '../native.ts';
import { ehloReply, REPLY, type Reply } from '../protocol/reply.ts';
import { MAX_EXCHANGE_LINE_BYTES } from '../protocol/sasl/base64.ts';
import { AttributeRules } from './attribute-rules.ts';
import { type Mechanism, type MechanismName, namesOf } from './sasl.ts';
import { AddedFields } from './submission.ts';

/** What EHLO offers of AUTH: nothing, the mechanisms, or those with channel binding (-PLUS) too. */
export type AuthOffer = 'none' | 'auth' | 'plus';

/** What a session needs to know of the listener it came through. */
export interface ListenerFacts {
  readonly name: string;
  readonly auth: Config['listeners'][number]['auth'];
  /** Date and Message-ID are added where they are missing (RFC 6409 §8). */
  readonly submission: boolean;
  readonly tls: Config['listeners'][number]['tls'];
  /** Whether a client certificate is asked for, or needed: one of TLS_VERIFY. */
  readonly verify: number;
}

const VERIFY = { off: TLS_VERIFY.none, optional: TLS_VERIFY.ask, required: TLS_VERIFY.need } as const;

export interface SessionSettings {
  readonly hostname: string;
  readonly banner: Reply;
  readonly hello: Reply;
  /** By what is offered of AUTH on the connection. */
  readonly ehlo: Readonly<Record<AuthOffer, Reply>>;
  readonly ehloWithStartTls: Readonly<Record<AuthOffer, Reply>>;
  /** By number of the listener. */
  readonly listeners: readonly ListenerFacts[];
  readonly handshakeTimeoutMs: number;
  readonly handshakeSilenceMs: number;
  readonly maxHandshakes: number;
  /** SHA-256 of client certificates that are accepted whoever signed them. */
  readonly clientFingerprints: ReadonlySet<string>;
  /** Names AUTH takes, by what is offered on the connection; EHLO lists the same, in this order. */
  readonly mechanisms: Readonly<Record<AuthOffer, readonly MechanismName[]>>;
  readonly authWithoutTls: boolean;
  readonly maxAuthAttempts: number;
  readonly authFailureDelayMs: number;
  /** Longest command line without CRLF; the reactor lets longer ones of AUTH pass. */
  readonly maxLineBytes: number;
  readonly maxMessageSize: number;
  /** Longer content lies in a file. */
  readonly spillThresholdBytes: number;
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
  /** Addresses and names of HELO must follow RFC 5321 to the letter. */
  readonly strictAddresses: boolean;
  /** Strangers may name a route within the local part. */
  readonly untrustedRouting: boolean;
  readonly indexAttachments: boolean;
  /** Names of header fields to keep, in lower case. */
  readonly keptHeaders: ReadonlySet<string>;
  readonly attributes: AttributeRules;
  readonly added: AddedFields;
  /** The 250 waits until the message is durable. */
  readonly durableFirst: boolean;
  readonly persistWaitMs: number;
  readonly textRules: ContentRules;
  /** BODY=BINARYMIME: octets are octets. */
  readonly binaryRules: ContentRules;
}

export function settingsOf(config: Config): SessionSettings {
  const { smtp, hostname, tls } = config;
  const maxBytes = config.max_message_size;
  const mechanisms = mechanismsOf(config);
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
    ehlo: ehloReplies(hostname, keywords, mechanisms),
    ehloWithStartTls: ehloReplies(hostname, ['STARTTLS', ...keywords], mechanisms),
    listeners: config.listeners.map((listener) => factsOf(listener)),
    handshakeTimeoutMs: tls.handshake_timeout_ms,
    handshakeSilenceMs: Math.min(tls.handshake_silence_ms, tls.handshake_timeout_ms),
    maxHandshakes: tls.max_handshakes,
    clientFingerprints: new Set(tls.client_fingerprints),
    mechanisms,
    authWithoutTls: config.auth.allow_without_tls,
    maxAuthAttempts: config.auth.max_auth_attempts,
    authFailureDelayMs: config.auth.failure_delay_ms,
    maxLineBytes: smtp.max_command_line_bytes - 2,
    maxMessageSize: maxBytes,
    spillThresholdBytes: config.spill_threshold_bytes,
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
    indexAttachments: config.index_attachments,
    keptHeaders: new Set(config.queue.kept_headers),
    attributes: new AttributeRules(config),
    added: new AddedFields(config.added_headers),
    vrfy: smtp.vrfy,
    strictAddresses: smtp.strict_addresses,
    untrustedRouting: smtp.untrusted_routing === 'accept',
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

function factsOf(listener: Config['listeners'][number]): ListenerFacts {
  const { auth, submission, tls, client_certificate } = listener;
  return {
    name: listenerName(listener),
    auth,
    submission: submission ?? auth === 'required',
    tls,
    verify: VERIFY[client_certificate],
  };
}

function ehloReplies(
  hostname: string,
  keywords: readonly string[],
  mechanisms: SessionSettings['mechanisms'],
): Record<AuthOffer, Reply> {
  const withAuth = (names: readonly string[]) =>
    ehloReply(hostname, [...keywords, `AUTH ${names.join(' ')}`]);
  return {
    none: ehloReply(hostname, keywords),
    auth: withAuth(mechanisms.auth),
    plus: withAuth(mechanisms.plus),
  };
}

function mechanismsOf(config: Config): SessionSettings['mechanisms'] {
  const servables = servable(config);
  return { none: [], auth: namesOf(servables, false), plus: namesOf(servables, true) };
}

/** Whether any listener offers AUTH. */
export function hasAuth(config: Config): boolean {
  return config.listeners.some(({ auth }) => auth !== 'off');
}

/** Longest line the reactor is to pass, with CRLF: exchanges of AUTH have longer ones than commands. */
export function lineLimitBytes(config: Config): number {
  const { max_command_line_bytes: commands } = config.smtp;
  return hasAuth(config) ? Math.max(commands, MAX_EXCHANGE_LINE_BYTES) : commands;
}

/** PAM and HTTP backends can only try passwords: mechanisms besides PLAIN and LOGIN need a backend that knows secrets. */
function servable({ auth }: Config): Mechanism[] {
  const knowsSecrets = auth.backends.some(({ type }) => type !== 'pam' && type !== 'http');
  return auth.mechanisms.filter((one) => knowsSecrets || one === 'PLAIN' || one === 'LOGIN');
}
