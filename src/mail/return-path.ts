/**
 * Return-path tokens: mail goes out with `b+TOKEN@DOMAIN` as reverse-path, and what comes back there says by itself which
 * recipient of which message it is about, and that we sent that message: nothing is stored, and any node can tell. A token is
 * base32 (RFC 4648) of
 *
 *     version and flags (1) · queue id (10) · index of the recipient (1–5) · check of its address (4) · tenant (0–14) · HMAC (8)
 *
 * with all before the HMAC covered by it. The address is not in it: who holds a token can prove which address it was made for
 * (`isFor`), and learns none. Pure.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import { domainForm } from '../base/domain.ts';
import { suppressionTarget } from './suppression.ts';

/** What makes and reads tokens; it crosses between threads. */
export interface ReturnPathKeys {
  domain: string;
  /** The first makes tokens, all of them are taken. */
  secrets: readonly string[];
  /** Local parts of the domain that take reports of complaints without a token. */
  complaintsAt: readonly string[];
}

export interface ReturnToken {
  queueId: string;
  /** `seq` of the recipient. */
  index: number;
  /** '': it has none; null: its name is too long for a token. */
  tenant: string | null;
  /** Whether the token was made for mail to this address. */
  isFor(address: string): boolean;
}

/** RFC 5321 §4.5.3.1.1. */
const MAX_LOCAL_LENGTH = 64;
const PREFIX = 'b+';
const MAX_BYTES = Math.floor(((MAX_LOCAL_LENGTH - PREFIX.length) * 5) / 8);
const VERSION = 0x10;
const FLAG = { noShard: 1, tenantLeftOut: 2 } as const;
const ID_BYTES = 10;
const MAC_BYTES = 8;
const CHECK_BYTES = 4;
const MIN_BYTES = 1 + ID_BYTES + 1 + CHECK_BYTES + MAC_BYTES;

const BASE32 = 'abcdefghijklmnopqrstuvwxyz234567';
/** Digits of queue ids (mail/queue-id.ts). */
const ID_DIGITS = '0123456789abcdefghjkmnpqrstvwxyz';
const LOCAL = /^b\+([a-z2-7]{39,62})$/i;

export class ReturnPaths {
  readonly domain: string;
  readonly #keys: ReturnPathKeys;
  readonly #complaintsAt: ReadonlySet<string>;

  /** @param keys with one secret at least. */
  constructor(keys: ReturnPathKeys) {
    this.domain = keys.domain;
    this.#keys = keys;
    this.#complaintsAt = new Set(keys.complaintsAt.map((name) => name.toLowerCase()));
  }

  /** The reverse-path of mail to one recipient. */
  addressFor(queueId: string, index: number, recipient: string, tenant: string): string {
    const secret = this.#keys.secrets[0] as string;
    const number = varint(index);
    const name = Buffer.from(tenant);
    const isLong = name.length > MAX_BYTES - MIN_BYTES + 1 - number.length;
    const flags = (queueId.length < 16 ? FLAG.noShard : 0) | (isLong ? FLAG.tenantLeftOut : 0);
    const head = Buffer.concat([
      Buffer.of(VERSION | flags),
      bytesOf(queueId.padEnd(16, '0'), ID_DIGITS),
      number,
      checkOf(secret, recipient),
      isLong ? Buffer.alloc(0) : name,
    ]);
    return `${PREFIX}${textOf(Buffer.concat([head, macOf(secret, head)]), BASE32)}@${this.domain}`;
  }

  /** What a local part at our domain says; null: it is no token of ours. */
  read(local: string): ReturnToken | null {
    const text = LOCAL.exec(local)?.[1]?.toLowerCase();
    if (text === undefined) return null;
    const bytes = bytesOf(text, BASE32);
    // Each token has one spelling.
    if (bytes.length < MIN_BYTES || textOf(bytes, BASE32) !== text) return null;
    const head = bytes.subarray(0, -MAC_BYTES);
    const mac = bytes.subarray(-MAC_BYTES);
    const secret = this.#keys.secrets.find((one) => timingSafeEqual(macOf(one, head), mac));
    if (secret === undefined || ((head[0] as number) & 0xf0) !== VERSION) return null;
    return tokenOf(head, secret);
  }

  /** The same of a whole address; null as well where it is at another domain. */
  readAddress(address: string): ReturnToken | null {
    const at = address.lastIndexOf('@');
    return domainForm(address.slice(at + 1)) === this.domain ? this.read(address.slice(0, at)) : null;
  }

  /** Whether reports of complaints come to this local part. */
  takesComplaints(local: string): boolean {
    return this.#complaintsAt.has(local.toLowerCase());
  }
}

/** @param head as we made it: the HMAC says so. */
function tokenOf(head: Buffer, secret: string): ReturnToken {
  const flags = head[0] as number;
  const id = textOf(head.subarray(1, 1 + ID_BYTES), ID_DIGITS);
  let at = 1 + ID_BYTES;
  let index = 0;
  for (let unit = 1; ; unit *= 128) {
    const octet = head[at++] as number;
    index += (octet & 0x7f) * unit;
    if (octet < 0x80) break;
  }
  const check = head.subarray(at, at + CHECK_BYTES);
  const tenant = head.toString('utf8', at + CHECK_BYTES);
  return {
    queueId: (flags & FLAG.noShard) === 0 ? id : id.slice(0, 15),
    index,
    tenant: (flags & FLAG.tenantLeftOut) === 0 ? tenant : null,
    isFor: (address) => timingSafeEqual(checkOf(secret, address), check),
  };
}

const macOf = (secret: string, head: Buffer): Buffer =>
  createHmac('sha256', secret).update('token\0').update(head).digest().subarray(0, MAC_BYTES);

/** Addresses compare as on the suppression list, because hosts write them in many ways. */
const checkOf = (secret: string, address: string): Buffer =>
  createHmac('sha256', secret)
    .update(`recipient\0${suppressionTarget(address) ?? address}`)
    .digest()
    .subarray(0, CHECK_BYTES);

function varint(value: number): Buffer {
  const octets: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) octets.push((rest % 128) | 0x80);
  octets.push(rest);
  return Buffer.from(octets);
}

/** Five bits a character; bits left over at the end are 0. */
function textOf(bytes: Buffer, digits: string): string {
  let text = '';
  let bits = 0;
  let held = 0;
  for (const octet of bytes) {
    held = (held << 8) | octet;
    for (bits += 8; bits >= 5; bits -= 5) text += digits[(held >> (bits - 5)) & 31];
    held &= 31;
  }
  return bits > 0 ? text + digits[(held << (5 - bits)) & 31] : text;
}

function bytesOf(text: string, digits: string): Buffer {
  const bytes: number[] = [];
  let bits = 0;
  let held = 0;
  for (const character of text) {
    held = ((held << 5) | digits.indexOf(character)) & 0xfff;
    bits += 5;
    if (bits < 8) continue;
    bits -= 8;
    bytes.push((held >> bits) & 255);
  }
  return Buffer.from(bytes);
}
