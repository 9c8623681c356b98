import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Config, configSchema } from '../../src/config/schema.ts';
import type { Attributes } from '../../src/mail/attributes.ts';
import { firstAddress } from '../../src/protocol/from-domain.ts';
import { REPLY, Reply } from '../../src/protocol/reply.ts';
import { AttributeRules } from '../../src/session/attribute-rules.ts';
import { type Submission, takeAttributes } from '../../src/session/attributes.ts';
import { PlainArena } from './plain-reactor.ts';

const NOW = Date.UTC(2026, 2, 1);
const HEADER = 'From: A <a@shop.test>\r\nSubject: x\r\n';

interface Took {
  attributes: Attributes | undefined | string;
  content: string;
}

const attributesConfig = (settings: object): Config => configSchema.parse(settings);

/** @param fields lines of the header, without their line ends. */
function take(fields: string[], config: object = {}, change: Partial<Submission> = {}): Took {
  const arena = new PlainArena();
  const text = `${fields.map((line) => `${line}\r\n`).join('')}${HEADER}\r\nX-ProtoRelay-Tenant: body\r\n`;
  const content = arena.store(Buffer.from(text));
  const rules = new AttributeRules(attributesConfig(config));
  const submission: Submission = {
    content,
    user: 'ann',
    address: '192.0.2.1',
    listener: 'smtp',
    reversePath: 'bounce@Mail.shop.test',
    nowMs: NOW,
    ...change,
  };
  const took = takeAttributes(rules, arena, submission);
  const left = arena.bytes(content).toString();
  assert.ok(left.endsWith('\r\n\r\nX-ProtoRelay-Tenant: body\r\n'), 'the body is not touched');
  const attributes = took instanceof Reply ? took.line.trimEnd() : took;
  return { attributes, content: left.slice(0, -'\r\nX-ProtoRelay-Tenant: body\r\n'.length) };
}

const said = (fields: string[], config: object = {}, change: Partial<Submission> = {}) =>
  take(fields, config, change).attributes;

test('fields of a user become attributes, and are taken out', () => {
  const { attributes, content } = take([
    'X-ProtoRelay-Tenant: shop',
    'X-ProtoRelay-Campaign: =?utf-8?q?M=C3=A4rz?=',
    'X-Other: stays',
    'x-protorelay-class: URGENT',
    'X-PROTORELAY-POOL:warm',
    'X-ProtoRelay-Metadata: {"order": 7,',
    '\t"who":"\u00e4\u20ac"}',
    'X-ProtoRelay-Deadline: 12h',
    'X-ProtoRelay-Priority-Hint: 80',
    'X-ProtoRelayed: stays',
  ]);
  assert.deepEqual(attributes, {
    tenant: 'shop',
    campaign: 'M\u00e4rz',
    class: 'urgent',
    pool: 'warm',
    metadata: '{"order":7,"who":"\u00e4\u20ac"}',
    deadlineMs: NOW + 43_200_000,
    priorityHint: 80,
  });
  assert.equal(content, `X-Other: stays\r\nX-ProtoRelayed: stays\r\n${HEADER}`);
});

test('a message without such fields has none, and stays as it is', () => {
  assert.deepEqual(take([]), { attributes: undefined, content: HEADER });
});

test('whom the fields are believed of; of all others they are taken out', () => {
  const fields = ['X-ProtoRelay-Class: bulk'];
  const nobody = { user: undefined };
  const table: [object, Partial<Submission>, boolean][] = [
    [{}, {}, true],
    [{ attributes: { trust_authenticated: false } }, {}, false],
    [{}, nobody, false],
    [{}, { ...nobody, address: 'unix' }, true],
    [{}, { ...nobody, address: 'unknown' }, false],
    [{ attributes: { trusted_networks: ['192.0.2.0/24'] } }, nobody, true],
    [{ attributes: { trusted_networks: ['192.0.2.0/24'] } }, { ...nobody, address: '198.51.100.1' }, false],
    [{ attributes: { trusted_networks: ['2001:db8::/32'] } }, { ...nobody, address: '2001:db8::1' }, true],
  ];
  for (const [config, change, believed] of table)
    assert.deepEqual(
      take(fields, config, change),
      { attributes: believed ? { class: 'bulk' } : undefined, content: HEADER },
      JSON.stringify([config, change]),
    );
  // What a stranger says wrongly is no reason to refuse.
  assert.equal(said(['X-ProtoRelay-Class: fast'], {}, nobody), undefined);
});

