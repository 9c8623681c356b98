/**
 * What a client says, from a grammar: dialogs that get far, with odd words, parameters, octets, orders and ends in them.
 * Everything follows from the dice.
 */
import type { Dice } from '../../support/dice.ts';

export type Act =
  /** Octets (latin1) in pieces; then a reply is waited for, or not. */
  | { kind: 'write'; pieces: string[]; awaits: boolean }
  | { kind: 'tls'; how: 'handshake' | 'garbage' | 'half' };

export interface Dialog {
  /** Local address: who has which rights is told by the relay's configuration. */
  from: string;
  implicitTls: boolean;
  acts: Act[];
  ending: 'stays' | 'end' | 'reset';
}

/** In `policy.proxy_protocol.networks`, and in `policy.xclient_networks`. */
export const PROXY_FROM = '127.0.0.7';
export const XCLIENT_FROM = '127.0.0.8';
/** With relay rights, and without. */
const FROM = ['127.0.0.1', '127.0.0.2', '127.0.0.3', '127.0.0.4', PROXY_FROM, XCLIENT_FROM];
const CREDENTIALS = Buffer.from('\0user\0password').toString('base64');
const MECHANISMS = [
  'PLAIN', 'LOGIN', 'CRAM-MD5', 'SCRAM-SHA-256', 'SCRAM-SHA-256-PLUS', 'SCRAM-SHA-1', 'PLAIN-PLUS', 'LOGIN-PLUS', '-PLUS',
  'XOAUTH2', 'EXTERNAL', 'ANONYMOUS', 'GSSAPI', 'plain', 'P', '', '__proto__', 'constructor', 'toString',
]; // biome-ignore format: names
const VERBS = [
  'NOOP', 'RSET', 'HELP', 'VRFY a', 'EXPN list', 'ETRN h1.test', 'QUIT now', 'TURN', 'SEND FROM:<a@b>', 'XFORWARD NAME=x',
  'BURL imap://x', 'GET / HTTP/1.1', 'constructor', '__proto__ x', '', ' ', '.', '..', 'NOOP\0', '\xff\xf4\xff\xfd', 'DATA x',
  'BDAT', 'BDAT x', 'BDAT -1', 'BDAT 1e3 LAST', 'BDAT 18446744073709551616', 'BDAT 0 LAST x', 'RCPT', 'MAIL', 'AUTH', 'AUTH PLAIN =',
  'STARTTLS x', 'EHLO', 'HELO', 'XCLIENT', 'PROXY UNKNOWN', 'MAIL FROM:', 'RCPT TO:<', 'mail from:<a@b.test>body=7bit',
]; // biome-ignore format: verbs
const LOCALS = [
  'a', 'b+c', 'user', 'postmaster', 'a..b', 'user.', '.user', '-dash', '"q s"', '"a\\"b"', 'v%other', 'o!v', '\xc3\xbc', 'a@b', '""',
  `${'l'.repeat(64)}`, `${'l'.repeat(300)}`, '__proto__', 'bounce',
]; // biome-ignore format: local parts
const DOMAINS = [
  'h0.test', 'h1.test', 'h2.test', 'h3.test', 'H1.TEST', 'h2.test.', 'b\xc3\xbccher.test', 'xn--bcher-kva.test', '[127.0.0.1]',
  '[IPv6:::1]', '[x]', 'my_host.test', '-.test', `${'d'.repeat(64)}.test`, `${'d.'.repeat(120)}test`, '', '__proto__', 'relay.test',
]; // biome-ignore format: domains

const plain = (d: Dice): string => `<${d.pick(['a', 'b', 'c', 'd'])}@h${d.below(4)}.test>`;

function address(d: Dice): string {
  return `${d.pick(LOCALS)}@${d.pick(DOMAINS)}`;
}

function path(d: Dice, nobody: number): string {
  return d.branch(
    [12, () => `<${address(d)}>`],
    [nobody, () => '<>'],
    [1, () => address(d)],
    [1, () => `<@route.test,@x.test:${address(d)}>`],
    [1, () => '<postmaster>'],
    [1, () => `<${d.octets(12)}>`],
    [0.3, () => `<${'x'.repeat(3000)}@h1.test>`],
  );
}

const SIZES = ['0', '1000', '399999', '400001', '99999999999999999999', '-1', 'x', ''];
const BODIES = ['7BIT', '8BITMIME', 'BINARYMIME', 'x'];

