/** What is refused of `http`, before anything listens. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { loadConfig } from '../../src/config/load.ts';

const folder = mkdtempSync(join(tmpdir(), 'http-rules-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const path = join(folder, 'relay.json');

function problems(http: object): string {
  writeFileSync(path, JSON.stringify({ hostname: 'mx.example.com', http }));
  try {
    return loadConfig(path).warnings.join('\n');
  } catch (error) {
    return (error as Error).message;
  }
}

const ON = { enabled: true };
const REFUSED: [string, object, RegExp][] = [
  ['elsewhere in the clear', { ...ON, host: '0.0.0.0' }, /http\.host: 0\.0\.0\.0 is reached from elsewhere/],
  ['elsewhere in the clear, IPv6', { ...ON, host: '::' }, /http\.host: :: is reached from elsewhere/],
  ['a name', { ...ON, host: 'relay.example.com' }, /"relay\.example\.com" is no address/],
  ['a key alone', { tls: { key_file: 'k.pem' } }, /http\.tls\.cert_file: is needed with http\.tls\.key_file/],
  ['no proxy named', { behind_proxy: true }, /http\.trusted_proxies: is needed with http\.behind_proxy/],
  ['no network', { behind_proxy: true, trusted_proxies: ['x'] }, /trusted_proxies\[0\]: must be a network/],
  [
    'host bits',
    { behind_proxy: true, trusted_proxies: ['10.0.0.1/8'] },
    /is a host in the network 10\.0\.0\.0\/8/,
  ],
  ['no host name', { allowed_hosts: ['a b'] }, /allowed_hosts\[0\]/],
  ['an odd proxy list', { trusted_proxies: ['10.0.0.1'] }, /does nothing without http\.behind_proxy/],
  ['an unknown key', { prot: 1 }, /http\.prot.*port/],
];
for (const [name, http, said] of REFUSED)
  test(`http with ${name}`, () => {
    assert.match(problems(http), said);
  });

test('what may be, on loopback and beyond', () => {
  for (const http of [
    ON,
    { ...ON, host: 'localhost' },
    { ...ON, host: '::1' },
    { ...ON, host: '0.0.0.0', tls: { cert_file: 'c.pem' } },
    { ...ON, host: '0.0.0.0', behind_proxy: true, trusted_proxies: ['10.0.0.0/8'] },
    { enabled: false, host: '0.0.0.0' },
  ])
    assert.equal(problems(http), '', JSON.stringify(http));
});

test('metrics: networks are networks, and of use', () => {
  const said = (config: object): string => {
    writeFileSync(path, JSON.stringify({ hostname: 'mx.example.com', ...config }));
    try {
      return loadConfig(path).warnings.join('\n');
    } catch (error) {
      return (error as Error).message;
    }
  };
  const metrics = { anonymous_networks: ['10.0.0.0/8'] };
  assert.match(
    said({ http: ON, metrics: { anonymous_networks: ['x'] } }),
    /anonymous_networks\[0\]: must be a network/,
  );
  assert.match(said({ metrics }), /metrics\.anonymous_networks: does nothing without/);
  assert.match(said({ http: ON, metrics: { ...metrics, enabled: false } }), /does nothing without/);
  assert.equal(said({ http: ON, metrics }), '');
});