test('white space before the colon, however much, hides no field', () => {
  for (const blanks of ['', ' ', '\t ', ...[58, 59, 60, 61, 62, 979].map((count) => ' '.repeat(count))]) {
    const fields = [`X-ProtoRelay-Class${blanks}: bulk`, `X-Job${blanks}:spring`];
    const config = { attributes: { aliases: ['powermta'] } };
    const found = { class: 'bulk', campaign: 'spring' };
    assert.deepEqual(take(fields, config), { attributes: found, content: HEADER }, `${blanks.length}`);
  }
  // A name has no blank within, and ends on its line.
  const others = ['X-ProtoRelay-Class x: bulk', 'X-ProtoRelay-Class', 'X-ProtoRelay-Class \t'];
  assert.deepEqual(take(others), {
    attributes: undefined,
    content: `${others.join('\r\n')}\r\n${HEADER}`,
  });
});

test('what is wrong with a field of a trusted client is said in the refusal', () => {
  const long = 'x'.repeat(129);
  const deep = `${'{"a":'.repeat(17)}1${'}'.repeat(17)}`;
  const table: [string[], RegExp][] = [
    [['X-ProtoRelay-Class: fast'], /class must be one of urgent, normal, bulk$/],
    [['X-ProtoRelay-Tenant:'], /tenant must be a text of 1 to 128 characters$/],
    [[`X-ProtoRelay-Campaign: ${long}`], /campaign must be a text/],
    [['X-ProtoRelay-Pool: =?utf-8?q?a=0Ab?='], /pool must be a text/],
    [['X-ProtoRelay-Metadata: [1]'], /metadata must be a JSON object of at most 2048 octets$/],
    [['X-ProtoRelay-Metadata: {"a":'], /metadata must be/],
    [[`X-ProtoRelay-Metadata: {"a":"${'x'.repeat(2048)}"}`], /metadata must be/],
    [[`X-ProtoRelay-Metadata: ${deep}`], /metadata must be/],
    [['X-ProtoRelay-Deadline: tomorrow'], /deadline must be a time/],
    [['X-ProtoRelay-Deadline: 2026-03-01T00:00'], /deadline must be a time/],
    [['X-ProtoRelay-Deadline: 2027-02-30T00:00:00Z'], /deadline must be a time/],
    [['X-ProtoRelay-Deadline: 2026-02-28T23:59:59Z'], /deadline is over$/],
    [['X-ProtoRelay-Deadline: 366d'], /deadline must be within a year$/],
    [['X-ProtoRelay-Tenant: a', 'X-ProtoRelay-Tenant: a'], /tenant is given twice$/],
  ];
  for (const [fields, expected] of table) {
    const reply = said(fields) as string;
    assert.match(reply, /^550 5\.6\.0 Bad attribute: x-protorelay-/);
    assert.match(reply, expected);
  }
  assert.deepEqual(said(['X-ProtoRelay-Deadline: 2026-03-01T02:00:00.5+01:00']), {
    deadlineMs: NOW + 3_600_500,
  });
});

describe('names of fields', () => {
  test('their names are those of the config; the others stay in the message', () => {
    const config = { attributes: { headers: { tenant: 'X-Customer', class: '' } } };
    const { attributes, content } = take(['X-Customer: shop', 'X-ProtoRelay-Class: bulk'], config);
    assert.deepEqual(attributes, { tenant: 'shop' });
    assert.equal(content, `X-ProtoRelay-Class: bulk\r\n${HEADER}`);
  });

  test('fields of other relays mean the same where they are listed', () => {
    const fields = ['x-virtual-mta: v1', 'X-Job: j1', 'X-Tenant: t1', 'X-Campaign: j1'];
    assert.deepEqual(take(fields).content, `${fields.join('\r\n')}\r\n${HEADER}`);
    const both = { attributes: { aliases: ['powermta', 'kumomta'] } };
    assert.deepEqual(take(fields, both), {
      attributes: { pool: 'v1', campaign: 'j1', tenant: 't1' },
      content: HEADER,
    });
    assert.match(
      said(['X-Job: j1', 'X-ProtoRelay-Campaign: j2'], both) as string,
      /x-protorelay-campaign and x-job differ$/,
    );
  });
});

test('rules give what no field says, the first that matches; one that overrides gives it in any case', () => {
  const rules = [
    { match: { user: 'ANN', from_domain: '*.other.test' }, set: { tenant: 'wrong' } },
    { match: { user: ['bob', 'an?'] }, set: { tenant: 'shop' }, override: true },
    {
      match: { sender_domain: 'mail.SHOP.test', from_domain: 'shop.test' },
      set: { campaign: 'daily', class: 'normal' },
    },
    { match: { listener: 'smtp' }, set: { class: 'bulk', pool: 'slow', deadline_ms: 5000 } },
    { set: { tenant: 'last' } },
  ];
  const config = { attributes: { rules } };
  const all = { tenant: 'shop', campaign: 'daily', class: 'normal', pool: 'slow', deadlineMs: NOW + 5000 };
  assert.deepEqual(said([], config), all);
  const fields = ['X-ProtoRelay-Tenant: mine', 'X-ProtoRelay-Class: urgent', 'X-ProtoRelay-Deadline: 1h'];
  assert.deepEqual(said(fields, config), { ...all, class: 'urgent', deadlineMs: NOW + 3_600_000 });
  assert.deepEqual(said(fields, config, { user: undefined, listener: 'other', reversePath: '' }), {
    tenant: 'last',
  });
});

