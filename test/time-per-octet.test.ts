/**
 * Whoever reads a stranger's text takes time linear in its octets: every reader is fed n and 2n of the worst anybody
 * could think of, and its time grows less than threefold. A new reader is added to the table; those of src/protocol
 * must be in it. Regular expressions are also tried one by one, in regular-expressions.test.ts.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it, test } from 'node:test';
import { parseCapabilities } from '../src/delivery/client/capabilities.ts';
import { byFirstDigit, refusalOf } from '../src/delivery/outcome.ts';
import { idOf } from '../src/delivery/security/mta-sts.ts';
import { parsePolicy } from '../src/delivery/security/sts-policy.ts';
import { decodeReply } from '../src/dns/wire.ts';
import { isHeloName, parseMailbox, parsePath, scanDomain, scanLiteral } from '../src/protocol/address.ts';
import { argumentOf, parseBdat, parseMail, parseRcpt, verbCode } from '../src/protocol/command.ts';
import { attachmentsOf } from '../src/protocol/mime/attachments.ts';
import { MimeScanner, mayHaveAttachments } from '../src/protocol/mime/structure.ts';
import { decodeWords, parseParameters as parseFieldParameters } from '../src/protocol/mime/words.ts';
import { parseParameters, RCPT_PARAMETERS } from '../src/protocol/parameters.ts';
import { parseProxyHeader, proxyExtent } from '../src/protocol/proxy-header.ts';
import { ReplyParser } from '../src/protocol/reply-parser.ts';
import { decodeBase64, utf8Text } from '../src/protocol/sasl/base64.ts';
import { parseCramResponse } from '../src/protocol/sasl/cram-md5.ts';
import { parseLoginField, parsePlain } from '../src/protocol/sasl/plain.ts';
import { saslPrepare } from '../src/protocol/sasl/prepare.ts';
import { parseClientFinal, parseClientFirst } from '../src/protocol/sasl/scram.ts';
import { scanContent, scanLine } from '../src/protocol/scan.ts';
import { readTlsFacts } from '../src/protocol/tls-facts.ts';
import { parseTold, XCLIENT_ATTRIBUTES } from '../src/protocol/xclient.ts';
import { decodeXtext, isXtext } from '../src/protocol/xtext.ts';
import { ruaOf } from '../src/report/tls-rpt.ts';
import { growth } from './support/growth.ts';
import { filesUnder } from './support/source-files.ts';

const OCTETS = 20_000;

/** What is repeated, what stands before it (without it nobody would read so far) and behind. */
type Attack = [pump: string, before?: string, after?: string];

interface Reader {
  /** Functions it shows to be linear; those of src/protocol by their names. */
  names: string[];
  read(text: string): unknown;
  attacks: Attack[];
}

/** Repeated for whoever reads lines of text. */
const COMMON: Attack[] = [
  [' ', '', 'x'],
  ['\t ', 'a', 'x'],
  ['a'],
  ['a.'],
  ['a='],
  ['"'],
  ['\\"', '"'],
  ['('],
  ['<@'],
  ['='],
  ['+'],
  [';'],
  [','],
  ['\r\n'],
  ['\r'],
  ['\0'],
  ['\xff'],
  ['é'],
];
const octets = (text: string): Buffer => Buffer.from(text, 'latin1');
const reply = (text: string): unknown => new ReplyParser().push(text);
const scanner = new MimeScanner();
const MULTIPART = 'Content-Type: multipart/mixed; boundary=b\r\n\r\n';

