/** Keys: their files, their records, and which of them sign. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { FieldsOf, Log } from '../../src/base/log.ts';
import { configSchema } from '../../src/config/schema.ts';
import { KeyBook, type TxtAnswer } from '../../src/signing/key-book.ts';
import { type KeyFile, readKeyFile, refusalOf, weaknessOf } from '../../src/signing/key-file.ts';
import { recordFault, recordStrings, recordText, zoneLine } from '../../src/signing/record.ts';
import { readShown, writeShown } from '../../src/signing/shown-file.ts';
import { chooseKeys, type SigningTable } from '../../src/signing/table.ts';
import { makeKey } from '../native/dkim-rig.ts';

const dir = mkdtempSync(join(tmpdir(), 'signing-'));
after(() => rmSync(dir, { recursive: true }));

/** Writes a key; its record goes with it. */
function key(
  name: string,
  type: 'rsa' | 'ed25519' = 'ed25519',
  bits = 2048,
): { file: string; record: string } {
  const { pem, record } = makeKey(type, bits);
  const file = join(dir, `${name}.pem`);
  writeFileSync(file, pem);
  return { file, record };
}

test('a key file is read, and one that cannot sign says why', () => {
  const { file, record } = key('one', 'rsa');
  const read = readKeyFile(file) as KeyFile;
  assert.deepEqual([read.algorithm, read.bits, refusalOf(read), weaknessOf(read)], ['rsa', 2048, '', '']);
  assert.equal(recordText(read), record);
  const short = readKeyFile(key('short', 'rsa', 512).file) as KeyFile;
  assert.match(refusalOf(short), /512 bits/);
  const weak = readKeyFile(key('weak', 'rsa', 1024).file) as KeyFile;
  assert.deepEqual([refusalOf(weak), /2048 are advised/.test(weaknessOf(weak))], ['', true]);
  assert.match(readKeyFile(join(dir, 'none')) as string, /is not there/);
  writeFileSync(join(dir, 'text'), 'no key');
  assert.match(readKeyFile(join(dir, 'text')) as string, /holds no private key/);
  assert.match(readKeyFile(dir) as string, /is a folder/);
});

test('a record shows a key only where verifiers would take it', () => {
  const rsa = readKeyFile(key('rsa', 'rsa').file) as KeyFile;
  const ed = readKeyFile(key('ed').file) as KeyFile;
  const good = recordText(rsa);
  // PKCS #1, as some tools publish it.
  const bare = Buffer.from(rsa.publicKey, 'base64').subarray(24).toString('base64');
  for (const record of [
    good,
    `p=${rsa.publicKey}`,
    `v=DKIM1; h=sha1:sha256; s=email; t=y; p=${rsa.publicKey.replace(/(.{60})/g, '$1 ')}`,
    `v=DKIM1; k=rsa; p=${bare}`,
  ])
    assert.equal(recordFault(['v=spf1 -all', record], rsa), '', record);
  assert.equal(recordFault([recordText(ed)], ed), '');
  for (const [record, fault] of [
    [recordText(ed), /another type of key/],
    ['v=DKIM1; k=rsa; p=', /revoked/],
    ['v=DKIM1; k=rsa', /has no key/],
    [good.replace('DKIM1', 'DKIM2'), /another version/],
    [`${good}; h=sha1`, /sha256/],
    [`${good}; s=tlsrpt`, /not for mail/],
    [good.replace('p=M', 'p=N'), /another key/],
  ] as const)
    assert.match(recordFault([record], rsa), fault, record);
  assert.match(recordFault([], rsa), /no record/);
});

