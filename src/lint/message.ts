/** What receivers will find in a message. Pure; takes time in proportion to its length. */
import { domainOf } from '../base/domain.ts';
import { firstAddress } from '../protocol/from-domain.ts';
import { tagsOf } from './domain.ts';
import type { Findings } from './finding.ts';

/** What mail must not have several of (RFC 5322 §3.6, RFC 2045, RFC 2369, RFC 8058). */
const SINGLE = [
  'Date', 'From', 'Sender', 'Reply-To', 'To', 'Cc', 'Bcc', 'Message-ID', 'In-Reply-To', 'References', 'Subject',
  'MIME-Version', 'Content-Type', 'Content-Transfer-Encoding', 'List-Id', 'List-Unsubscribe', 'List-Unsubscribe-Post',
  'Feedback-ID',
]; // biome-ignore format: a list
/** What a signature should cover, where the message has it. */
const SIGNED = [
  'From', 'Reply-To', 'To', 'Cc', 'Subject', 'Date', 'Message-ID', 'MIME-Version', 'Content-Type', 'List-Id',
  'List-Unsubscribe', 'List-Unsubscribe-Post', 'Feedback-ID', 'CFBL-Address',
]; // biome-ignore format: a list
/** RFC 5322 §2.1.1, without CRLF. */
const MAX_LINE = 998;
/** What providers say they take, in bytes of the whole message. */
const LIMITS: readonly { name: string; bytes: number; source: string }[] = [
  { name: 'iCloud', bytes: 20_000_000, source: 'https://support.apple.com/en-us/102198' },
  { name: 'Gmail', bytes: 25_000_000, source: 'https://support.google.com/mail/answer/6584' },
  { name: 'Yahoo', bytes: 25_000_000, source: 'https://help.yahoo.com/kb/SLN3673.html' },
];

export interface MessageFacts {
  /** Of the first address in From:; '' where there is none. */
  fromDomain: string;
  /** d= of its signatures. */
  signers: string[];
}

interface Field {
  name: string;
  value: string;
}

export function lintMessage(bytes: Buffer, findings: Findings): MessageFacts {
  const { fields, headerBytes } = fieldsOf(bytes);
  const values = (name: string): string[] =>
    fields.filter((field) => field.name === name.toLowerCase()).map(({ value }) => value);
  for (const name of SINGLE)
    if (values(name).length > 1)
      findings.error('header', `${name} stands there ${values(name).length} times`, 'leave one');
  const fromDomain = lintFrom(values('From'), findings);
  for (const name of ['Date', 'Message-ID'])
    if (values(name).length === 0)
      findings.error(
        'header',
        `${name} is missing`,
        `add it, or set added_headers.${name.toLowerCase().replace('-', '_')}`,
      );
  const [messageId] = values('Message-ID');
  if (messageId !== undefined && !/^<[^\s<>@]+@[^\s<>@]+>$/.test(messageId))
    findings.error('header', 'Message-ID is none: it must be <text@domain>');
  const [date] = values('Date');
  if (date !== undefined && Number.isNaN(Date.parse(date.replace(/\([^()]*\)$/, ''))))
    findings.error('header', 'Date is none');
  if (values('Subject').length === 0) findings.warning('header', 'Subject is missing');
  lintUnsubscribe(values('List-Unsubscribe'), values('List-Unsubscribe-Post'), findings);
  const signers = lintSignatures(values('DKIM-Signature'), new Set(fields.map(({ name }) => name)), findings);
  lintLines(bytes, headerBytes, findings);
  lintSize(bytes.length, findings);
  return { fromDomain, signers };
}

function lintFrom(from: string[], findings: Findings): string {
  const [value] = from;
  if (value === undefined) {
    findings.error('header', 'From is missing');
    return '';
  }
  const domain = domainOf(firstAddress(value));
  if (domain === '') findings.error('header', 'From has no address');
  return domain;
}

/** RFC 8058: what one click needs. Google and Yahoo ask bulk senders for it. */
function lintUnsubscribe(list: string[], post: string[], findings: Findings): void {
  const [given] = list;
  if (given === undefined) {
    findings.warning('one_click', 'there is no List-Unsubscribe: bulk mail needs it at Google and Yahoo');
    return;
  }
  const links = [...given.matchAll(/<\s*([^<>\s]+)\s*>/g)].map(([, link]) => link as string);
  if (links.length === 0) findings.error('one_click', 'List-Unsubscribe has no <link>');
  const web = links.filter((link) => /^https?:/i.test(link));
  const insecure = web.find((link) => !/^https:/i.test(link));
  if (insecure !== undefined)
    findings.error('one_click', `List-Unsubscribe has a link that is not https: ${insecure.slice(0, 200)}`);
  const [word] = post;
  if (word === undefined)
    findings.warning('one_click', 'List-Unsubscribe-Post is missing: one click does not unsubscribe');
  else if (word.replace(/\s+/g, '') !== 'List-Unsubscribe=One-Click')
    findings.error('one_click', 'List-Unsubscribe-Post must be List-Unsubscribe=One-Click');
  else if (web.length === 0)
    findings.error('one_click', 'List-Unsubscribe-Post stands there, and List-Unsubscribe has no https link');
  else if (insecure === undefined) findings.ok('one_click', 'one click unsubscribes');
}

