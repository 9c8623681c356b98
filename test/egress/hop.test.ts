import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseProxy } from '../../src/config/egress-proxy.ts';
import { hopTo } from '../../src/egress/hop.ts';

test('proxies as they are written', () => {
  assert.deepEqual(parseProxy('socks5://192.0.2.1'), {
    kind: 'socks5', address: '192.0.2.1', port: 1080, user: '', password: '',
  }); // biome-ignore format: short
  assert.deepEqual(parseProxy('socks5://u%3A:p%40:q@[2001:db8::1]:99/'), {
    kind: 'socks5', address: '2001:db8::1', port: 99, user: 'u:', password: 'p@:q',
  }); // biome-ignore format: short
  assert.deepEqual(parseProxy('haproxy://192.0.2.1:5000'), {
    kind: 'haproxy', address: '192.0.2.1', port: 5000, user: '', password: '',
  }); // biome-ignore format: short
});

test('what is wrong is said without the password', () => {
  for (const text of [
    '',
    'socks4://192.0.2.1:1',
    'socks5://proxy.example:1080',
    'socks5://192.0.2.1:0',
    'socks5://192.0.2.1:65536',
    'haproxy://192.0.2.1',
    'haproxy://u:sesam@192.0.2.1:1',
    'socks5://u@192.0.2.1',
    'socks5://u:@192.0.2.1',
    'socks5://:sesam@192.0.2.1',
    'socks5://u:sesam%@192.0.2.1',
    `socks5://u:sesam${'x'.repeat(255)}@192.0.2.1`,
    'socks5://192.0.2.1:1/path',
    'socks5://[192.0.2.1',
    'socks5://u:sesam@h:1@192.0.2.1',
  ]) {
    // biome-ignore format: a list
    const parsed = parseProxy(text);
    assert.ok('wrong' in parsed, text);
    assert.doesNotMatch(parsed.wrong, /sesam/);
  }
});

test('HAProxy is told LOCAL where there is no source of the peer’s family', () => {
  const proxy = { kind: 'haproxy', address: '192.0.2.1', port: 1, user: '', password: '' } as const;
  for (const source of ['', '2001:db8::1'])
    assert.deepEqual([...hopTo(proxy, '192.0.2.9', 25, source).request.subarray(12)], [0x20, 0, 0, 0]);
  assert.equal(hopTo(proxy, '2001:db8::9', 25, '2001:db8::1').request.length, 12 + 4 + 36);
});
