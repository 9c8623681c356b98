/**
 * DNS messages (RFC 1035, EDNS0 of RFC 6891): writes questions and reads replies. Pure. Anybody may have sent a
 * reply, so every length is checked, and every pointer must go backwards.
 */

export const DNS_TYPE = { A: 1, CNAME: 5, PTR: 12, MX: 15, TXT: 16, AAAA: 28, TLSA: 52 } as const;
export type DnsType = keyof typeof DNS_TYPE;

export interface TlsaRecord {
  usage: number;
  selector: number;
  matching: number;
  /** Certificate association data, hex in lower case. */
  hex: string;
}

export type DnsRecord = { name: string; ttl: number } & (
  | { type: 'A' | 'AAAA' | 'CNAME' | 'PTR' | 'TXT'; value: string }
  | { type: 'MX'; preference: number; value: string }
  | { type: 'TLSA'; tlsa: TlsaRecord }
);

export interface DnsReply {
  id: number;
  truncated: boolean;
  /** AD: the resolver has validated the whole answer. */
  authentic: boolean;
  /** The reply only says where else to ask (RFC 1034 §4.3.1): the server is no resolver, or none for us. */
  referral: boolean;
  /** Says something of what there is not (an authority section, RFC 2308). */
  denies: boolean;
  /** 0 NOERROR, 2 SERVFAIL, 3 NXDOMAIN … */
  code: number;
  question: { name: string; type: number };
  answers: DnsRecord[];
}

/** Longest answer over UDP that needs no fragments. */
export const UDP_BYTES = 1232;
const CLASS_IN = 1;
const TYPE_OPT = 41;
const DO = 0x8000;
const FLAG = {
  response: 0x8000,
  authoritative: 0x0400,
  truncated: 0x0200,
  recursion: 0x0100,
  recurses: 0x0080,
  authentic: 0x0020,
} as const;
const HEADER_BYTES = 12;
const MAX_NAME_BYTES = 255;
const MAX_LABEL_BYTES = 63;
const MAX_LABELS = 128;

/**
 * The form of a question. validated: with AD and DO set, because some resolvers say whether an answer is validated
 * when AD is set, and some when DO is. edns: for answers of more than 512 octets. plain: for resolvers that do not
 * know EDNS.
 */
export type QuestionForm = 'validated' | 'edns' | 'plain';

/** @returns null when the name cannot exist in DNS. */
export function encodeQuestion(
  id: number,
  name: string,
  type: DnsType,
  form: QuestionForm = 'validated',
): Buffer | null {
  const labels = name.replace(/\.$/, '').split('.');
  const bytes = labels.reduce((sum, label) => sum + 1 + Buffer.byteLength(label, 'latin1'), 1);
  if (bytes > MAX_NAME_BYTES || /[^\x21-\x7e]|\\/.test(name)) return null;
  if (labels.some((label) => label.length === 0 || label.length > MAX_LABEL_BYTES)) return null;
  const edns = form !== 'plain';
  const message = Buffer.alloc(HEADER_BYTES + bytes + 4 + (edns ? 11 : 0));
  message.writeUInt16BE(id, 0);
  message.writeUInt16BE(form === 'validated' ? FLAG.recursion | FLAG.authentic : FLAG.recursion, 2);
  message.writeUInt16BE(1, 4); // one question
  message.writeUInt16BE(edns ? 1 : 0, 10); // one additional record, EDNS0
  let at = HEADER_BYTES;
  for (const label of labels) {
    at = message.writeUInt8(label.length, at);
    at += message.write(label, at, 'latin1');
  }
  at = message.writeUInt8(0, at);
  at = message.writeUInt16BE(DNS_TYPE[type], at);
  at = message.writeUInt16BE(CLASS_IN, at);
  if (!edns) return message;
  at = message.writeUInt8(0, at); // the root
  at = message.writeUInt16BE(TYPE_OPT, at);
  at = message.writeUInt16BE(UDP_BYTES, at);
  message.writeUInt32BE(form === 'validated' ? DO : 0, at);
  return message;
}