const READERS: Reader[] = [
  {
    names: ['parsePath', 'parseMailbox', 'scanDomain', 'scanLiteral', 'isHeloName'],
    read(text) {
      for (const strict of [false, true]) {
        parsePath(text, 0, strict);
        parseMailbox(text, strict);
        scanDomain(text, 0, strict);
        scanLiteral(text, 0, strict);
        isHeloName(text, strict);
      }
    },
    attacks: [
      ['@a,', '<'],
      ['a@a.', '<'],
      ['.', '<'],
      ['_', '<a@'],
      ['a', '<a@'],
      ['\\a', '<"'],
      ['1.', '['],
      [':', '[IPv6:', ']'],
      ['ü.', '<a@'],
    ],
  },
  {
    names: ['parseMail', 'parseRcpt', 'parseBdat', 'argumentOf', 'verbCode', 'parseParameters'],
    read(text) {
      parseMail(text);
      parseRcpt(text, true);
      parseBdat(text);
      argumentOf(text, 4);
      verbCode(text);
      parseParameters(text, 0, RCPT_PARAMETERS, { notify: 0, orcpt: undefined });
    },
    attacks: [
      [' ', 'MAIL FROM:<a@b.example>', 'x'],
      ['1', 'MAIL FROM:<a@b.example> SIZE='],
      ['+41', 'MAIL FROM:<a@b.example> ENVID='],
      ['+41', 'MAIL FROM:<a@b.example> AUTH='],
      ['NEVER,', 'RCPT TO:<a@b.example> NOTIFY='],
      ['\\x{20}', 'RCPT TO:<a@b.example> ORCPT=utf-8;'],
      [' a=b', 'RCPT TO:<a@b.example>'],
      ['9', 'BDAT '],
      [' LAST', 'BDAT 1'],
    ],
  },
  {
    names: ['isXtext', 'decodeXtext'],
    read: (text) => isXtext(text) && decodeXtext(text),
    attacks: [['+41'], ['+4', '', '+']],
  },
  {
    names: ['parseTold'],
    read: (text) => parseTold(text, XCLIENT_ATTRIBUTES),
    attacks: [
      [' NAME=a', 'XCLIENT'],
      ['+41', 'XCLIENT NAME='],
      ['+', 'XCLIENT HELO='],
    ],
  },
  {
    names: ['proxyExtent', 'parseProxyHeader'],
    read(text) {
      proxyExtent(text);
      parseProxyHeader(text);
    },
    attacks: [
      [' ', 'PROXY TCP4'],
      ['1', 'PROXY TCP4 '],
      ['\r', 'PROXY '],
    ],
  },
  { names: ['readTlsFacts'], read: readTlsFacts, attacks: [['\n'], ['a\n'], ['a=b\n']] },
  {
    names: ['scanLine', 'scanContent'],
    read(text) {
      scanLine(octets(text), 512);
      scanContent(octets(text), { dots: true, normalizeNewlines: true, maxLineBytes: 1000 });
    },
    attacks: [['\r\n.'], ['\r\n.\r'], ['\r'], ['.\r\n'], ['Received:\r\n']],
  },
  {
    names: ['ReplyParser', 'refusalOf'],
    read(text) {
      const read = new ReplyParser().push(text);
      if (read !== null && typeof read !== 'string')
        refusalOf({ ...read, peer: 'mx', text: read.lines.join(' ') } as never, 'content', {
          secure: true,
          fellBack: false,
          classify: byFirstDigit,
        });
      reply(text);
    },
    attacks: [
      ['1', '550 5.'],
      [' ', '550 5.1.1', 'x'],
      ['5.1.1 ', '550 '],
    ],
  },
  {
    names: ['parseCapabilities'],
    read: (text) => parseCapabilities(['mx.example', ...text.split('\n')]),
    attacks: [[' ', 'AUTH', 'x'], [' PLAIN', 'AUTH'], ['SIZE 1\n'], ['1', 'SIZE '], ['A\n']],
  },
  {
    names: ['decodeBase64', 'utf8Text', 'parsePlain', 'parseLoginField', 'parseCramResponse', 'saslPrepare'],
    read(text) {
      decodeBase64(text);
      utf8Text(octets(text));
      parsePlain(octets(text));
      parseLoginField(octets(text));
      parseCramResponse(octets(text));
      saslPrepare(text);
    },
    attacks: [
      ['AAAA', '', '='],
      ['a\0'],
      ['a ', '', '0'],
      ['0', 'a '],
      ['\u00ad'],
      ['\u0300', 'a'],
      ['\u05d0', '', 'a'],
    ],
  },
  {
    names: ['parseClientFirst', 'parseClientFinal'],
    read(text) {
      parseClientFirst(octets(text));
      parseClientFinal(octets(text));
    },
    attacks: [
      [',a=b', 'n,,n=u,r=x'],
      ['a', 'n,a=b,n=u,r='],
      [',p=AA', 'c=AA,r=x'],
      [',a=', 'c=AA,r=x'],
      ['A', 'c='],
      ['=2C', 'n,,n='],
    ],
  },
  {
    names: ['MimeScanner', 'mayHaveAttachments', 'attachmentsOf'],
    read(text) {
      const content = octets(text);
      mayHaveAttachments(content);
      scanner.attachments(content);
      attachmentsOf(content);
    },
    attacks: [
      ['\r\n--\xff', MULTIPART],
      ['\r\n--b', MULTIPART],
      ['\n--b\n\nx', MULTIPART],
      ['\n--b\na\na', MULTIPART],
      ['\n', MULTIPART],
      ['\n--b\nContent-Type: multipart/x; boundary=b\n', MULTIPART],
      ['\n--b\nContent-Type: image/png; name="=?x?q?a?="\n\nx', MULTIPART],
      ['\n--b\nContent-Type: image/png; name*0*=a; name*1=b\n\nx', MULTIPART],
      ['\n content-type ', 'Content-Type'],
      [' ', 'Content-Type:', ';'],
    ],
  },
  {
    names: ['decodeWords', 'parseFieldParameters'],
    read(text) {
      decodeWords(text);
      parseFieldParameters(text);
    },
    attacks: [
      ['=?x?q?'],
      ['=?utf-8?b?AAAA?= '],
      [' ', '?=', '='],
      ['; a=b'],
      ['\\', 'a; a="'],
      ['; a', 'x'],
      [' ', 'x;a', 'x'],
    ],
  },
  {
    names: ['parsePolicy'],
    read: parsePolicy,
    attacks: [
      [' ', 'version:', 'x'],
      ['\t', 'version: STSv1\nmx: a', 'x'],
      ['mx: a\n'],
      ['a:\n'],
      ['a', '', ':'],
    ],
  },
  {
    names: ['idOf', 'ruaOf'],
    read(text) {
      idOf({ kind: 'found', records: [text] } as never);
      ruaOf([text]);
    },
    attacks: [
      [' ', 'v=STSv1;', 'x'],
      [';id=a', 'v=STSv1;'],
      [' ;', 'v=STSv1'],
      [' ', 'v=TLSRPTv1;rua', 'x'],
      [',', 'v=TLSRPTv1;rua='],
      [' ', 'v=TLSRPTv1;rua=a', 'x'],
      ['mailto:a,', 'v=TLSRPTv1;rua='],
    ],
  },
  {
    names: ['decodeReply'],
    // A question, then answers whose names are pointers to pointers.
    read: (text) => decodeReply(Buffer.concat([DNS_HEAD, octets(text)])),
    attacks: [
      ['\xc0\x0c\0\x01\0\x01\0\0\0\0\0\x04abcd'],
      ['\x01a'],
      ['\xc0\x0c'],
      [`${'\x01a'.repeat(20)}\0\0\x63\0\x01\0\0\0\0\0\0`],
    ],
  },
];

