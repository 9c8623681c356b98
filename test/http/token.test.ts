/** Tokens: what is made of them, what is kept of them, and what each may do. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { changeFile } from '../../src/base/changed-file.ts';
import { isOfToken, mayDo, newToken, ROLES, type Token, tokenId } from '../../src/http/token.ts';
import { changeTokens, readTokens, TokenBook } from '../../src/http/token-file.ts';
import { runHere } from '../support/command-line.ts';

const GIVEN: Omit<Token, 'id' | 'sha256'> = {
  name: 'shop',
  role: 'inject',
  tenants: ['shop'],
  networks: [],
  created_at: '2026-12-01T00:00:00.000Z',
  ends_at: null,
};

function folder(t: { after(end: () => void): void }): string {
  const made = mkdtempSync(join(tmpdir(), 'tokens-'));
  t.after(() => rmSync(made, { recursive: true, force: true }));
  return made;
}

test('a token is known by its id and its whole text, and its secret is kept nowhere', (t) => {
  const path = join(folder(t), 'tokens.json');
  const { token, text } = newToken(GIVEN);
  assert.match(text, /^pr_[0-9A-Za-z]{8}_[0-9A-Za-z]{32}$/);
  assert.equal(tokenId(text), token.id);
  for (const wrong of ['', 'pr_', text.slice(0, -1), `${text}x`, text.toLowerCase().replace('pr_', 'PR_')])
    assert.equal(tokenId(wrong), null, wrong);
  assert.ok(isOfToken(token, text));
  assert.ok(!isOfToken(token, newToken(GIVEN).text));
  changeTokens(path, () => [token]);
  assert.deepEqual(readTokens(path), [token]);
  assert.ok(!readFileSync(path, 'utf8').includes(text.slice(-32)));
  assert.equal(statSync(path).mode & 0o777, 0o600);
});

test('each role may do what those before it may; inject is apart', () => {
  const table = ROLES.map((role) => [role, ROLES.filter((needed) => mayDo(role, needed))]);
  assert.deepEqual(Object.fromEntries(table), {
    viewer: ['viewer'],
    operator: ['viewer', 'operator'],
    admin: ['viewer', 'operator', 'admin', 'inject'],
    inject: ['inject'],
  });
});

test('the book follows its file; one that cannot be read leaves what was known', (t) => {
  const path = join(folder(t), 'tokens.json');
  const book = new TokenBook(path);
  book.refresh();
  assert.equal(book.size, 0);
  const [one, two] = [newToken(GIVEN).token, newToken(GIVEN).token];
  changeTokens(path, () => [one, two]);
  book.refresh();
  assert.deepEqual([book.find(one.id)?.token, book.size], [one, 2]);
  for (const wrong of ['{', '[]', '{"tokens":[{"id":"x"}]}', '{"tokens":[],"more":1}']) {
    writeFileSync(path, wrong);
    assert.throws(() => book.refresh(), {
      code: 'config_invalid',
      message: /tokens\.json is no file of tokens: /,
    });
    assert.equal(book.size, 2);
    // Said once.
    book.refresh();
    // For a token that nobody knows it is read again, and then said again.
    writeFileSync(path, `${wrong} `);
    assert.equal(book.reread(), false);
    assert.throws(() => book.refresh(), { code: 'config_invalid' });
  }
  for (const make of [() => mkdirSync(path), () => symlinkSync('/dev/zero', path)]) {
    rmSync(path, { recursive: true });
    make();
    assert.throws(() => book.refresh(), { code: 'config_invalid', message: /tokens\.json (is|cannot) / });
    assert.equal(book.size, 2);
  }
  rmSync(path);
  changeFile(path, () => JSON.stringify({ tokens: [two] }));
  assert.deepEqual([book.reread(), book.find(one.id), book.find(two.id)?.token], [true, undefined, two]);
  assert.equal(book.reread(), false);
  changeTokens(join(path, '../other.json'), () => []);
  rmSync(path);
  book.refresh();
  assert.equal(book.size, 0);
});

test('token create, list, revoke', async (t) => {
  const config = join(folder(t), 'relay.json');
  writeFileSync(config, '{}');
  const made = await runHere(config, [
    ...['token', 'create', '--role', 'inject', '--name', 'the shop', '--tenant', 'a', '--tenant', 'b'],
    ...['--network', '192.0.2.0/24', '--for', '90d', '--json'],
  ]);
  assert.equal(made.code, 0, made.stderr);
  const answer = JSON.parse(made.stdout) as Record<string, string>;
  assert.match(answer.token ?? '', /^pr_/);
  const { token: _, ...told } = answer;
  const listed = await runHere(config, ['token', 'list', '--json']);
  assert.deepEqual(JSON.parse(listed.stdout), { tokens: [told] });
  assert.deepEqual(told, {
    id: answer.id,
    name: 'the shop',
    role: 'inject',
    tenants: ['a', 'b'],
    networks: ['192.0.2.0/24'],
    created_at: answer.created_at,
    ends_at: new Date(Date.parse(answer.created_at ?? '') + 90 * 86_400_000).toISOString(),
  });
  const text = await runHere(config, ['token', 'list']);
  assert.match(
    text.stdout,
    /^\w{8} {2}inject {4}since \S+ {2}until \S+ {2}tenants a, b {2}from 192\.0\.2\.0\/24 {2}the shop\n$/,
  );
  const revoked = await runHere(config, ['token', 'revoke', answer.id ?? '', 'nothere1']);
  assert.deepEqual([revoked.code, revoked.stdout], [65, `${answer.id} revoked  the shop\n`]);
  assert.match(revoked.stderr, /there is no token nothere1/);
  assert.match((await runHere(config, ['token', 'list'])).stdout, /^no tokens in /);
});

test('token create refuses what makes no sense', async (t) => {
  const config = join(folder(t), 'relay.json');
  writeFileSync(config, '{}');
  const cases: [string[], RegExp][] = [
    [['--name', 'n'], /--role/],
    [['--role', 'root', '--name', 'n'], /Allowed choices are viewer, operator, admin, inject/],
    [['--role', 'admin'], /--name/],
    [['--role', 'admin', '--name', 'a\nb'], /one line/],
    [['--role', 'admin', '--name', 'n', '--network', 'elsewhere'], /no address or network/],
    [['--role', 'admin', '--name', 'n', '--tenant', ''], /no name of a tenant/],
    [['--role', 'admin', '--name', 'n', '--for', 'ever'], /as 12h/],
  ];
  for (const [words, said] of cases) {
    const { code, stderr } = await runHere(config, ['token', 'create', ...words]);
    assert.equal(code, 64, words.join(' '));
    assert.match(stderr, said);
  }
});
