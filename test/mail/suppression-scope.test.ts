import assert from 'node:assert/strict';
import { test } from 'node:test';
import { byHash, type Suppression, suppressionHash } from '../../src/mail/suppression.ts';
import { listIdOf, speaksOf, suppressionScope } from '../../src/mail/suppression-scope.ts';

test('a scope is all, a class, or a list by its name or its whole List-Id', () => {
  const forms: [string, string | null][] = [
    ['all', 'all'],
    [' Bulk ', 'bulk'],
    ['list:Spring Sale', 'list:spring sale'],
    ['List:The news <News.Shop.example>', 'list:news.shop.example'],
    ['list: ', null],
    ['list:a\nb', null],
    [`list:${'x'.repeat(129)}`, null],
    ['weekly', null],
    ['count:mailbox_full', null],
    ['', null],
  ];
  for (const [written, form] of forms) assert.equal(suppressionScope(written), form, written);
});

test('an entry speaks of all mail, of that of its class (normal where none is named), or of its list', () => {
  const none = (): null => null;
  const never = (): never => assert.fail('nobody asks for the List-Id');
  assert.ok(speaksOf('all', { class: 'bulk' }, never));
  assert.ok(speaksOf('bulk', { class: 'bulk' }, never));
  assert.ok(!speaksOf('bulk', {}, never));
  assert.ok(speaksOf('normal', {}, never));
  assert.ok(speaksOf('list:spring', { campaign: 'Spring' }, never));
  assert.ok(speaksOf('list:news.shop.example', { campaign: 'spring' }, () => 'News.Shop.example'));
  assert.ok(!speaksOf('list:autumn', { campaign: 'spring' }, none));
  assert.ok(!speaksOf('list:bulk', { class: 'bulk' }, none));
});

test('a List-Id is what stands in the last angle brackets', () => {
  assert.equal(listIdOf('"a <b> c" < news.shop.example >'), 'news.shop.example');
  assert.equal(listIdOf('news.shop.example'), null);
  assert.equal(listIdOf('>news<'), null);
});

test('entries are sorted by their hashes, and none is lost', () => {
  const entries = Array.from(
    { length: 3000 },
    (_, i) => ({ tenant: '', target: `u${i}@one.test` }) as Suppression,
  );
  const sorted = byHash(entries);
  assert.deepEqual(new Set(sorted), new Set(entries));
  const upper = sorted.map(({ target }) => Math.floor(suppressionHash('', target) / 2 ** 20));
  assert.ok(upper.every((hash, i) => i === 0 || (upper[i - 1] as number) <= hash));
});
