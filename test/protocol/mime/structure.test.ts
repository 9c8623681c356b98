import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { MIME_LIMITS, MimeScanner, mayHaveAttachments } from '../../../src/protocol/mime/structure.ts';

const crlf = (text: string): Buffer => Buffer.from(text.replaceAll('\n', '\r\n'));
const scanner = new MimeScanner();
const found = (text: string): string[] =>
  scanner.attachments(crlf(text)).map(
    (a) =>
      `${a.name}|${a.type}|${crlf(text)
        .subarray(a.offset, a.offset + a.sizeBytes)
        .toString()}`,
  );

const MIXED = `From: a@b.test
Content-Type: multipart/mixed; boundary="=_x"

preamble
--=_x
Content-Type: text/plain

hello
--=_x
Content-Type: application/pdf; name="old.pdf"
Content-Disposition: attachment; filename="r.pdf"

PDFDATA
MORE
--=_x--
epilogue
`;

describe('MIME structure', () => {
  it('finds an attachment with name, type, size and offset', () => {
    assert.deepEqual(found(MIXED), ['r.pdf|application/pdf|PDFDATA\r\nMORE']);
  });

  it('reads bare LF content the same way', () => {
    const content = Buffer.from(MIXED);
    const [a] = scanner.attachments(content);
    assert.equal(
      content.subarray(a?.offset, (a?.offset ?? 0) + (a?.sizeBytes ?? 0)).toString(),
      'PDFDATA\nMORE',
    );
  });

  it('takes a whole message that is not text for one attachment', () => {
    assert.deepEqual(found('Content-Type: application/zip; name=a.zip\n\nZIP'), [
      'a.zip|application/zip|ZIP',
    ]);
  });

  it('lists no text bodies, but text with a name or a disposition', () => {
    const part = (header: string): string => `--b\n${header}\n\nbody\n`;
    const text = `Content-Type: multipart/mixed; boundary=b\n\n${part('Content-Type: text/html')}${part('')}${part('Content-Type: text/csv; name=t.csv')}${part('Content-Disposition: attachment')}--b--\n`;
    assert.deepEqual(found(text), ['t.csv|text/csv|body', '|text/plain|body']);
  });

  it('goes into nested multiparts, and not into attached messages', () => {
    const text = `Content-Type: multipart/mixed; boundary=out

--out
Content-Type: multipart/alternative; boundary=in

--in

text
--in
Content-Type: image/png

PNG
--in--
--out
Content-Type: message/rfc822

Subject: inner
Content-Type: multipart/mixed; boundary=deep

--deep
Content-Type: image/gif

GIF
--deep--
--out--
`;
    assert.deepEqual(
      scanner.attachments(crlf(text)).map((a) => a.type),
      ['image/png', 'message/rfc822'],
    );
  });

  it('ends a part at an outer boundary when the inner one was never closed', () => {
    const text = `Content-Type: multipart/mixed; boundary=out\n\n--out\nContent-Type: multipart/mixed; boundary=in\n\n--in\nContent-Type: image/png\n\nPNG\n--out\nContent-Type: image/gif\n\nGIF\n--out--\n`;
    assert.deepEqual(found(text), ['|image/png|PNG', '|image/gif|GIF']);
  });

  it('takes a part to the end of the content when nothing closes it', () => {
    assert.deepEqual(
      found('Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: image/png\n\nPNG'),
      ['|image/png|PNG'],
    );
  });

  it('does not take a longer line, or a boundary within a line, for a boundary', () => {
    const text = `Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: image/png\n\n--bb\nx--b\n --b\nPNG\n--b  \nContent-Type: text/plain\n\n--b--\n`;
    assert.deepEqual(found(text), ['|image/png|--bb\r\nx--b\r\n --b\r\nPNG']);
  });

  const name = (header: string): string | undefined =>
    scanner.attachments(crlf(`Content-Type: application/x\n${header}\n\nx`))[0]?.name;

  it('decodes names of RFC 2231 and RFC 2047, and folded fields', () => {
    assert.equal(
      name("Content-Disposition: attachment; filename*=UTF-8''na%C3%AFve%20file.txt"),
      'naïve file.txt',
    );
    assert.equal(
      name('Content-Disposition: attachment; filename*0*=iso-8859-1\'\'%E9t;\n filename*1="e.txt"'),
      'éte.txt',
    );
    assert.equal(name('Content-Disposition: attachment; filename="=?UTF-8?B?w6l0w6kudHh0?="'), 'été.txt');
    assert.equal(
      name('Content-Disposition: attachment; filename="=?iso-8859-1?Q?a=E9_b?= =?us-ascii?q?c.txt?="'),
      'aé bc.txt',
    );
    assert.equal(name('Content-Disposition: attachment;\n\tfilename="two words.pdf"'), 'two words.pdf');
    assert.equal(name('Content-Disposition: attachment; filename="quo\\"te.txt"'), 'quo"te.txt');
    assert.equal(name('Content-Disposition: attachment; filename==?no-such-charset?q?x?='), 'x');
  });

  it('keeps control characters and line ends out of names, and bounds them', () => {
    assert.equal(name("Content-Disposition: attachment; filename*=UTF-8''a%0D%0Ab%00c"), 'abc');
    assert.equal(name(`Content-Disposition: attachment; filename="${'n'.repeat(900)}"`)?.length, 255);
  });

  it('looks only at the header section to see that plain text has none', () => {
    assert.equal(mayHaveAttachments(crlf('Subject: x\n\nContent-Type: multipart/mixed\n')), false);
    assert.equal(
      mayHaveAttachments(crlf('Subject: x\nContent-Type: text/plain; x=multipart/mixed\n\n')),
      false,
    );
    assert.equal(
      mayHaveAttachments(crlf('Subject: x\ncontent-type :\n multipart/mixed; boundary=b\n\n')),
      true,
    );
    assert.equal(mayHaveAttachments(crlf('Content-Type: image/png')), true);
    assert.equal(mayHaveAttachments(Buffer.alloc(0)), false);
  });

  it('stops at its limits of depth, parts and attachments', () => {
    const many = `Content-Type: multipart/mixed; boundary=b\n\n${'--b\nContent-Type: image/png\n\nx\n'.repeat(5000)}`;
    assert.equal(scanner.attachments(crlf(many)).length, MIME_LIMITS.maxAttachments);
    const texts = `Content-Type: multipart/mixed; boundary=b\n\n${'--b\n\nx\n'.repeat(MIME_LIMITS.maxParts)}--b\nContent-Type: image/png\n\nx`;
    assert.deepEqual(scanner.attachments(crlf(texts)), []);
    let deep = '';
    for (let i = 0; i < 50; i++) deep += `Content-Type: multipart/mixed; boundary=b${i}\n\n--b${i}\n`;
    assert.deepEqual(scanner.attachments(crlf(`${deep}Content-Type: image/png\n\nx`)), []);
  });

  it('is not slowed down by content made for that', () => {
    const lines = (line: string): Buffer =>
      Buffer.from(
        `Content-Type: multipart/mixed; boundary=b\r\n\r\n${line.repeat(Math.ceil(2_000_000 / line.length))}`,
      );
    const begin = performance.now();
    for (const line of [
      `\n--${' '.repeat(700)}x`,
      '\n--',
      '--',
      `\n--b\n${'a'.repeat(60_000)}`,
      '\n--b\nContent-Type: ;;;;;  ',
      '=?utf-8?b?',
      '\n--b\nContent-Disposition: a; filename="=?x?q?',
    ])
      scanner.attachments(lines(line));
    assert.ok(performance.now() - begin < 3000);
  });

  it('never throws and stays within the content, whatever it is given', () => {
    const piece = fc.constantFrom(
      '--b',
      '--',
      '\r\n',
      '\n',
      '\r',
      'Content-Type: ',
      'multipart/mixed; boundary=b',
      'image/png',
      '; name*0*=',
      "utf-8''%",
      '"',
      'Content-Disposition: attachment; filename=',
      '=?utf-8?q?=',
      '?=',
      'b--',
      ' ',
      '\0',
      'é',
      ':',
    );
    const content = fc
      .array(fc.oneof(piece, fc.string({ maxLength: 5 })), { maxLength: 60 })
      .map((p) => Buffer.from(p.join('')));
    const withHead = content.map((c) =>
      Buffer.concat([Buffer.from('Content-Type: multipart/mixed; boundary=b\r\n\r\n'), c]),
    );
    fc.assert(
      fc.property(
        fc.oneof(
          content,
          withHead,
          fc.uint8Array({ maxLength: 300 }).map((b) => Buffer.from(b)),
        ),
        (bytes) => {
          mayHaveAttachments(bytes);
          for (const a of scanner.attachments(bytes)) {
            assert.ok(a.offset >= 0 && a.sizeBytes >= 0 && a.offset + a.sizeBytes <= bytes.length);
            assert.ok(a.name.length <= 255);
          }
        },
      ),
      { numRuns: 2000 },
    );
  });
});
