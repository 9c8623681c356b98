/**
 * An event as the line that mail operators search for: time, queue id, and what a mail log says in the order it is used
 * to (`to=`, `from=`, `relay=`, `delay=`, `delays=`, `dsn=`, `status=`), with the words of docs/words.md as status.
 * What others chose has no spaces before `status=`, and so cannot look like a part of ours.
 */
import { printable } from '../base/printable.ts';

/**
 * An event as it was read; nothing is taken for granted. Files of an earlier version have `client`, `size` and `peer` for
 * `client_address`, `size_bytes` and the fields of the peer, and no `node`.
 */
export type ReadEvent = Readonly<Record<string, unknown>>;

export function eventText(event: ReadEvent): string {
  const { time, queue_id: id, type } = event;
  const parts = partsOf(event).join(', ');
  return printable(`${word(time)} ${word(id)}: ${parts}, status=${word(type)}${said(event)}`);
}

function partsOf(event: ReadEvent): string[] {
  const to = event.recipient === undefined ? [] : [`to=<${word(event.recipient)}>`];
  const from = event.sender === undefined ? [] : [`from=<${word(event.sender)}>`];
  const messageId = event.message_id === undefined ? [] : [`message-id=<${word(event.message_id)}>`];
  switch (event.type) {
    case 'accepted':
      return [
        ...from,
        `client=${place(event.client_address ?? event.client, event.client_port)}`,
        ...named(event, 'helo', 'listener', 'user', 'tenant', 'campaign', 'mail_class', 'pool'),
        `size=${word(event.size_bytes ?? event.size)}`,
        ...named(event, 'recipients'),
        ...messageId,
        ...named(event, 'original_queue_id'),
        `delay=${seconds(numberOf(event.reception_ms) + numberOf(event.persist_ms))}`,
      ];
    case 'delivered':
    case 'deferred':
    case 'bounced':
    case 'expired':
    case 'suppressed':
    case 'discarded':
      return [...to, ...from, ...sent(event), ...named(event, 'tenant', 'campaign', 'reason', 'retry_at')];
    case 'async_bounced':
    case 'complained':
      return [...to, ...messageId, ...named(event, 'tenant', 'campaign', 'matched_by', 'class', 'feedback')];
    case 'source_state':
      return named(event, 'source', 'state', 'check', 'ok');
    case 'limit_changed':
      return named(
        event,
        'by',
        'cause',
        'scope',
        'value',
        'site',
        'messages_per_s',
        'connections',
        'messages_per_connection',
        'messages_per_day',
        'closed_until',
        'rule',
        'action',
        'ends_at',
        'refusals',
      );
    case 'dropped':
      return named(event, 'lines');
    default:
      return [...to, ...from, ...messageId, ...named(event, 'destination', 'reason', 'by')];
  }
}

function sent(event: ReadEvent): string[] {
  const { peer_host: host, peer_address: address, peer_port: port, peer = 'none' } = event;
  const parts = [event.queue_ms, event.connect_ms, event.transfer_ms].map(numberOf);
  const name = host === address ? '' : word(host);
  return [
    `relay=${address === undefined ? word(plain(peer).replace(' [', '[')) : `${name}${place(address, port)}`}`,
    `delay=${seconds(parts.reduce((sum, part) => sum + part, 0))}`,
    `delays=${parts.map(seconds).join('/')}`,
    ...(event.status === undefined ? [] : [`dsn=${word(event.status)}`]),
  ];
}

const place = (address: unknown, port: unknown): string =>
  port === undefined ? word(address) : `[${word(address)}]:${word(port)}`;

const named = (event: ReadEvent, ...names: string[]): string[] =>
  names.flatMap((name) => (event[name] === undefined ? [] : [`${name}=${word(event[name])}`]));

/** What the peer replied, or what we say ourselves. */
function said({ type, reply, detail }: ReadEvent): string {
  const text = type === 'expired' ? (detail ?? reply) : (reply ?? detail);
  return text === undefined ? '' : ` (${plain(text).replaceAll('\n', ' ')})`;
}

/** A value as text; in a damaged file it may be anything. */
const plain = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value));

/** The same without spaces. */
const word = (value: unknown): string => (value === undefined ? '-' : plain(value).replace(/\s/g, '?'));

const numberOf = (value: unknown): number => (typeof value === 'number' ? value : 0);

/** Milliseconds as seconds with two places, without zeros at the end. */
const seconds = (ms: number): string => String(Number((ms / 1000).toFixed(2)));
