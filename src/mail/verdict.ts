/** What a refusal of a peer can mean, on three axes; docs/replies.md says what each word stands for. */

export const CLASSES = [
  'invalid_recipient',
  'inactive_mailbox',
  'mailbox_full',
  'recipient_rate',
  'rate_limit',
  'connection_limit',
  'per_connection_limit',
  'split_transaction',
  'greylist',
  'reputation_block',
  'dnsbl_block',
  'auth_unauthenticated',
  'auth_spf',
  'auth_dkim',
  'auth_dmarc',
  'ptr',
  'tls_required',
  'content_spam',
  'content_url',
  'content_attachment',
  'message_size',
  'message_format',
  'sender_invalid',
  'policy',
  'policy_recipient',
  'relay_denied',
  'bad_domain',
  'routing',
  'system_temporary',
  'protocol',
] as const;

/** What the verdict is about. Only `recipient` may ever suppress an address. */
export const SCOPES = [
  'recipient',
  'source',
  'netblock',
  'dkim_domain',
  'return_path_domain',
  'sender_domain',
  'url_domain',
  'message',
  'connection',
  'destination',
  'recipient_domain',
  'tenant',
  'campaign',
] as const;

export const MOVES = [
  'bounce',
  'retry_later',
  'slow_down',
  'reconnect_now',
  'split_now',
  'next_host',
] as const;

export type ReplyClass = (typeof CLASSES)[number] | 'unknown';
export type ReplyScope = (typeof SCOPES)[number];
export type ReplyMove = (typeof MOVES)[number];

/** What a refusal means. */
export interface Verdict {
  readonly class: ReplyClass;
  readonly scope: ReplyScope;
  readonly move: ReplyMove;
  /** The id of the rule; null where none matched. */
  readonly rule: string | null;
}