/** Our code for a reply that cannot be read beyond its question. */
export const DAMAGED = -1;

/** @returns null when these bytes are no reply, or damaged. Skips records of other types and classes. */
export function decodeReply(bytes: Uint8Array): DnsReply | null {
  const message = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const head = readHead(message);
  return head === null ? null : readAnswers(message, head.reply, head.end);
}

/**
 * The reply to the question with this id; null when these octets are no reply to it. A damaged reply counts, and so
 * does an error code without the question, as some servers send it: waiting would bring nothing better.
 */
export function replyTo(bytes: Uint8Array, id: number, name: string, type: DnsType): DnsReply | null {
  const message = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (message.length < HEADER_BYTES || message.readUInt16BE(0) !== id) return null;
  const head = readHead(message);
  if (head === null) {
    const flags = message.readUInt16BE(2);
    const refused = (flags & FLAG.response) !== 0 && message.readUInt16BE(4) === 0 && !isAnswer(flags & 15);
    const question = { name, type: DNS_TYPE[type] };
    return refused
      ? {
          id,
          truncated: false,
          authentic: false,
          referral: false,
          denies: false,
          code: flags & 15,
          question,
          answers: [],
        }
      : null;
  }
  const { question } = head.reply;
  if (question.name !== name.toLowerCase().replace(/\.$/, '') || question.type !== DNS_TYPE[type])
    return null;
  return readAnswers(message, head.reply, head.end) ?? { ...head.reply, answers: [], code: DAMAGED };
}

/** Whether a code says what is in DNS (NOERROR, NXDOMAIN). All others say that the resolver could not or would not answer. */
export function isAnswer(code: number): boolean {
  return code === 0 || code === 3;
}

/** Reads header and question, and tells where they end. */
function readHead(message: Buffer): { reply: DnsReply; end: number } | null {
  if (message.length < HEADER_BYTES) return null;
  const flags = message.readUInt16BE(2);
  if ((flags & FLAG.response) === 0 || message.readUInt16BE(4) !== 1) return null;
  const asked = readName(message, HEADER_BYTES);
  if (asked === null || asked.end + 4 > message.length) return null;
  if (message.readUInt16BE(asked.end + 2) !== CLASS_IN) return null;
  const reply: DnsReply = {
    id: message.readUInt16BE(0),
    truncated: (flags & FLAG.truncated) !== 0,
    authentic: (flags & FLAG.authentic) !== 0,
    referral: message.readUInt16BE(6) === 0 && (flags & (FLAG.recurses | FLAG.authoritative)) === 0,
    denies: message.readUInt16BE(8) > 0,
    code: flags & 15,
    question: { name: asked.name, type: message.readUInt16BE(asked.end) },
    answers: [],
  };
  return { reply, end: asked.end + 4 };
}

/**
 * Adds the records; null when they are damaged. A record of the right type with unusable content is skipped if there
 * are others.
 */
function readAnswers(message: Buffer, reply: DnsReply, from: number): DnsReply | null {
  let at = from;
  let found = false;
  let odd = false;
  // A truncated reply is asked for again over TCP.
  if (reply.truncated) return reply;
  for (let left = message.readUInt16BE(6); left > 0; left--) {
    const owner = readName(message, at);
    if (owner === null || owner.end + 10 > message.length) return null;
    const end = owner.end + 10 + message.readUInt16BE(owner.end + 8);
    if (end > message.length) return null;
    if (message.readUInt16BE(owner.end + 2) === CLASS_IN) {
      const ttl = message.readUInt32BE(owner.end + 4);
      const type = message.readUInt16BE(owner.end);
      const record = readRecord(message, type, owner.end + 10, end);
      if (record === null && type !== reply.question.type) return null;
      // RFC 2181 §8: a TTL with the highest bit set means zero.
      const base = { name: owner.name, ttl: ttl > 0x7fff_ffff ? 0 : ttl };
      if (record === null) odd = true;
      else if (record !== 'other') reply.answers.push({ ...base, ...record });
      found ||= record !== null && type === reply.question.type;
    }
    at = end;
  }
  return odd && !found ? null : reply;
}

