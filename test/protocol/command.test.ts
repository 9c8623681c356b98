import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NOTIFY } from '../../src/mail/envelope.ts';
import { argumentOf, parseBdat, parseMail, parseRcpt, verbCode } from '../../src/protocol/command.ts';
import { Reply } from '../../src/protocol/reply.ts';

const mailParameters = (text: string) => {
  const command = parseMail(`MAIL FROM:<a@b.example>${text}`);
  return command instanceof Reply ? command.line.trimEnd() : command.parameters;
};

test('verb codes know no case and no short line', () => {
  assert.equal(verbCode('mail from:<>'), verbCode('MAIL'));
  assert.notEqual(verbCode('MAIL'), verbCode('MAIK'));
  assert.equal(verbCode('DAT'), 0);
});

test('verb codes: no other character passes for a letter', () => {
  const letters = verbCode('DATA');
  for (let code = 0; code < 0x10000; code++) {
    const char = String.fromCharCode(code);
    assert.equal(verbCode(`${char}ATA`) === letters, char === 'D' || char === 'd', `code ${code}`);
  }
});

test('MAIL without parameters has defaults', () => {
  assert.deepEqual(mailParameters(''), {
    size: -1,
    body: '7BIT',
    smtpUtf8: false,
    ret: undefined,
    envid: undefined,
    auth: undefined,
  });
  assert.deepEqual(mailParameters('   '), mailParameters(''));
});

test('parameters of one command do not leak into the next', () => {
  mailParameters(' SIZE=5 BODY=8BITMIME SMTPUTF8 RET=FULL ENVID=x');
  assert.deepEqual(mailParameters(' SIZE=7'), {
    size: 7,
    body: '7BIT',
    smtpUtf8: false,
    ret: undefined,
    envid: undefined,
    auth: undefined,
  });
});

test('AUTH is a mailbox as xtext or <>, bounded at 500 characters', () => {
  const auth = (value: string): unknown => (mailParameters(` AUTH=${value}`) as { auth?: string }).auth;
  assert.equal(auth('<>'), '<>');
  assert.equal(auth('e+3Dmc2@x.test'), 'e+3Dmc2@x.test', 'as received');
  const domain = `@${'d'.repeat(60)}.test`;
  const long = `${'+61'.repeat(64)}${domain}`;
  assert.equal(auth(long), long);
  assert.ok(auth(`${'+61'.repeat(64)}@${'+64.'.repeat(60)}test`), '500 characters of xtext');
  for (const bad of [
    'nobody',
    '',
    'e=mc2@x.test',
    'a+3d@x.test',
    'a+0D+0Ab@x.test',
    'a+20b@x.test',
    '@x.test',
    '<a@x.test>',
    `${'+61'.repeat(190)}${domain}`,
    `${'+61'.repeat(64)}@${'+64'.repeat(60)}.${'+64'.repeat(45)}.test`,
  ])
    assert.match(String(mailParameters(` AUTH=${bad}`)), /^555 5\.5\.4 .*AUTH/, bad);
});

test('ENVID is bounded at 100 characters', () => {
  assert.equal((mailParameters(` ENVID=${'x'.repeat(100)}`) as { envid: string }).envid.length, 100);
  assert.match(String(mailParameters(` ENVID=${'x'.repeat(101)}`)), /^555 5\.5\.4/);
});

test('a keyword in a refusal carries no control character', () => {
  assert.match(String(mailParameters(' X\tY')), /^555 5\.5\.4 [ -~]*$/);
});

test('RCPT: NOTIFY as bits, ORCPT as written and bounded', () => {
  const parse = (text: string) => parseRcpt(`RCPT TO:<c@d.example>${text}`, false);
  const good = parse(' NOTIFY=SUCCESS,DELAY ORCPT=rfc822;c+40d');
  assert(!(good instanceof Reply));
  assert.deepEqual(good.parameters, { notify: NOTIFY.success | NOTIFY.delay, orcpt: 'rfc822;c+40d' });
  for (const bad of [
    ' NOTIFY',
    ' NOTIFY=',
    ' NOTIFY=,',
    ' NOTIFY=NEVER,NEVER,DELAY',
    ' ORCPT=;x',
    ' ORCPT=rfc822;',
    ' ORCPT=rfc822;a+4',
    ' ORCPT=rf(c;x',
    ` ORCPT=rfc822;${'x'.repeat(500)}`,
  ])
    assert(parse(bad) instanceof Reply, bad);
});

test('ORCPT of type utf-8: escapes always, UTF-8 itself only with SMTPUTF8', () => {
  const parse = (orcpt: string, utf8: boolean) => parseRcpt(`RCPT TO:<c@d.example> ORCPT=${orcpt}`, utf8);
  assert(!(parse('utf-8;j\\x{F6}rg@d.example', false) instanceof Reply));
  assert(!(parse('utf-8;jörg@d.example', true) instanceof Reply));
  const refused = parse('utf-8;jörg@d.example', false);
  assert(refused instanceof Reply && refused.reason === 'needs_smtputf8');
  assert(parse('rfc822;jörg@d.example', true) instanceof Reply);
});

test('BDAT sizes', () => {
  assert.deepEqual(parseBdat('BDAT 0'), { octets: 0, last: false });
  assert.deepEqual(parseBdat('bdat 86 last  '), { octets: 86, last: true });
  assert.deepEqual(parseBdat('BDAT 00012'), { octets: 12, last: false });
  for (const bad of [
    'BDAT',
    'BDAT ',
    'BDAT LAST',
    'BDAT 1LAST',
    'BDAT 1e3',
    'BDAT 1.5',
    `BDAT ${'9'.repeat(21)}`,
  ])
    assert(parseBdat(bad) instanceof Reply, bad);
});

test('arguments lose the spaces at their end', () => {
  assert.equal(argumentOf('NOOP', 4), '');
  assert.equal(argumentOf('NOOP  ', 4), '');
  assert.equal(argumentOf('VRFY a b  ', 4), 'a b');
});
