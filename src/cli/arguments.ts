/** Parsers for commander: what an argument means as the operator wrote it, or why it means nothing. */
import { InvalidArgumentError } from 'commander';
import { globOf } from '../base/glob.ts';
import { parseNetwork } from '../base/ip.ts';
import { STATES } from '../control/words.ts';
import { destinationKey } from '../mail/destination.ts';
import { isFailText, MAX_FAIL_TEXT, viaKey } from '../mail/operator-keys.ts';
import type { OutboxState } from '../mail/outbox-state.ts';
import type { DeliveryEvent } from '../report/event-types.ts';

export function wholeNumber(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new InvalidArgumentError('It must be a whole number from 1.');
  return Number(text);
}

/** '90s', '10m', '12h', '7d' in milliseconds. */
export function duration(text: string): number {
  const [, count = '', unit = ''] = /^([1-9]\d{0,5})([smhd])$/.exec(text) ?? [];
  if (count === '') throw new InvalidArgumentError('It is a number and s, m, h or d, as 12h.');
  return Number(count) * { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }[unit as 's'];
}

/** The key of a destination as an operator writes it. It must not be empty, as an unset variable of a script would be. */
export function destinationOf(text: string): string {
  if (text === '') throw new InvalidArgumentError('It must not be empty.');
  return destinationKey(text);
}

/** What an operator says of mail that fails. */
export function failText(text: string): string {
  if (!isFailText(text))
    throw new InvalidArgumentError(`It is one line of at most ${MAX_FAIL_TEXT} printable characters.`);
  return text;
}

/** The key for a next hop. */
export function hopOf(text: string): string {
  const key = viaKey(text);
  if (key === null)
    throw new InvalidArgumentError(
      'It is a host or an address, with or without port: mx.example.net:587, [2001:db8::1]:25.',
    );
  return key;
}

/** An address, also in angle brackets, as `queue list` shows it. */
export const addressOf = (text: string): string => /^<(.*)>$/.exec(text)?.[1] ?? text;

/** Gathers networks, so that all are checked before anything is done about the first. */
export function networksOf(text: string, before: string[] = []): string[] {
  if (parseNetwork(text) === null)
    throw new InvalidArgumentError('It is no address or network; write 192.0.2.1 or 2001:db8::/64.');
  return [...before, text];
}

/** States that an earlier release called otherwise. */
const STATE_NOW: Readonly<Record<string, keyof typeof STATES>> = {
  retry: 'deferred',
  dead: 'failed',
  sent: 'delivered',
};

export function stateOf(text: string): OutboxState {
  const word = text.toLowerCase();
  if (Object.hasOwn(STATES, word)) return STATES[word as keyof typeof STATES];
  const now = STATE_NOW[word];
  const hint = now === undefined ? '' : ` ${text} is called ${now} now.`;
  throw new InvalidArgumentError(`It is one of ${Object.keys(STATES).join(', ')}.${hint}`);
}

export const EVENT_TYPES: readonly DeliveryEvent['type'][] = [
  'accepted',
  'delivered',
  'deferred',
  'bounced',
  'expired',
  'suppressed',
  'discarded',
  'removed',
  'held',
  'limit_changed',
  'source_state',
  'async_bounced',
  'complained',
  'dropped',
];

/** A pattern that means one of them at least. */
export function eventTypeOf(text: string): string {
  if (!EVENT_TYPES.some(globOf(text)))
    throw new InvalidArgumentError(`It is one of ${EVENT_TYPES.join(', ')}.`);
  return text;
}

export function countFrom0(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('It must be a whole number.');
  return Number(text);
}

/** '1500', '10K', '10M' or '1G', in bytes. */
export function bytesOf(text: string): number {
  const [, count = '', unit = ''] = /^(\d{1,12})([KMG]?)$/i.exec(text) ?? [];
  if (count === '') throw new InvalidArgumentError('It is a number of bytes, or with K, M or G, as 10M.');
  const bytes = Number(count) * 1024 ** ['', 'K', 'M', 'G'].indexOf(unit.toUpperCase());
  return Math.min(bytes, Number.MAX_SAFE_INTEGER);
}

/** 'X-Campaign: spring*'; without a value, any. */
export function headerOf(text: string): { name: string; value: string } {
  const [, name = '', value = ''] = /^([!-9;-~]+) *(?:: *(.*))?$/.exec(text) ?? [];
  if (name === '') throw new InvalidArgumentError("It is a field and a value, as 'X-Campaign: spring*'.");
  return { name: name.toLowerCase(), value: value === '' ? '*' : value };
}

/** Reasons have underscores; hyphens are taken for them. */
export const reasonOf = (text: string): string => text.replaceAll('-', '_');
