/** `protorelay lint` against a DNS server, and on messages in files. */
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { after, before, test } from 'node:test';
import { Command, CommanderError } from 'commander';
import type { CommandLine } from '../../src/cli/command-line.ts';
import { addLint } from '../../src/cli/lint.ts';
import { DnsServer } from '../support/dns-server.ts';

const dir = mkdtempSync(join(tmpdir(), 'protorelay-'));
let dns: DnsServer;
let dkim = {};

const rsa = (bits: number): string => {
  const { publicKey } = generateKeyPairSync('rsa', { modulusLength: bits });
  return publicKey.export({ format: 'der', type: 'spki' }).toString('base64');
};

before(async () => {
  const ed = generateKeyPairSync('ed25519').publicKey.export({ format: 'der', type: 'spki' }).subarray(-32);
  dns = await DnsServer.start({
    'good.test': { TXT: ['v=spf1 ip4:192.0.2.1 -all'], MX: [[10, 'mx.good.test']] },
    's1._domainkey.good.test': { TXT: [`v=DKIM1; k=rsa; p=${rsa(2048)}`] },
    's2._domainkey.good.test': { TXT: [`v=DKIM1; k=ed25519; p=${ed.toString('base64')}`] },
    '_dmarc.good.test': { TXT: ['v=DMARC1; p=reject; rua=mailto:d@good.test'] },
    '1.2.0.192.in-addr.arpa': { PTR: ['out.good.test'] },
    'out.good.test': { A: ['192.0.2.1'] },
    'bad.test': { TXT: ['v=spf1 +all'], MX: [[0, '.']] },
    'weak._domainkey.bad.test': { TXT: [`p=${rsa(512)}`] },
    'old._domainkey.bad.test': { TXT: [`v=DKIM1; p=${rsa(1024)}; t=y`] },
    'revoked._domainkey.bad.test': { TXT: ['v=DKIM1; p='] },
    'odd._domainkey.bad.test': { TXT: ['v=DKIM1; k=rsa; p=AAAA'] },
    '2.2.0.192.in-addr.arpa': { PTR: ['liar.test'] },
    'liar.test': { A: ['192.0.2.99'] },
    'down.test': { fault: 'SERVFAIL' },
    '_dmarc.down.test': { fault: 'SERVFAIL' },
  });
});

after(async () => {
  await dns.stop();
  rmSync(dir, { recursive: true });
});

interface Ended {
  code: number;
  lines: string[];
  text: string;
}

