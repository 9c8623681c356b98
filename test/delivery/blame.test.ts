/** What is our own trouble, and what is the other side's. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isOurs } from '../../src/delivery/client/blame.ts';
import type { Fault } from '../../src/delivery/client/state.ts';
import { moreHopeful } from '../../src/delivery/outcome.ts';
import { DEFERRALS } from '../../src/mail/deferrals.ts';
import type { DeferralReason } from '../../src/mail/outcome.ts';

test('an address that no host can have is the fault of whoever publishes it', () => {
  for (const address of ['255.255.255.255', '224.0.0.1', '0.0.0.0', '::', 'ff02::1', '::ffff:224.0.0.1'])
    for (const error of ['ENETUNREACH', 'EADDRNOTAVAIL'])
      assert.equal(isOurs(error, address), false, address);
  for (const address of ['192.0.2.1', '10.0.0.1', '2001:db8::1', 'fe80::1%eth0', '::ffff:192.0.2.1'])
    assert.equal(isOurs('ENETUNREACH', address), true, address);
  assert.equal(isOurs('ECONNREFUSED', '192.0.2.1'), false);
});

test('what one host says of itself outweighs what this machine lacks for another, in any order', () => {
  const fault = (reason: DeferralReason): Fault => ({ reason, reply: null, detail: reason });
  for (const reason of Object.keys(DEFERRALS) as DeferralReason[]) {
    const local = fault('local_trouble');
    const other = fault(reason);
    if (DEFERRALS[reason].whose === 'ours') continue;
    assert.equal(moreHopeful(local, other, false), other, reason);
    assert.equal(moreHopeful(other, local, false), other, reason);
  }
});