function mailParameter(d: Dice): string {
  return d.pick([
    `SIZE=${d.pick(SIZES)}`,
    `BODY=${d.pick(BODIES)}`,
    'SMTPUTF8',
    'SMTPUTF8=x',
    `RET=${d.pick(['FULL', 'HDRS', 'x'])}`,
    `ENVID=${d.pick(['id', 'a+2Bb', 'a+', '+zz', 'x'.repeat(200)])}`,
    `AUTH=${d.pick(['<>', 'a+40b.test', '+'])}`,
    'REQUIRETLS',
    'BY=1;R',
    `${d.pick(['X', '__proto__', 'constructor', '='])}=${d.octets(5)}`,
  ]);
}

function rcptParameter(d: Dice): string {
  const notify = ['NEVER', 'SUCCESS', 'FAILURE', 'DELAY', 'SUCCESS,FAILURE,DELAY', 'NEVER,SUCCESS', ',', 'x'];
  return d.pick([
    `NOTIFY=${d.pick(notify)}`,
    `ORCPT=${d.pick(['rfc822;a@b.test', 'utf-8;\xc3\xbc@b.test', 'rfc822;', ';', 'x+41', `rfc822;${'x'.repeat(600)}`])}`,
    'RRVS=2014-04-03T23:01:00Z',
    `${d.octets(4)}=x`,
  ]);
}

function parameters(d: Dice, one: (d: Dice) => string, odd: boolean): string {
  if (!odd) return '';
  return d.times(d.chance(0.5) ? 0 : d.below(4), () => ` ${one(d)}`).join('');
}

/** Lines of content; CRLF at their ends for the most part. */
function content(d: Dice): string {
  const line = (): string =>
    d.branch(
      [20, () => 'Some text.'],
      [2, () => `X-${d.below(9)}: ${'h'.repeat(d.below(400))}`],
      [2, () => `${'.'.repeat(d.below(4))}dots`],
      [1, () => '.'],
      [1, () => `Content-Type: multipart/mixed; boundary="${d.pick(['b', '', '-'.repeat(70), '"'])}"`],
      [1, () => '--b'],
      [1, () => 'Received: from x by y; z'],
      [0.02, () => d.octets(60)],
      [0.05, () => 'l'.repeat(d.below(40_000))],
    );
  const end = (): string =>
    d.chance(0.997) ? '\r\n' : d.pick(['\n', '\r', '\r\r\n', '\n.\r\n', '\r\n.\n', '\0']);
  const head = d.chance(0.9) ? 'Subject: fuzz\r\n\r\n' : '';
  const lines = d.branch([10, () => d.below(12)], [1, () => 0], [1.5, () => 2000 + d.below(12_000)]);
  return head + d.times(lines, () => line() + end()).join('');
}

/** The units of a message: each may be waited for or run into the next. */
function message(d: Dice): string[] {
  // Most envelopes are plain, so that content is met, and next hops.
  const odd = d.chance(0.3);
  const units = [`MAIL FROM:${odd ? path(d, 2) : plain(d)}${parameters(d, mailParameter, odd)}\r\n`];
  for (let i = d.below(5) + (d.chance(0.9) ? 1 : 0); i > 0; i--)
    units.push(
      `RCPT TO:${odd && d.chance(0.5) ? path(d, 0.2) : plain(d)}${parameters(d, rcptParameter, odd)}\r\n`,
    );
  if (d.chance(0.55)) {
    const stuffed = content(d).replace(/^\./gm, '..');
    units.push('DATA\r\n', d.chance(0.92) ? `${stuffed}\r\n.\r\n` : stuffed);
    return units;
  }
  for (let i = d.below(3); i >= 0; i--) {
    const octets = d.chance(0.8) ? content(d) : d.octets(40);
    const off = d.chance(0.06) ? d.pick([-1, 1, 1000, 500_000, 2 ** 40]) : 0;
    const last = i === 0 && d.chance(0.9) ? ' LAST' : '';
    units.push(`BDAT ${Math.max(0, octets.length + off)}${last}\r\n${octets}`);
  }
  return units;
}

function auth(d: Dice): string[] {
  if (d.chance(0.3)) return [`AUTH PLAIN ${CREDENTIALS}\r\n`];
  const initial = d.pick([
    '',
    ` ${CREDENTIALS}`,
    ' =',
    ' ====',
    ` ${d.base64(30)}`,
    ' \xff',
    ` ${'A'.repeat(9000)}`,
  ]);
  const answers = d.times(d.below(4), () =>
    d.pick([
      CREDENTIALS,
      d.base64(20),
      '*',
      '',
      '=',
      'dXNlcg==',
      'cGFzc3dvcmQ=',
      d.octets(10),
      'n,,n=user,r=x',
      'biwsbj11c2VyLHI9eA==',
    ]),
  );
  return [`AUTH ${d.pick(MECHANISMS)}${initial}`, ...answers].map((line) => `${line}\r\n`);
}