async function lint(
  args: string[],
  delivery: object = { source_address: '192.0.2.1', ehlo_name: 'out.good.test' },
): Promise<Ended> {
  let text = '';
  let code = 0;
  const out = new Writable({
    write(chunk, _, done) {
      text += chunk;
      done();
    },
  });
  const config = join(dir, 'relay.json');
  writeFileSync(
    config,
    JSON.stringify({ dns: { servers: [dns.address], timeout_ms: 500, tries: 1 }, delivery, dkim }),
  );
  const program = new Command('protorelay').exitOverride().configureOutput({ writeErr: () => {} });
  const line: CommandLine = {
    out,
    err: out,
    configPath: () => config,
    endsWith(ended) {
      code = ended;
    },
    usage: (message) => program.error(message),
  };
  addLint(program, line);
  try {
    await program.parseAsync(['lint', ...args], { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    code = 64;
    text += error.message;
  }
  return { code, text, lines: text.trimEnd().split('\n') };
}

/** Findings that are not ok, without what to do about them. */
const wrong = ({ lines }: Ended): string[] =>
  lines.filter((line) => !line.startsWith('ok: ')).map((line) => line.replace(/ \([^()]*\)$/, ''));

test('a domain that has what receivers ask for', async () => {
  const ended = await lint(['Good.test', '--selector', 's1', '--selector', 'S2']);
  assert.deepEqual(wrong(ended), []);
  assert.equal(ended.code, 0);
  for (const ok of [
    'spf: SPF of good.test takes 0 of 10 look-ups',
    'spf: SPF of good.test covers 192.0.2.1',
    'dkim: s1._domainkey.good.test has an RSA key of 2048 bits',
    'dkim: s2._domainkey.good.test has an Ed25519 key',
    'dmarc: good.test has the DMARC policy reject (of _dmarc.good.test)',
    'ptr: 192.0.2.1 is out.good.test, which leads back to it',
    'ptr: EHLO out.good.test leads to 192.0.2.1',
    'mx: good.test takes mail',
  ])
    assert.ok(ended.lines.includes(`ok: ${ok}`), ok);
});

test('a domain that has it wrong: each fault has a line, errors first', async () => {
  const selectors = ['weak', 'old', 'revoked', 'odd', 'none'].flatMap((name) => ['--selector', name]);
  const ended = await lint(['bad.test', ...selectors, '--address', '192.0.2.2', '--address', '2001:db8::2'], {
    tls: { mode: 'none' },
  });
  assert.equal(ended.code, 2);
  const all = wrong(ended);
  assert.deepEqual(all.map((line) => line.split(':', 1)[0]), [...all.map((line) => line.split(':', 1)[0])].sort()); // biome-ignore format: one line
  for (const line of [
    'error: spf: SPF of bad.test lets everybody send (+all)',
    'error: dkim: the key at weak._domainkey.bad.test has 512 bits, receivers want 1,024',
    'warning: dkim: the key at old._domainkey.bad.test has 1024 bits',
    'warning: dkim: the key at old._domainkey.bad.test is for tests (t=y): receivers may take its signatures for none',
    'error: dkim: the key at revoked._domainkey.bad.test is revoked (p= is empty)',
    'error: dkim: the key at odd._domainkey.bad.test cannot be read (k=rsa)',
    'error: dkim: there is no key at none._domainkey.bad.test',
    'error: dmarc: bad.test has no DMARC policy',
    'error: mx: bad.test takes no mail (null MX): many receivers refuse such a sender',
    'error: ptr: liar.test, the name of 192.0.2.2, does not lead back to it',
    'error: ptr: 2001:db8::2 has no name (PTR)',
    'error: tls: delivery.tls.mode is none: Google takes no mail without TLS',
  ])
    assert.ok(
      ended.lines.some((one) => one.startsWith(line)),
      `${line}\n${ended.text}`,
    );
});

test('a return path of another domain: SPF is of it, and may not be aligned', async () => {
  const ended = await lint(['good.test', '--selector', 's1', '--return-path', 'bounce.esp.test']);
  assert.deepEqual(wrong(ended), [
    'error: mx: bounce.esp.test has no MX and no address: its bounces go nowhere, and many receivers refuse it',
    'error: spf: bounce.esp.test has no SPF record',
    'warning: dmarc: the return path bounce.esp.test is not aligned with good.test (relaxed): DMARC rests on DKIM alone',
  ]); // biome-ignore format: one line
});

test('keys of the config: those of the nearest domain above; without one that is aligned DMARC fails', async () => {
  const key = (domain: string, selector: string) => ({ domain, selector, file: 'x.pem' });
  dkim = { keys: [key('good.test', 's1'), key('esp.test', 'e1')] };
  const below = await lint(['news.good.test']);
  assert.ok(
    below.lines.includes('ok: dkim: s1._domainkey.good.test has an RSA key of 2048 bits'),
    below.text,
  );
  assert.doesNotMatch(below.text, /esp\.test|no signature is aligned/);
  dkim = { keys: [key('esp.test', 'e1')], also_sign: 'esp.test' };
  const other = await lint(['good.test']);
  dkim = {};
  assert.ok(
    other.text.includes(
      'error: dmarc: no signature is aligned with good.test (relaxed): they are of esp.test',
    ),
    other.text,
  );
});

test('what DNS does not answer is no error; without address and selector that is said', async () => {
  const ended = await lint(['down.test'], {});
  assert.equal(ended.code, 1);
  const text = wrong(ended).join('\n');
  assert.match(text, /^warning: spf: SPF of down\.test cannot be told now/m);
  assert.match(text, /^warning: dmarc: DMARC of down\.test cannot be told now/m);
  assert.match(text, /^warning: dkim: no key of down\.test is known/m);
  assert.match(text, /^warning: ptr: no address is known/m);
});

const GOOD = [
  'From: Shop <news@good.test>',
  'To: a@b.test',
  'Subject: x',
  'Date: Tue, 1 Dec 2026 05:00:00 +0000',
  'Message-ID: <1@good.test>',
  'List-Unsubscribe: <mailto:u@good.test>,',
  ' <https://good.test/u>',
  'List-Unsubscribe-Post: List-Unsubscribe=One-Click',
];

async function lintFile(
  header: string[],
  body = 'Hello.\r\n',
  args: string[] = ['--offline'],
): Promise<Ended> {
  const path = join(dir, 'message.eml');
  writeFileSync(path, `${header.join('\r\n')}\r\n\r\n${body}`);
  return lint([path, ...args]);
}

test('a message that is as it should be, with its domain in DNS', async () => {
  const offline = await lintFile(GOOD);
  assert.deepEqual([offline.code, wrong(offline)], [0, []]);
  assert.ok(offline.lines.includes('ok: one_click: one click unsubscribes'));
  const online = await lintFile(GOOD, 'Hello.\r\n', ['--selector', 's1']);
  assert.deepEqual([online.code, wrong(online)], [0, []]);
  assert.match(online.text, /DMARC policy reject/);
  // As a file of a Unix system.
  const path = join(dir, 'unix.eml');
  writeFileSync(path, `${GOOD.join('\n')}\n\nHello.\n`);
  assert.equal((await lint([path, '--offline'])).code, 0);
});

test('what is wrong with a message, one by one', async () => {
  const without = (name: string) => GOOD.filter((line) => !line.startsWith(`${name}:`));
  const unsubscribe = [...GOOD.slice(0, 5)];
  const signature = 'DKIM-Signature: v=1; a=rsa-sha1; d=good.test; s=s1; l=5; h=from:to:subject; b=x';
  const table: [header: string[], body: string, RegExp][] = [
    [without('Date'), '', /^error: header: Date is missing/m],
    [without('Message-ID'), '', /^error: header: Message-ID is missing/m],
    [without('From'), '', /^error: header: From is missing/m],
    [[...GOOD, 'subject : y'], '', /^error: header: Subject stands there 2 times/m],
    [[...GOOD, 'From: x@other.test'], '', /^error: header: From stands there 2 times/m],
    [[...without('Message-ID'), 'Message-ID: <1>'], '', /^error: header: Message-ID is none/m],
    [[...without('Date'), 'Date: soon'], '', /^error: header: Date is none/m],
    [unsubscribe, '', /^warning: one_click: there is no List-Unsubscribe/m],
    [[...unsubscribe, 'List-Unsubscribe: <http://good.test/u>'], '', /^error: one_click: .*not https/m],
    [[...unsubscribe, 'List-Unsubscribe: <https://good.test/u>'], '', /^warning: one_click: List-Unsubscribe-Post is missing/m],
    [[...unsubscribe, 'List-Unsubscribe: <mailto:a@b>', 'List-Unsubscribe-Post: List-Unsubscribe=One-Click'], '', /^error: one_click: .*no https link/m],
    [[...unsubscribe, 'List-Unsubscribe: <https://good.test/u>', 'List-Unsubscribe-Post: yes'], '', /^error: one_click: List-Unsubscribe-Post must be/m],
    [[...GOOD, signature], '', /^warning: signature: the signature of good\.test does not cover Date, Message-ID, List-Unsubscribe, List-Unsubscribe-Post/m],
    [[...GOOD, signature], '', /^error: signature: .* a part of the body \(l=\)/m],
    [[...GOOD, signature], '', /^error: signature: .* SHA-1/m],
    [[...GOOD, 'DKIM-Signature: v=1; h=to'], '', /^error: signature: a DKIM-Signature names no domain/m],
    [GOOD, `${'x'.repeat(999)}\r\n`, /^error: lines: line 10 has 999 octets/m],
    [GOOD, 'a\r\nb\nc\r\n', /^error: lines: 1 of 12 lines end in LF alone/m],
    [[...GOOD, 'X-A: \u00e4'], '', /^warning: header: the header has characters outside ASCII/m],
    [GOOD, `${'x'.repeat(76)}\r\n`.repeat(280_000), /^error: size: \d+ bytes are more than iCloud takes/m],
  ]; // biome-ignore format: a table
  for (const [header, body, expected] of table) {
    const { code, text } = await lintFile(header, body);
    assert.match(text, expected);
    assert.equal(code, expected.source.includes('error') ? 2 : text.includes('error: ') ? 2 : 1);
  }
});

test('as JSON; and what is neither a file nor a domain', async () => {
  const { code, text } = await lintFile(GOOD.slice(0, 5), 'x\r\n', ['--offline', '--json']);
  const answer = JSON.parse(text) as { kind: string; errors: number; warnings: number; findings: object[] };
  assert.deepEqual([code, answer.kind, answer.errors, answer.warnings], [1, 'message', 0, 1]);
  assert.deepEqual(answer.findings[0], {
    check: 'one_click',
    severity: 'warning',
    text: 'there is no List-Unsubscribe: bulk mail needs it at Google and Yahoo',
    mend: null,
  });
  for (const args of [
    ['not a domain'],
    ['nothing.eml', '--offline'],
    ['good.test', '--address', 'x'],
    ['good.test', '--selector', '..'],
    [],
  ])
    assert.equal((await lint(args)).code, 64, args.join(' '));
  await assert.rejects(lint(['./nothing.eml']), /nothing\.eml cannot be read/);
});