function lintSignatures(signatures: string[], present: ReadonlySet<string>, findings: Findings): string[] {
  const signers: string[] = [];
  for (const signature of signatures.slice(0, 20)) {
    const tags = tagsOf(signature);
    const domain = tags.get('d')?.toLowerCase() ?? '';
    if (domain === '') {
      findings.error('signature', 'a DKIM-Signature names no domain (d=)');
      continue;
    }
    signers.push(domain);
    const names = new Set((tags.get('h') ?? '').toLowerCase().split(':'));
    const left = SIGNED.filter((name) => present.has(name.toLowerCase()) && !names.has(name.toLowerCase()));
    if (!names.has('from')) findings.error('signature', `the signature of ${domain} does not cover From`);
    else if (left.length > 0)
      findings.warning(
        'signature',
        `the signature of ${domain} does not cover ${left.join(', ')}`,
        'add them to dkim.sign_headers',
      );
    else findings.ok('signature', `the signature of ${domain} covers what it should`);
    if (tags.has('l'))
      findings.error(
        'signature',
        `the signature of ${domain} covers a part of the body (l=): anybody can add to it`,
      );
    if (/sha1$/i.test(tags.get('a') ?? ''))
      findings.error('signature', `the signature of ${domain} is made with SHA-1 (a=${tags.get('a')})`);
  }
  return signers;
}

function lintLines(bytes: Buffer, headerBytes: number, findings: Findings): void {
  let longest = 0;
  let number = 0;
  let longestAt = 0;
  let bare = 0;
  for (let at = 0; at < bytes.length; ) {
    const lf = bytes.indexOf(0x0a, at);
    const end = lf < 0 ? bytes.length : lf;
    const hasCr = end > at && bytes[end - 1] === 0x0d;
    if (lf >= 0 && !hasCr) bare++;
    number++;
    const length = end - at - (hasCr ? 1 : 0);
    if (length > longest) [longest, longestAt] = [length, number];
    at = end + 1;
  }
  if (longest > MAX_LINE)
    findings.error(
      'lines',
      `line ${longestAt} has ${longest} octets; the longest that mail may have is ${MAX_LINE}`,
      'encode that part as quoted-printable or base64',
    );
  else findings.ok('lines', `the longest line has ${longest} octets`);
  // A file of a Unix system: whoever sends it makes CRLF of it.
  if (bare > 0 && bare < number - 1)
    findings.error('lines', `${bare} of ${number} lines end in LF alone`, 'end every line in CRLF');
  if (bytes.subarray(0, headerBytes).some((octet) => octet > 127))
    findings.warning(
      'header',
      'the header has characters outside ASCII: hosts without SMTPUTF8 refuse it',
      'write encoded words (RFC 2047)',
    );
  if (bytes.includes(0)) findings.error('lines', 'there is a NUL in it');
}

function lintSize(bytes: number, findings: Findings): void {
  const over = LIMITS.filter((limit) => bytes > limit.bytes);
  for (const { name, bytes: most, source } of over)
    findings.error('size', `${bytes} bytes are more than ${name} takes (${most})`, `see ${source}`);
  if (over.length === 0) findings.ok('size', `${bytes} bytes`);
}

/** Fields of the header section, unfolded, names in lower case. A line may end in LF alone: files have that. */
function fieldsOf(bytes: Buffer): { fields: Field[]; headerBytes: number } {
  const end = /\r?\n\r?\n/.exec(bytes.toString('latin1', 0, Math.min(bytes.length, 4_194_304)));
  const headerBytes = end === null ? bytes.length : end.index + end[0].length;
  const fields: Field[] = [];
  const lines: string[] = [];
  for (const line of bytes.toString('utf8', 0, headerBytes).split(/\r?\n/))
    if (/^[ \t]/.test(line) && lines.length > 0) lines[lines.length - 1] += line;
    else lines.push(line);
  for (const line of lines) {
    const at = line.indexOf(':');
    if (at > 0)
      fields.push({ name: line.slice(0, at).trimEnd().toLowerCase(), value: line.slice(at + 1).trim() });
  }
  return { fields, headerBytes };
}