test('a long record is written in strings of 255 octets', () => {
  const text = 'x'.repeat(600);
  assert.deepEqual(
    recordStrings(text).map((one) => one.length),
    [255, 255, 90],
  );
  assert.match(
    zoneLine('s._domainkey.example.com', text),
    /^s\._domainkey\.example\.com\. IN TXT \( "x{255}"\n/,
  );
  assert.equal(zoneLine('a.b', 'y'), 'a.b. IN TXT "y"');
});

class World {
  readonly records = new Map<string, TxtAnswer>();
  readonly said: string[] = [];
  table: SigningTable | null = null;
  remembered = new Map<string, string>();
  nowMs = Date.parse('2027-01-01T00:00:00Z');
  asked = 0;
  readonly book: KeyBook;

  constructor(dkim: object) {
    const say = (event: string, { domain, selector }: Partial<FieldsOf<'signing.key_shown'>>) =>
      void this.said.push(`${event} ${selector}.${domain}`);
    this.book = new KeyBook(configSchema.parse({ dkim }).dkim, {
      log: { debug: say, info: say, warn: say, error: say } as Log,
      txt: (name) => {
        this.asked++;
        return Promise.resolve(this.records.get(name) ?? { kind: 'no-name' });
      },
      tell: (table) => {
        this.table = table;
      },
      recall: () => this.remembered,
      remember: (shown) => {
        this.remembered = shown;
      },
      now: () => this.nowMs,
      steady: () => this.nowMs,
    });
  }

  show(selector: string, ...records: string[]): void {
    this.records.set(`${selector}._domainkey.example.com`, { kind: 'found', records });
  }

  slots(domain = 'example.com'): number[] {
    return this.table?.domains.get(domain)?.slots ?? [];
  }

  fault(domain = 'example.com'): string {
    return this.table?.domains.get(domain)?.fault ?? '';
  }
}

const row = (selector: string, file: string, more: object = {}) => ({
  domain: 'example.com',
  selector,
  file,
  ...more,
});

test('a key signs once DNS shows it; the old one signs until then', async () => {
  const [old, next] = [key('old'), key('next')];
  const world = new World({ keys: [row('old', old.file), row('next', next.file)] });
  assert.deepEqual(world.book.load(), []);
  assert.deepEqual(world.slots(), []);
  assert.match(world.fault(), /old\._domainkey\.example\.com: DNS was not asked yet/);
  world.show('old', old.record);
  await world.book.checkAll();
  const [first] = world.slots();
  assert.ok(first);
  world.show('next', next.record);
  // Once a minute only domains are asked about that cannot sign.
  world.nowMs += 60_000;
  const asked = world.asked;
  await world.book.look();
  assert.deepEqual([world.asked - asked, world.slots()], [0, [first]]);
  world.nowMs += 3_600_000;
  await world.book.look();
  assert.notDeepEqual(world.slots(), [first]);
  assert.equal(world.slots().length, 1);
  world.records.delete('next._domainkey.example.com');
  await world.book.checkAll();
  assert.deepEqual(world.slots(), [first]);
  assert.deepEqual(world.said, [
    'signing.key_shown old.example.com',
    'signing.key_waits next.example.com',
    'signing.key_shown next.example.com',
    'signing.key_withdrawn next.example.com',
  ]);
  world.book.close();
});

test('RSA and Ed25519 sign side by side, and not_before is kept to', async () => {
  const [rsa, ed, later] = [key('r', 'rsa'), key('e'), key('l')];
  const not_before = '2027-01-01T00:10:00Z';
  const world = new World({
    keys: [row('l', later.file, { not_before }), row('r', rsa.file), row('e', ed.file)],
  });
  for (const [name, { record }] of Object.entries({ r: rsa, e: ed, l: later })) world.show(name, record);
  world.book.load();
  await world.book.checkAll();
  const before = world.slots();
  assert.equal(before.length, 2);
  world.nowMs = Date.parse(not_before);
  await world.book.look();
  assert.equal(world.slots()[0], before[0]);
  assert.notEqual(world.slots()[1], before[1]);
  world.book.close();
});

test('a file that cannot be read keeps its domain from signing, and no other', async () => {
  const good = key('good');
  const world = new World({
    keys: [row('gone', join(dir, 'gone')), { ...row('s', good.file), domain: 'example.org' }],
  });
  world.records.set('s._domainkey.example.org', { kind: 'found', records: [good.record] });
  assert.match(world.book.load()[0] ?? '', /^dkim\.keys\[0\]\.file: .*gone is not there$/);
  await world.book.checkAll();
  assert.equal(world.slots('example.org').length, 1);
  assert.match(world.fault(), /no key of example\.com can sign .*gone is not there/);
  assert.ok(world.said.includes('signing.key_unusable gone.example.com'));
  world.book.close();
});

test('what DNS showed counts over a restart and while DNS does not answer', async () => {
  const one = key('kept');
  const world = new World({ keys: [row('kept', one.file)] });
  world.show('kept', one.record);
  world.book.load();
  await world.book.checkAll();
  writeShown(dir, world.remembered);
  world.book.close();
  const again = new World({ keys: [row('kept', one.file)] });
  again.remembered = readShown(dir);
  again.book.load();
  assert.equal(again.slots().length, 1);
  again.records.set('kept._domainkey.example.com', { kind: 'temporary', detail: 'ETIMEOUT' });
  await again.book.checkAll();
  assert.equal(again.slots().length, 1);
  again.book.close();
  // The file has another key by now: DNS has not shown that one.
  writeFileSync(one.file, makeKey('ed25519').pem);
  const other = new World({ keys: [row('kept', one.file)] });
  other.remembered = readShown(dir);
  other.book.load();
  assert.deepEqual(other.slots(), []);
  other.book.close();
});

test('a reload reads files again and keeps the slot of a key that is the same', async () => {
  const [one, two] = [key('r1'), key('r2')];
  const rules = (dkim: object) => configSchema.parse({ dkim }).dkim;
  const world = new World({ keys: [row('r1', one.file)] });
  world.show('r1', one.record);
  world.show('r2', two.record);
  world.book.load();
  await world.book.checkAll();
  const [slot] = world.slots();
  assert.deepEqual(
    world.book.reconfigure(rules({ keys: [row('r1', one.file), row('r2', two.file)], expire_s: 86_400 })),
    [],
  );
  assert.deepEqual([world.slots(), world.table?.expireS], [[slot], 86_400]);
  await world.book.checkAll();
  assert.notDeepEqual(world.slots(), [slot]);
  world.book.reconfigure(rules({ enabled: false, keys: [row('r1', one.file)] }));
  assert.equal(world.table, null);
  world.book.close();
});

test('the keys of the author’s domain sign, or those of the nearest parent that has any, and those that sign all', () => {
  const table: SigningTable = {
    domains: new Map([
      ['example.com', { slots: [1, 2], fault: '' }],
      ['broken.example.com', { slots: [], fault: 'broken' }],
      ['esp.test', { slots: [9], fault: '' }],
    ]),
    ...{ alsoSign: [], signHeaders: [], oversignHeaders: [], expireS: 0, onError: 'defer' },
  };
  for (const [authors, slots, fault] of [
    [['example.com'], [1, 2], ''],
    [['a.b.example.com'], [1, 2], ''],
    [['x.broken.example.com'], [], 'broken'],
    [['elsewhere.test'], [], ''],
    [['com'], [], ''],
    [['example.com', 'www.example.com', 'esp.test'], [1, 2, 9], ''],
    [['example.com', 'broken.example.com'], [1, 2], 'broken'],
  ] as const)
    assert.deepEqual(chooseKeys(table, authors), { slots, fault }, authors.join());
  assert.deepEqual(chooseKeys({ ...table, alsoSign: ['esp.test'] }, ['elsewhere.test']), {
    slots: [9],
    fault: '',
  });
  assert.deepEqual(chooseKeys({ ...table, alsoSign: ['esp.test'] }, ['esp.test']), { slots: [9], fault: '' });
});
