/** What README and docs give to paste does what they say: each `sh` block goes into a shell as it stands, as one block. */
import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { type TestContext, test } from 'node:test';
import { loadConfig } from '../../src/config/load.ts';
import { type Ran, run } from '../support/child.ts';

const root = resolve(import.meta.dirname, '../..');
const pages = [
  'README.md',
  'bench/README.md',
  ...readdirSync(join(root, 'docs')).map((name) => `docs/${name}`),
]
  .filter((page) => page.endsWith('.md'))
  .map((page) => ({ page, text: readFileSync(join(root, page), 'utf8') }));
const blocks = pages.flatMap(({ page, text }) =>
  [...text.matchAll(/^```(?:sh|bash)\n(.*?)^```$/gms)].map(([, block = '']) => ({ page, block })),
);

/** The block that has these words. */
function blockWith(words: string): string {
  const found = blocks.filter(({ block }) => block.includes(words));
  assert.equal(found.length, 1, `blocks with ${words}`);
  return found[0]?.block as string;
}

/** Pastes it into a shell in the project's folder; what a command reads is what stands behind it, as at a terminal. */
function paste(block: string, typed = '', env: Record<string, string> = {}): Promise<Ran> {
  return run('bash', [], { cwd: root, input: `${block}${typed}`, env, timeoutMs: 60_000 });
}

/** An installation's `protorelay` on PATH, with a config of its own. */
function installed(t: TestContext, config: object): Record<string, string> {
  const dir = mkdtempSync(join(tmpdir(), 'readme-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  writeFileSync(join(dir, 'relay.json'), JSON.stringify({ data_dir: 'data', ...config }));
  writeFileSync(
    join(dir, 'protorelay'),
    `#!/bin/sh\nexec '${root}/bin/protorelay' -c '${dir}/relay.json' "$@"\n`,
  );
  chmodSync(join(dir, 'protorelay'), 0o755);
  return { PATH: `${dir}:${process.env.PATH}` };
}

async function freePort(): Promise<string> {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((listening) => server.once('listening', listening));
  const { port } = server.address() as AddressInfo;
  await new Promise((closed) => server.close(closed));
  return String(port);
}

test('blocks to paste are whole commands: no synopsis, no placeholder', async () => {
  assert.ok(blocks.length >= 6, 'blocks were found');
  for (const { page, block } of blocks) {
    const { code, stderr } = await run('bash', ['-n'], { input: block });
    assert.equal(code, 0, `${page}: ${stderr}`);
    // An option in brackets, a word in capitals, and a job's number, which is another one where jobs run already.
    assert.doesNotMatch(block, / \[-|…| [A-Z][A-Z-]+$| %\d/m, `${page}: ${block}`);
  }
});

test('parts of a config that docs and changelog give to copy are good ones', () => {
  const environment = new Proxy<Record<string, string>>({}, { get: () => 'x' });
  const changelog = readFileSync(join(root, 'CHANGELOG.md'), 'utf8');
  const parts = [...pages, { page: 'CHANGELOG.md', text: changelog }].flatMap(({ page, text }) =>
    [
      ...[...text.matchAll(/^```jsonc\n(.*?)^```$/gms)].map(([, part = '']) => part),
      ...[...text.matchAll(/`("(?:policy|smtp|auth|delivery|listeners|dns)": [[{][^`]*[\]}])`/g)].map(
        ([, part = '']) => part,
      ),
    ].map((part) => ({ page, part })),
  );
  assert.ok(parts.length > 10, 'parts were found');
  for (const { page, part } of parts)
    assert.doesNotThrow(
      () => loadConfig('/etc/relay.json', environment, { read: () => `{${part}}` }),
      `${page}: ${part}`,
    );
});

test('programs of the project are started by build.sh, whatever node is on PATH', () => {
  for (const { page, text } of pages) assert.doesNotMatch(text, /\bnode (?:src|bench|test)\//, page);
});

test('README, a first message: from nothing to a message that is read back, and nothing is left running', {
  timeout: 90_000,
}, async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'readme-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const { code, stdout, stderr } = await paste(blockWith('TRY_PORT='), 'wait\n', {
    TRY_PORT: await freePort(),
    TRY_DIR: dir,
  });
  assert.equal(code, 0, stderr);
  assert.equal(stderr, '');
  assert.match(stdout, /^\S+ +pending .* example\.com +<me@example\.com>$/m);
  assert.match(stdout, /Subject: hello\r?\n\r?\nFirst message\.\r?\n$/);
  const log = readFileSync(join(dir, 'relay.log'), 'utf8');
  assert.match(log, /relay\.stopped exit_code=0/);
});

test('docs/auth.md: a user is added before the first start', async (t) => {
  const env = installed(t, { auth: { backends: [{ type: 'file', path: 'users.txt' }] } });
  const before = await paste('protorelay user list\n', '', env);
  assert.match(before.stdout, /^no users in .*users\.txt\n$/);
  const added = await paste(blockWith('protorelay user add'), 'secret\n', env);
  assert.equal(added.code, 0, added.stderr);
  const after = await paste('protorelay user list\n', '', env);
  assert.match(after.stdout, /^alice +scram-sha-256 +senders=alice@example\.com +messages_per_day=500\n$/);
});

test('docs/policy.md: bans of a relay that has never run', async (t) => {
  const { code, stdout, stderr } = await paste(blockWith('protorelay ban add'), '', installed(t, {}));
  assert.equal(code, 0, stderr);
  assert.match(stdout, /^2001:db8::\/48 .*until .*\n192\.0\.2\.7 is served again\n$/m);
});

test('docs/http.md: health, a token, and the status it lets see', { timeout: 90_000 }, async (t) => {
  const port = await freePort();
  const http = { enabled: true, port: Number(port) };
  const listeners = [{ host: '127.0.0.1', port: Number(await freePort()) }];
  const env = installed(t, { listeners, delivery: { enabled: false }, http });
  const block = blockWith('token create').replaceAll('8025', port);
  const start = `protorelay > /dev/null 2>&1 &
until curl -s http://127.0.0.1:${port}/health/ready | grep -q true; do sleep 0.2; done
`;
  const { code, stdout, stderr } = await paste(`${start}${block}kill $!; wait $!\n`, '', env);
  assert.equal(code, 0, stderr);
  assert.match(stdout, /^\{"ready":true,.*\}\{"running":true,"healthy":true,/);
});
