/**
 * The parts of a message that may be a report: MIME as far as reports use it. Everything in it is hostile: sizes, depth and number
 * of parts are bounded, each octet is looked at a fixed number of times, and what is wrong is passed over. Pure.
 */

/** Of a report so much is read; what says anything stands before the copy of our own message. */
export const MAX_REPORT_BYTES = 262_144;
const MAX_HEADER_LENGTH = 65_536;
const MAX_FIELDS = 1000;
const MAX_DEPTH = 6;
const MAX_PARTS = 50;

/** Values by name in lower case, unfolded; of a repeated field the first. */
export type Fields = ReadonlyMap<string, string>;

export interface Part {
  fields: Fields;
  /** 'message/delivery-status', in lower case. */
  type: string;
  /** What the parent of the part is, '' for the message itself. */
  within: string;
  body: string;
}

export interface Parts {
  fields: Fields;
  type: string;
  /** Parts that have no parts. */
  leaves: Part[];
  /** There is more than is read. */
  isCut: boolean;
}

/** @param head the first octets of the message. */
export function partsOf(head: Buffer): Parts {
  const isCut = head.length >= MAX_REPORT_BYTES;
  const text = head.toString('latin1', 0, MAX_REPORT_BYTES).replaceAll('\r\n', '\n');
  const { fields, body } = split(text);
  const whole: Parts = { fields, type: typeOf(fields, 'text/plain'), leaves: [], isCut };
  walk(whole, { fields, body, within: '' }, 0);
  return whole;
}

function walk(whole: Parts, { fields, body, within }: Omit<Part, 'type'>, depth: number): void {
  const type = typeOf(fields, within === 'multipart/digest' ? 'message/rfc822' : 'text/plain');
  const boundary = type.startsWith('multipart/')
    ? parameter(fields.get('content-type') ?? '', 'boundary')
    : '';
  if (boundary === '') {
    if (whole.leaves.length < MAX_PARTS) whole.leaves.push({ fields, type, within, body });
    else whole.isCut = true;
    return;
  }
  if (depth >= MAX_DEPTH) {
    whole.isCut = true;
    return;
  }
  for (const inner of between(body, `\n--${boundary}`)) {
    if (whole.leaves.length >= MAX_PARTS) {
      whole.isCut = true;
      return;
    }
    walk(whole, { ...split(inner), within: type }, depth + 1);
  }
}

/** What stands between lines that begin with the delimiter, up to the closing one. */
function* between(body: string, delimiter: string): Generator<string> {
  const text = `\n${body}`;
  let at = text.indexOf(delimiter);
  for (let parts = 0; at >= 0 && parts <= MAX_PARTS; parts++) {
    const after = at + delimiter.length;
    if (text.startsWith('--', after)) return;
    const line = text.indexOf('\n', after);
    if (line < 0) return;
    at = text.indexOf(delimiter, line);
    yield text.slice(line + 1, at < 0 ? undefined : at);
  }
}

/** Header section and body; a text without an empty line is all header. */
export function split(text: string): { fields: Fields; body: string } {
  if (text.startsWith('\n')) return { fields: new Map(), body: text.slice(1) };
  const end = text.indexOf('\n\n');
  const header = end < 0 ? text : text.slice(0, end);
  return { fields: fieldsOf(header), body: end < 0 ? '' : text.slice(end + 2) };
}

export function fieldsOf(section: string): Fields {
  const fields = new Map<string, string>();
  let name = '';
  let count = 0;
  for (const line of section.slice(0, MAX_HEADER_LENGTH).split('\n')) {
    if (/^[ \t]/.test(line)) {
      if (name !== '') fields.set(name, `${fields.get(name)} ${line.trim()}`);
      continue;
    }
    const colon = line.indexOf(':');
    const next = line.slice(0, Math.max(0, colon)).trim().toLowerCase();
    name = next === '' || next.length > 76 || fields.has(next) ? '' : next;
    if (++count > MAX_FIELDS) break;
    if (name !== '') fields.set(name, line.slice(colon + 1).trim());
  }
  return fields;
}

function typeOf(fields: Fields, usual: string): string {
  const value = fields.get('content-type') ?? '';
  const end = value.indexOf(';');
  const type = (end < 0 ? value : value.slice(0, end)).trim().toLowerCase();
  return type === '' ? usual : type;
}

/** Parameter of a field such as Content-Type; '' where it is missing. */
export function parameter(value: string, name: string): string {
  for (const one of value.slice(0, 4096).split(';').slice(1)) {
    const equals = one.indexOf('=');
    if (one.slice(0, Math.max(0, equals)).trim().toLowerCase() !== name) continue;
    const text = one.slice(equals + 1).trim();
    return text.startsWith('"') ? (text.split('"')[1] ?? '') : (text.split(/[ \t(]/)[0] ?? '');
  }
  return '';
}

const UTF8 = new TextDecoder('utf-8', { fatal: true });

/** The body as text: without its transfer encoding; UTF-8 where it is, whatever it says it is, else Latin-1. */
export function textOf({ fields, body }: Part): string {
  const encoding = (fields.get('content-transfer-encoding') ?? '').toLowerCase();
  const octets = encoding.startsWith('base64')
    ? Buffer.from(body, 'base64')
    : Buffer.from(encoding.startsWith('quoted-printable') ? unquoted(body) : body, 'latin1');
  try {
    return UTF8.decode(octets).replaceAll('\r\n', '\n');
  } catch {
    return octets.toString('latin1').replaceAll('\r\n', '\n');
  }
}

const unquoted = (text: string): string =>
  text.replace(/=(?:\n|([0-9A-Fa-f]{2}))/g, (_, hex?: string) =>
    hex === undefined ? '' : String.fromCharCode(Number.parseInt(hex, 16)),
  );