type Content = DnsRecord extends infer R ? (R extends DnsRecord ? Omit<R, 'name' | 'ttl'> : never) : never;

function readRecord(message: Buffer, type: number, from: number, end: number): Content | 'other' | null {
  switch (type) {
    case DNS_TYPE.A:
      return end - from === 4 ? { type: 'A', value: message.subarray(from, end).join('.') } : null;
    case DNS_TYPE.AAAA:
      return end - from === 16 ? { type: 'AAAA', value: ipv6(message, from) } : null;
    case DNS_TYPE.CNAME: {
      const target = readName(message, from);
      return target?.end === end ? { type: 'CNAME', value: target.name } : null;
    }
    case DNS_TYPE.PTR: {
      // Reverse zones are anybody's, and may hold anything: skip what is no name.
      const target = readName(message, from);
      return target?.end === end ? { type: 'PTR', value: target.name } : 'other';
    }
    case DNS_TYPE.TXT:
      return readText(message, from, end);
    case DNS_TYPE.MX: {
      const exchange = end - from > 2 ? readName(message, from + 2) : null;
      if (exchange?.end !== end) return null;
      return { type: 'MX', preference: message.readUInt16BE(from), value: exchange.name };
    }
    case DNS_TYPE.TLSA: {
      if (end - from < 3) return null;
      const [usage, selector, matching] = message.subarray(from, from + 3) as unknown as [
        number,
        number,
        number,
      ];
      const hex = message.toString('hex', from + 3, end);
      return { type: 'TLSA', tlsa: { usage, selector, matching, hex } };
    }
    default:
      return 'other';
  }
}

/** The strings of a TXT record, joined. */
function readText(message: Buffer, from: number, end: number): Content | null {
  const strings: Buffer[] = [];
  for (let at = from; at < end; ) {
    const next = at + 1 + (message[at] as number);
    if (next > end) return null;
    strings.push(message.subarray(at + 1, next));
    at = next;
  }
  return { type: 'TXT', value: Buffer.concat(strings).toString('utf8') };
}

function ipv6(message: Buffer, from: number): string {
  const groups = Array.from({ length: 8 }, (_, i) => message.readUInt16BE(from + 2 * i).toString(16));
  // In the form that the rest of the program uses for addresses (RFC 5952).
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1);
}

/**
 * Reads a name, in lower case without the last dot ('' for the root), and tells where it ends. A dot within a label is
 * written \. (RFC 1035 §5.1), or two names could look alike; nobody can ask for such a name.
 */
function readName(message: Buffer, from: number): { name: string; end: number } | null {
  const labels: string[] = [];
  let at = from;
  let end = -1;
  let bytes = 1;
  for (;;) {
    if (at >= message.length) return null;
    const length = message[at] as number;
    if (length === 0) break;
    if (length >= 0xc0) {
      if (at + 2 > message.length) return null;
      const target = message.readUInt16BE(at) & 0x3fff;
      if (end === -1) end = at + 2;
      // Pointers may only go backwards, so this ends.
      if (target >= at) return null;
      at = target;
      if (labels.length > MAX_LABELS) return null;
      bytes++; // count pointers, too, in case they lead to pointers
    } else {
      if (length > MAX_LABEL_BYTES || at + 1 + length > message.length) return null;
      labels.push(message.toString('latin1', at + 1, at + 1 + length).replace(/[.\\]/g, '\\$&'));
      at += 1 + length;
      bytes += 1 + length;
    }
    if (bytes > MAX_NAME_BYTES) return null;
  }
  return { name: labels.join('.').toLowerCase(), end: end === -1 ? at + 1 : end };
}