function xclient(d: Dice): string {
  const value = [
    '192.0.2.9',
    'IPV6:2001:db8::9',
    '[UNAVAILABLE]',
    '[TEMPUNAVAIL]',
    'x+41',
    '+',
    '',
    '127.0.0.1',
    'user',
  ];
  const names = [
    'NAME',
    'ADDR',
    'PORT',
    'PROTO',
    'HELO',
    'LOGIN',
    'DESTADDR',
    'DESTPORT',
    'REVERSE_NAME',
    'X',
    '__proto__',
  ];
  return `XCLIENT${d.times(d.below(4), () => ` ${d.pick(names)}=${d.pick(value)}`).join('')}\r\n`;
}

function proxy(d: Dice): string {
  const v2 = '\r\n\r\n\0\r\nQUIT\n';
  return d.branch(
    [
      6,
      () => `PROXY TCP4 ${d.pick(['198.51.100.1', '127.0.0.1', '1', '999.1.1.1'])} 198.51.100.2 4000 25\r\n`,
    ],
    [3, () => `${v2}\x21\x11\0\x0c\xc6\x33\x64\x01\xc6\x33\x64\x02\x0f\xa0\0\x19`],
    [1, () => `${v2}\x20\0\0\0`],
    [1, () => 'PROXY UNKNOWN\r\n'],
    [1, () => `${v2}${d.octets(40)}`],
    [1, () => `PROXY ${d.octets(120)}\r\n`],
    [1, () => `PROXY TCP4 ${'1'.repeat(200)}`],
  );
}

/** One or two octets of a unit are others, missing, or doubled. */
function damaged(d: Dice, unit: string): string {
  const at = d.below(unit.length + 1);
  return d.branch(
    [2, () => unit.slice(0, at) + String.fromCharCode(d.below(256)) + unit.slice(at + 1)],
    [2, () => unit.slice(0, at) + unit.slice(at + 1 + d.below(4))],
    [1, () => unit.slice(0, at) + unit.slice(Math.max(0, at - 5))],
    [1, () => unit.replace('\r\n', d.pick(['\n', '\r', '\r\r\n', '\0\r\n']))],
    [0.3, () => `${unit.slice(0, at)}${'x'.repeat(5000)}${unit.slice(at)}`],
  );
}

function written(d: Dice, octets: string, awaits: boolean): Act {
  const cuts = d.chance(0.25)
    ? d.times(1 + d.below(3), () => d.below(octets.length + 1)).sort((a, b) => a - b)
    : [];
  const pieces = [0, ...cuts].map((from, i) => octets.slice(from, cuts[i] ?? octets.length));
  return { kind: 'write', pieces: pieces.filter((piece) => piece !== ''), awaits };
}

export function clientDialog(d: Dice): Dialog {
  const from = d.pick(FROM);
  const units: (string | Act)[] = [];
  if (from === PROXY_FROM ? d.chance(0.95) : d.chance(0.02)) units.push(proxy(d));
  const hello = (): string =>
    `${d.pick(['EHLO', 'EHLO', 'HELO', 'LHLO', 'ehlo'])} ${d.pick(['c.test', '[127.0.0.1]', 'a b', '\xff', 'x'])}\r\n`;
  if (d.chance(0.95)) units.push(hello());
  if (from === XCLIENT_FROM || d.chance(0.03)) units.push(xclient(d), hello());
  if (d.chance(0.3)) {
    const how = d.branch<'handshake' | 'garbage' | 'half'>(
      [8, () => 'handshake'],
      [1, () => 'garbage'],
      [1, () => 'half'],
    );
    units.push('STARTTLS\r\n', { kind: 'tls', how }, hello());
  }
  if (d.chance(0.3)) units.push(...auth(d));
  for (let i = d.below(4); i > 0; i--) {
    units.push(...message(d));
    if (d.chance(0.2)) units.push(`${d.pick(VERBS)}\r\n`);
    if (d.chance(0.1)) units.push(...auth(d));
  }
  if (d.chance(0.5)) units.push('QUIT\r\n');

  const acts: Act[] = [];
  let joined = '';
  for (let unit of units) {
    if (typeof unit !== 'string') {
      acts.push(unit);
      continue;
    }
    if (d.chance(0.03)) unit = `${d.pick(VERBS)}\r\n${unit}`;
    if (d.chance(0.05)) unit = damaged(d, unit);
    joined += unit;
    if (d.chance(0.35) && !unit.startsWith('STARTTLS')) continue;
    acts.push(written(d, joined, d.chance(0.95)));
    joined = '';
  }
  if (joined !== '') acts.push(written(d, joined, d.chance(0.5)));
  const ending = d.branch<Dialog['ending']>([3, () => 'stays'], [3, () => 'end'], [2, () => 'reset']);
  return { from, implicitTls: d.chance(0.1), acts, ending };
}
