import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkRules } from '../../src/config/rules.ts';
import { configSchema } from '../../src/config/schema.ts';

/** What is wrong with a config, as `key: message`. */
function problems(settings: object): string[] {
  return checkRules(configSchema.parse(settings), () => false).problems.map(
    ({ path, message }) => `${path.join('.')}: ${message}`,
  );
}

test('attributes that make no sense stop the start', () => {
  const table: [object, string | null][] = [
    [{ attributes: { trusted_networks: ['10.0.0.0/8', '2001:db8::1'] } }, null],
    [{ attributes: { trusted_networks: ['10.0.0.1/8'] } }, 'attributes.trusted_networks.0: "10.0.0.1/8" is a host in the network 10.0.0.0/8'],
    [{ attributes: { trusted_networks: ['0.0.0.0/0'] } }, 'attributes.trusted_networks.0: "0.0.0.0/0" is so much of the world that anybody could claim to be any tenant'],
    [{ attributes: { headers: { tenant: 'Subject' } } }, 'attributes.headers.tenant: "Subject" cannot be it: it is taken out of every message'],
    [{ attributes: { headers: { tenant: 'x-protorelay-pool' } } }, 'attributes.headers.pool: is attributes.headers.tenant too'],
    [{ attributes: { headers: { tenant: '', pool: '' } } }, null],
    [{ attributes: { rules: [{ match: { listener: '*' }, set: { class: 'bulk' }, strangers: true }] } }, 'attributes.rules.0.strangers: has no effect: the rule is not by sender_domain or from_domain alone'],
    [{ attributes: { rules: [{ set: {} }] } }, 'attributes.rules.0.set: sets nothing'],
    [{ attributes: { rules: [{ set: { tenant: 'x' } }] }, tenants: [{ name: 'y' }] }, 'attributes.rules.0.set.tenant: "x" is none of tenants'],
    [{ attributes: { rules: [{ match: { listener: ['127.0.0.1:*', 'smtp'] }, set: { class: 'bulk' } }] } }, 'attributes.rules.0.match.listener: no listener is named "smtp"'],
    [{ tenants: [{ name: 'y' }, { name: 'y' }] }, 'tenants.1.name: is the name of tenants[0] too'],
    [{ added_headers: { list_id: '{campaign}.{list}.example.com' } }, 'added_headers.list_id: has "{list}"'],
    [{ added_headers: { list_id: '<{campaign}.example.com>' } }, 'added_headers.list_id: must be a name such as {campaign}.lists.example.com, is "<{campaign}.example.com>"'],
    [{ added_headers: { list_id: '{campaign}.example.com', cfbl_address: 'a@b.example' } }, null],
    [{ added_headers: { cfbl_address: 'a b' } }, 'added_headers.cfbl_address: must be an address such as complaints@example.com, is "a b"'],
  ]; // biome-ignore format: a table
  for (const [settings, problem] of table)
    assert.deepEqual(problems(settings), problem === null ? [] : [problem], JSON.stringify(settings));
});

test('a complaint address without signatures is warned of', () => {
  const of = (settings: object): number =>
    checkRules(
      configSchema.parse({ added_headers: { cfbl_address: 'a@b.example' }, ...settings }),
      () => false,
    ).warnings.filter(({ path }) => path[0] === 'added_headers').length;
  const keys = [{ domain: 'b.example', selector: 's1', file: 's1.pem' }];
  assert.deepEqual([of({}), of({ dkim: { keys } }), of({ dkim: { keys, enabled: false } })], [1, 0, 1]);
});

test('a rule for strangers, and one that holds for nobody, are warned of', () => {
  const rule = { match: { sender_domain: 'shop.test' }, set: { tenant: 'shop' } };
  const of = (attributes: object): string[] =>
    checkRules(configSchema.parse({ attributes }), () => false)
      .warnings.filter(({ path }) => path[0] === 'attributes')
      .map(({ message }) => message.split(' ', 4).join(' '));
  assert.deepEqual(of({ rules: [rule] }), []);
  assert.deepEqual(of({ rules: [{ ...rule, strangers: true }] }), ['gives what it sets']);
  assert.deepEqual(of({ rules: [rule], trust_authenticated: false }), ['holds for no mail:']);
});