test('a rule by domain alone is for clients that are believed, unless it says otherwise', () => {
  const stranger = { user: undefined };
  const rule = (match: object, more: object = {}) => ({
    attributes: {
      trusted_networks: ['198.51.100.0/24'],
      rules: [{ match, set: { tenant: 'shop' }, ...more }],
    },
  });
  for (const match of [{ sender_domain: 'mail.shop.test' }, { from_domain: 'shop.test' }]) {
    assert.deepEqual(said([], rule(match)), { tenant: 'shop' });
    assert.equal(said([], rule(match), stranger), undefined);
    assert.deepEqual(said([], rule(match), { ...stranger, address: '198.51.100.7' }), { tenant: 'shop' });
    assert.deepEqual(said([], rule(match), { ...stranger, address: 'unix' }), { tenant: 'shop' });
    assert.deepEqual(said([], rule(match, { strangers: true }), stranger), { tenant: 'shop' });
    assert.deepEqual(said([], rule({ ...match, listener: 'smtp' }), stranger), { tenant: 'shop' });
  }
  assert.deepEqual(said([], rule({}), stranger), { tenant: 'shop' });
});

test('with tenants in the config there are no others, and one may have a pool of its own', () => {
  const config = { tenants: [{ name: 'shop', pool: 'warm' }, { name: 'blog' }] };
  assert.deepEqual(said(['X-ProtoRelay-Tenant: shop'], config), { tenant: 'shop', pool: 'warm' });
  assert.deepEqual(said(['X-ProtoRelay-Tenant: shop', 'X-ProtoRelay-Pool: cold'], config), {
    tenant: 'shop',
    pool: 'cold',
  });
  assert.deepEqual(said(['X-ProtoRelay-Tenant: blog'], config), { tenant: 'blog' });
  assert.deepEqual(said([], config), undefined);
  assert.equal(said(['X-ProtoRelay-Tenant: Shop'], config), '550 5.7.1 Unknown tenant: Shop');
});

test('a header section is read to its end, in time that grows with its length only', () => {
  const beginning = performance.now();
  const stuffing = Array.from({ length: 40_000 }, () => 'x');
  const fields = Array.from({ length: 10_000 }, () => 'X-ProtoRelay-Class: bulk');
  const { attributes, content } = take([...stuffing, ...fields], {}, { user: undefined });
  assert.equal(attributes, undefined);
  assert.equal(content, `${'x\r\n'.repeat(40_000)}${HEADER}`);
  assert.ok(performance.now() - beginning < 2000);
  // Longer than any mail has: what such a field might say further on would get out.
  const endless = Array.from({ length: 1100 }, () => `X-A: ${'x'.repeat(990)}`);
  const arena = new PlainArena();
  const stored = arena.store(Buffer.from(`X-ProtoRelay-Class: bulk\r\n${endless.join('\r\n')}\r\n\r\n`));
  const submission = {
    content: stored,
    user: undefined,
    address: 'unix',
    listener: '',
    reversePath: '',
    nowMs: NOW,
  };
  assert.equal(
    takeAttributes(new AttributeRules(attributesConfig({})), arena, submission),
    REPLY.header_too_long,
  );
});

test('a spill file that cannot be read or written refuses for now', () => {
  const arena = {
    marked: () => true,
    head: () => Buffer.from('X-ProtoRelay-Class: bulk\r\n\r\n'),
    cut() {
      throw Object.assign(new Error('no space'), { syscall: 'write', code: 'ENOSPC' });
    },
  };
  const submission = { content: 1, user: 'ann', address: '', listener: '', reversePath: '', nowMs: NOW };
  assert.equal(
    takeAttributes(new AttributeRules(attributesConfig({})), arena, submission),
    REPLY.spill_failed,
  );
});

test('the first address of From:', () => {
  const table: [string, string][] = [
    ['a@b.test', 'a@b.test'],
    ['"x <y@z.test>" (and c@d.test) <a@b.test>', 'a@b.test'],
    ['"q\\"<", A <a@b.test>, C <c@d.test>', 'a@b.test'],
    ['a@b.test, c@d.test', 'a@b.test'],
    ['undisclosed', ''],
    ['', ''],
  ];
  for (const [list, address] of table) assert.equal(firstAddress(list), address, list);
});
