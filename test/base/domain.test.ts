import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { domainForm, domainKey, domainOf } from '../../src/base/domain.ts';
import { configSchema } from '../../src/config/schema.ts';
import { tlsPolicyOf } from '../../src/delivery/security/tls-policy.ts';
import {
  destinationKey,
  destinationOf,
  reportDestination,
  storedDestination,
} from '../../src/mail/destination.ts';
import { parsePath } from '../../src/protocol/address.ts';

/** Spellings of one domain each, its form first. */
const SPELLINGS = [
  [
    'xn--bcher-kva.test',
    'bücher.test',
    'BÜCHER.Test',
    'XN--BCHER-KVA.TEST',
    'Bücher.test.',
    'bücher。test',
    'bu\u0308cher.test',
  ],
  ['example.com', 'Example.COM', 'example.com.', 'ｅxample.com'],
  ['my_host.example', 'My_Host.Example.'],
  ['xn--strae-oqa.test', 'straße.test'],
  ['[192.0.2.1]', '[192.000.002.001]', '[IPv6:::ffff:192.0.2.1]'],
  ['[ipv6:2001:db8::1]', '[IPv6:2001:DB8:0:0:0:0:0:1]', '[ipv6:2001:0db8::0001]', '[2001:db8::1]'],
  ['[ipv6:::1]', '[::1]', '[IPv6:0:0:0:0:0:0:0:1]'],
  ['[x-tag:abc]', '[X-Tag:ABC]'],
];

test('all spellings of a domain have one form, which is its own', () => {
  for (const [form, ...others] of SPELLINGS)
    for (const one of [form, ...others]) assert.equal(domainForm(one as string), form, one);
});

test('an operator may write the address of a destination without brackets', () => {
  for (const [form, ...written] of [
    ['[192.0.2.1]', '192.0.2.1'],
    ['[ipv6:2001:db8::1]', '2001:DB8::1', 'IPv6:2001:db8:0::1'],
    ['despite-tls:example.com', 'despite-tls:Example.com'],
    ['1.2.3', '1.2.3'],
  ])
    for (const one of [form, ...written]) assert.equal(destinationKey(one as string), form, one);
});

test('what IDNA refuses has none, and an address in disguise is no domain', () => {
  for (const text of ['', '.', 'a\u200b\ufffd.test', '１９２.０.２.１', 'ü'.repeat(300)])
    assert.equal(domainForm(text), null, text);
  // ASCII that looks like numbers stays what it is.
  for (const text of ['1.2.3', '0x7f.1', '123']) assert.equal(domainForm(text), text);
});

test('the form of a form is itself, whatever the text was', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', maxLength: 60 }), (text) => {
      const form = domainForm(text);
      if (form !== null && !form.endsWith('.')) assert.equal(domainForm(form), form);
      assert.equal(domainOf(`a@${text}`), text.includes('@') ? domainOf(text) : domainKey(text));
    }),
    { numRuns: 3000 },
  );
});

test('whichever way a domain is written, in the config, an address, a command or an old row, it meets the same rule', () => {
  const hop = { host: 'h.test', port: 2525 };
  for (const [form, ...others] of SPELLINGS as [string, ...string[]][]) {
    for (const configured of [form, ...others]) {
      const config = configSchema.parse({
        delivery: {
          routes: { [configured]: hop },
          tls: { destinations: { [configured]: { mode: 'verify' } } },
          dane: { destinations: { [configured]: { mode: 'require' } } },
        },
        database: {
          driver: 'mysql_distributed',
          router: { type: 'static', domains: { [configured]: 's' } },
          shards: [{ name: 's' }],
        },
      });
      const { routes, tls, dane } = config.delivery;
      assert.deepEqual([Object.keys(routes), Object.keys(tls.destinations)], [[form], [form]]);
      assert.deepEqual(Object.keys(dane.destinations), [form]);
      assert.ok(config.database.driver === 'mysql_distributed');
      assert.deepEqual(Object.keys(config.database.router.domains), [form]);
      const table = { smarthost: true, routed: new Set(Object.keys(routes)) };
      for (const met of [form, ...others]) {
        assert.equal(destinationOf(domainOf(`x@${met}`), table), form, `a report to ${met}`);
        assert.equal(destinationKey(met), form, 'of a queue command');
        assert.equal(storedDestination(met, table), form, 'as an older version stored it');
        assert.equal(reportDestination(form, table), form);
        assert.equal(tlsPolicyOf(config.delivery, met).mode, 'verify');
        const path = parsePath(`<x@${met}>`, 0);
        if (path === null) continue;
        assert.equal(path.domain, form, `RCPT TO:<x@${met}>`);
        assert.equal(path.address, `x@${met}`, 'as written');
      }
    }
  }
});
