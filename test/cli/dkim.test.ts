/** `protorelay dkim generate|dns|check`. */
import assert from 'node:assert/strict';
import { createPrivateKey } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Command } from 'commander';
import { addDkim } from '../../src/cli/dkim.ts';
import { DnsServer } from '../support/dns-server.ts';

const dir = mkdtempSync(join(tmpdir(), 'dkim-cli-'));
const config = join(dir, 'relay.json');
let dns: DnsServer;

before(async () => {
  dns = await DnsServer.start({ 'c._domainkey.broken.test': { fault: 'SERVFAIL' } });
});
after(async () => {
  await dns.stop();
  rmSync(dir, { recursive: true });
});

/** The command in this process. */
async function dkim(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const said = { code: 0, stdout: '', stderr: '' };
  const to = (stream: 'stdout' | 'stderr') => ({
    write: (text: string) => {
      said[stream] += text;
      return true;
    },
  });
  const line = {
    ...{ out: to('stdout'), err: to('stderr'), configPath: () => config },
    endsWith: (code: number) => Object.assign(said, { code }),
    usage: (text: string): never => {
      throw new Error(text);
    },
  };
  const program = new Command('protorelay');
  addDkim(program, line as never);
  try {
    await program.parseAsync(['dkim', ...args], { from: 'user' });
  } catch (error) {
    Object.assign(said, { code: 64, stderr: (error as Error).message });
  }
  return said;
}

interface MadeKey {
  name: string;
  value: string;
  strings: string[];
  zone: string;
  bits: number;
  file: string;
}

async function generate(selector: string, ...more: string[]): Promise<MadeKey> {
  const args = ['--domain', 'Example.test', '--selector', selector, '--out', join(dir, `${selector}.pem`)];
  const { code, stdout, stderr } = await dkim('generate', ...args, ...more, '--json');
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout) as MadeKey;
}

test('a key is made, published and checked', async () => {
  const a = await generate('a');
  const b = await generate('b', '--algorithm', 'ed25519');
  assert.equal(statSync(a.file).mode & 0o777, 0o600);
  assert.equal(createPrivateKey(readFileSync(a.file)).asymmetricKeyDetails?.modulusLength, 2048);
  assert.equal(a.name, 'a._domainkey.example.test');
  assert.ok(a.strings.length === 2 && a.strings.every((one) => one.length <= 255));
  assert.equal(a.strings.join(''), a.value);
  assert.match(b.zone, /^b\._domainkey\.example\.test\. IN TXT "v=DKIM1; k=ed25519; p=[A-Za-z0-9+/]{43}="$/);

  const pem = readFileSync(a.file, 'utf8');
  const again = await dkim('generate', '--domain', 'example.test', '--selector', 'a', '--out', a.file);
  assert.deepEqual([again.code, /never written over/.test(again.stderr)], [73, true]);
  assert.equal(readFileSync(a.file, 'utf8'), pem);

  const row = (selector: string, domain = 'example.test') => ({
    domain,
    selector,
    file: join(dir, `${selector}.pem`),
  });
  // What is wrong elsewhere is no concern of these commands.
  writeFileSync(
    config,
    JSON.stringify({
      dkim: { keys: [row('a'), row('b')] },
      dns: { servers: [dns.address], tries: 1 },
      nonsense: 1,
    }),
  );
  const zone = await dkim('dns');
  assert.equal(zone.stdout, `${a.zone}\n${b.zone}\n`);
  dns.set(a.name, { TXT: [a.value] });
  const first = await dkim('check', '--json');
  const states = (JSON.parse(first.stdout) as { keys: { state: string }[] }).keys.map(({ state }) => state);
  assert.deepEqual([first.code, states], [65, ['shown', 'missing']]);
  dns.set(b.name, { TXT: [b.value] });
  const second = await dkim('check');
  assert.deepEqual(
    [second.code, second.stdout],
    [0, `shown       ${a.name} (rsa, 2048 bits)\nshown       ${b.name} (ed25519, 256 bits)\n`],
  );
  dns.set(b.name, { TXT: ['v=DKIM1; k=ed25519; p='] });
  const third = await dkim('check', '--selector', 'b');
  assert.match(third.stdout, /^different .*revoked/);
  const away = await dkim('check', '--file', a.file, '--domain', 'broken.test', '--selector', 'c');
  assert.deepEqual([away.code, /^unanswered /.test(away.stdout)], [75, true]);
});

test('arguments that make no sense, and files that are none, are said', async () => {
  writeFileSync(config, JSON.stringify({ dkim: { keys: [] } }));
  assert.equal((await dkim('check')).stdout, 'dkim.keys of the config is empty\n');
  const where = ['--domain', 'example.test', '--selector', 'x', '--out', join(dir, 'x.pem')];
  for (const [args, code, said] of [
    [['generate', ...where, '--algorithm', 'ed25519', '--bits', '2048'], 64, /--bits is for RSA/],
    [['generate', ...where, '--bits', '512'], 64, /1024 to 4096/],
    [['generate', '--domain', 'a b', '--selector', 'x', '--out', 'y'], 64, /is no domain/],
    [['generate', ...where.slice(0, 4), '--out', join(dir, 'no', 'x.pem')], 73, /cannot be written/],
    [['check', '--domain', 'other.test'], 65, /no such key/],
    [['dns', '--file', config], 64, /needs --domain and --selector/],
    [['dns', '--file', config, '--domain', 'example.test', '--selector', 'x'], 65, /holds no private key/],
  ] as const) {
    const ran = await dkim(...args);
    assert.deepEqual([ran.code, said.test(ran.stderr)], [code, true], `${args.join(' ')}: ${ran.stderr}`);
  }
});
