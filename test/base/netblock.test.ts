import assert from 'node:assert/strict';
import { test } from 'node:test';
import { netblockOf } from '../../src/base/netblock.ts';

test('an address belongs to its /24, or its /64, however it is written', () => {
  const blocks: Record<string, string> = {
    '192.0.2.77': '192.0.2.0/24',
    '192.0.2.1': '192.0.2.0/24',
    '::ffff:192.0.2.9': '192.0.2.0/24',
    '2001:db8:1:2:3::4': '2001:db8:1:2::/64',
    '2001:0DB8:0001:0002::': '2001:db8:1:2::/64',
    '2001:db8::1': '2001:db8::/64',
    '2001:db8:0:1::1': '2001:db8:0:1::/64',
    '::1': '::/64',
    'fe80::1%eth0': 'fe80::/64',
    '1::2:3:4:5:6': '1:0:0:2::/64',
    '': '',
    'mx.example': '',
    '192.0.2': '',
  };
  for (const [address, block] of Object.entries(blocks)) assert.equal(netblockOf(address), block, address);
});
