/** Tokens in return paths: what they say, and that nobody else can make one. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ReturnPaths } from '../../src/mail/return-path.ts';

const complaintsAt = ['fbl'];
const paths = (...secrets: string[]) => new ReturnPaths({ domain: 'bounce.test', secrets, complaintsAt });
const ours = paths('a secret that is long enough');
const ID = '01kbc0zmq0040012';
const localOf = (address: string) => address.slice(0, address.lastIndexOf('@'));

const digit = fc.constantFrom(...'0123456789abcdefghjkmnpqrstvwxyz');
const queueIds = fc.array(digit, { minLength: 15, maxLength: 16 }).map((all) => all.join(''));
const indexes = fc.integer({ min: 0, max: 0xffff_ffff });
const tenants = fc.string({ maxLength: 30, unit: 'grapheme' });

test('a token says what it was made of, in whatever case it comes back, in a local part of at most 64 octets', () => {
  fc.assert(
    fc.property(queueIds, indexes, fc.emailAddress(), tenants, (queueId, index, recipient, tenant) => {
      const address = ours.addressFor(queueId, index, recipient, tenant);
      assert.ok(localOf(address).length <= 64, address);
      for (const one of [address, address.toUpperCase()]) {
        const token = ours.readAddress(one);
        assert.deepEqual([token?.queueId, token?.index], [queueId, index]);
        assert.ok(token?.tenant === tenant || (token?.tenant === null && Buffer.byteLength(tenant) > 10));
        assert.ok(token?.isFor(recipient));
        assert.ok(!token?.isFor(`x${recipient}`));
      }
    }),
  );
});

test('no token with another character, cut, longer, or of another secret is taken', () => {
  const local = localOf(ours.addressFor(ID, 3, 'user@example.com', 'shop'));
  const token = local.slice(2);
  for (let i = 0; i < token.length; i++)
    for (const other of 'abcdefghijklmnopqrstuvwxyz234567')
      if (other !== token[i])
        assert.equal(ours.read(`b+${token.slice(0, i)}${other}${token.slice(i + 1)}`), null);
  for (let i = 0; i < token.length; i++) assert.equal(ours.read(`b+${token.slice(0, i)}`), null);
  assert.equal(ours.read(`${local}a`), null);
  assert.equal(ours.read(`c${local.slice(1)}`), null);
  assert.equal(paths('another secret, as long as that').read(local), null);
  assert.equal(ours.readAddress(`${local}@bounce.example`), null);
});

test('whatever stands there is read without an error', () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 80 }), (text) => {
      assert.equal(ours.read(text), null);
      assert.equal(ours.read(`b+${text}`), null);
      assert.equal(ours.readAddress(text), null);
    }),
  );
});

test('while secrets change, tokens of both are taken, and the first makes them', () => {
  const old = ours.addressFor(ID, 0, 'user@example.com', '');
  const both = paths('the new secret, long enough too', 'a secret that is long enough');
  assert.equal(both.readAddress(old)?.queueId, ID);
  assert.ok(both.readAddress(old)?.isFor('USER@Example.com'));
  assert.equal(ours.readAddress(both.addressFor(ID, 0, 'user@example.com', '')), null);
});