const DNS_HEAD = octets('\0\x01\x81\0\0\x01\xff\xff\0\0\0\0\x01a\0\0\x01\0\x01');

describe('time per octet', () => {
  for (const { names, read, attacks } of READERS)
    it(`${names.join(', ')}: linear`, () => {
      for (const [pump, before = '', after = ''] of [...COMMON, ...attacks]) {
        const ratio = growth((count) => {
          const text = before + pump.repeat(count / pump.length) + after;
          return () => void read(text);
        }, OCTETS);
        assert.ok(
          ratio < 3,
          `${ratio} times for twice of ${JSON.stringify(pump)} after ${JSON.stringify(before)}`,
        );
      }
    });
});

test('every reader of src/protocol is in the table', () => {
  const shown = new Set(READERS.flatMap(({ names }) => names));
  const readers = filesUnder('src/protocol', '.ts').flatMap((file) => {
    const code = readFileSync(join(import.meta.dirname, '..', file), 'utf8');
    return [...code.matchAll(/^export (?:function|class) (\w+)/gm)].map(([, name]) => name as string);
  });
  const isReader =
    /^(?:parse|scan|read|decode|is(?:Helo|Xtext)|utf8Text|argumentOf|proxyExtent|saslPrepare|verbCode|may|attachmentsOf)|Parser$|Scanner$/;
  assert.deepEqual(
    readers.filter((name) => isReader.test(name) && !shown.has(name)),
    [],
  );
});
