/**
 * A peer that quotes what it was told in AUTH, or knows: as it came over the wire, decoded, in Base64, in any reply from
 * its greeting to the end of data. Nothing of that is in what becomes of the mail.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Secrets } from '../../src/delivery/client/secrets.ts';
import { startSender, startSink } from './harness.ts';

const PASSWORD = 'Tr0ub4dor+(&3)';
const TOKEN = `ya29.${'x-Y_z'.repeat(30)}`;
const base64 = (text: string): string => Buffer.from(text).toString('base64');

const AUTH = { username: 'alice', password: PASSWORD, access_token: TOKEN, allow_without_tls: true };
const MECHANISMS = ['PLAIN', 'LOGIN', 'CRAM-MD5', 'XOAUTH2', 'SCRAM-SHA-256'];
/** Where it quotes; 'prove' is the reply that ends AUTH. */
const STAGES = ['greeting', 'ehlo', 'first', 'prove', 'mail', 'rcpt', 'data', 'dot'] as const;
const CODES = { greeting: [554], ehlo: [421], first: [535, 421], prove: [535, 454] } as Record<
  string,
  number[]
>;

interface Case {
  mechanism: string;
  stage: (typeof STAGES)[number];
  code: number;
}

function* cases(): Generator<Case> {
  for (const mechanism of MECHANISMS)
    for (const stage of STAGES) {
      if (mechanism === 'SCRAM-SHA-256' && !['first', 'prove'].includes(stage)) continue;
      for (const code of CODES[stage] ?? [250, 451, 550, 421]) yield { mechanism, stage, code };
    }
}

/** The fate of a message as it is told, and what of it would be a secret. */
async function played({ mechanism, stage, code }: Case): Promise<{ told: string; secrets: string[] }> {
  const secrets = [PASSWORD, base64(PASSWORD), TOKEN, base64(TOKEN)];
  const quote = (): string => {
    const all = [...secrets, ...secrets.map((text) => text.toUpperCase())].join(' ');
    return `=${code}-no ${all}\r\n${code} ${secrets[0]}`;
  };
  const sink = await startSink({ capabilities: [`AUTH ${mechanism} ${PASSWORD}`] });
  const { options } = sink;
  if (stage === 'greeting') options.greeting = quote().slice(1);
  if (stage === 'ehlo') options.ehlo = quote().slice(1);
  let steps = 0;
  options.auth = (line) => {
    const response = line.split(' ').at(-1) as string;
    if (response !== mechanism && response !== '') {
      secrets.push(response);
      // The name alone is no secret, nor what SCRAM begins with.
      const text = Buffer.from(response, 'base64').toString();
      if (text !== AUTH.username && !/^[ny],/.test(text)) secrets.push(text.replaceAll('\0', ' '));
    }
    const last = mechanism === 'LOGIN' ? 2 : mechanism === 'CRAM-MD5' ? 1 : 0;
    if (steps === 0 && stage === 'first') return quote().slice(1);
    if (steps++ < last) return `334 ${base64('<1@mx.test>')}`;
    if (stage === 'prove') return quote().slice(1);
    if (CODES[stage] === undefined) options.faults = { [stage]: quote() };
    return '235 2.7.0 ok';
  };
  const smarthost = { host: '127.0.0.1', port: sink.port, auth: { ...AUTH, mechanisms: [mechanism] } };
  const harness = startSender({ delivery: { smarthost } } as never);
  const result = await harness.attempt({ recipients: ['b@x.test'] });
  const told = JSON.stringify(result.groups);
  await harness.stop();
  await sink.stop();
  return { told, secrets };
}

test('whatever a peer quotes, nothing of it is in the fate of the mail', async () => {
  for (const one of cases()) {
    const { told, secrets } = await played(one);
    const lower = told.toLowerCase();
    for (const secret of secrets) {
      const written = JSON.stringify(secret).slice(1, -1).toLowerCase();
      assert.ok(!lower.includes(written), `${JSON.stringify(one)}: ${secret} in ${told}`);
    }
  }
});

test('what a peer offers is shown without a secret in it', async () => {
  const sink = await startSink({ capabilities: [`AUTH NTLM ${PASSWORD}`] });
  const smarthost = { host: '127.0.0.1', port: sink.port, auth: AUTH };
  const harness = startSender({ delivery: { smarthost } } as never);
  const told = JSON.stringify((await harness.attempt({ recipients: ['b@x.test'] })).groups);
  assert.match(told, /offers AUTH NTLM …/);
});

test('a secret that the end of a line cuts off is hidden as far as it goes', () => {
  const secrets = new Secrets();
  assert.equal(secrets.hide('no secret here'), 'no secret here');
  secrets.add(TOKEN);
  assert.equal(secrets.hide(`no ${TOKEN.slice(0, 40)}`), 'no …');
  assert.equal(secrets.hide(`no ${base64(TOKEN).slice(0, 40)}`), 'no …');
  assert.equal(secrets.hide('no ya29.x-A, but others'), 'no ya29.x-A, but others');
});

test('of a secret in Base64 the beginning is hidden wherever it stands: shortened, without its padding, in any case', () => {
  const secrets = new Secrets();
  const plain = base64('\0alice\0secret!');
  assert.match(plain, /=$/);
  secrets.addBase64(plain);
  for (const text of [plain, plain.replace(/=+$/, ''), plain.slice(0, 12), plain.toLowerCase().slice(0, -3)])
    for (const [before, after] of [
      ["cannot decode '", "...'"],
      ['', ''],
      ['', ' no'],
      ['İİİ ', 'İ'],
      ['', `/${text}`],
    ]) {
      const shown = secrets.hide(`${before}${text}${after}`);
      assert.equal(shown, `${before}…${after?.replace(text, '…')}`, text);
    }
  assert.equal(secrets.hide(plain.slice(0, 7)), plain.slice(0, 7));
});

test('of secrets that contain each other, and of one that is a pattern, nothing stays', () => {
  const secrets = new Secrets();
  for (const secret of ['a.c', 'xa.cx', '$&', '[z-a]']) secrets.add(secret);
  assert.equal(secrets.hide('abc xa.cx a.c $& [z-a] yes'), 'abc … … … … yes');
});
