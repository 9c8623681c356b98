/** A real relay that signs: keys that wait for DNS, rotation, files that are missing, its own reports, a restart. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { tagsOf } from '../native/dkim-canon.ts';
import { makeKey } from '../native/dkim-rig.ts';
import { byMailauth } from '../services/dkim-verifiers.ts';
import { DnsServer } from '../support/dns-server.ts';
import { fate } from '../support/fates.ts';
import { RelayFixture } from '../support/relay-fixture.ts';
import { ScriptedSink } from '../support/scripted-sink.ts';
import { Talk } from '../support/talk.ts';

const keys = {
  one: makeKey('rsa'),
  two: makeKey('ed25519'),
  later: makeKey('ed25519'),
  own: makeKey('ed25519'),
};
const records = {
  'one._domainkey.example.test': keys.one.record,
  'two._domainkey.example.test': keys.two.record,
  'later._domainkey.later.test': keys.later.record,
  'own._domainkey.relay.test': keys.own.record,
};

test('mail is signed once DNS shows a key, by the newest one, over reload and restart; reports too', {
  timeout: 60_000,
}, async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'dkim-'));
  t.after(() => rmSync(dir, { recursive: true }));
  for (const [name, { pem }] of Object.entries(keys))
    writeFileSync(join(dir, `${name}.pem`), pem, { mode: 0o600 });
  const row = (selector: string, domain: string, file = `${selector}.pem`) => ({
    domain,
    selector,
    file: join(dir, file),
  });
  const sink = await ScriptedSink.start();
  t.after(() => sink.stop());
  const dns = await DnsServer.start({
    'dest.test': { A: ['127.0.0.1'] },
    'example.test': { A: ['127.0.0.1'] },
    'one._domainkey.example.test': { TXT: [keys.one.record] },
    'own._domainkey.relay.test': { TXT: [keys.own.record] },
  });
  t.after(() => dns.stop());
  const first = [row('one', 'example.test'), row('own', 'relay.test'), row('later', 'later.test')];
  const relay = await RelayFixture.start({
    delivery: { mx_port: sink.port, ip_family: 'ipv4' },
    dns: { servers: [dns.address], timeout_ms: 2000, tries: 1, negative_ttl_ms: 0, cache_max_ttl_ms: 0 },
    dkim: { keys: first },
    retry: { initial_delay_ms: 600_000, max_delay_ms: 600_000 },
  });
  t.after(() => relay.destroy());
  const submit = async (from: string, to: string): Promise<void> => {
    const talk = await Talk.hello({ port: relay.port, host: '127.0.0.1' });
    const content = `From: ${from}\r\nTo: ${to}\r\nSubject: Grüße\r\nMessage-ID: <${to}>\r\n\r\nHello.\r\n`;
    await talk.accepted({ from, to, content });
    await talk.quit();
  };
  /** Selectors that signed the message to this recipient; each signature verifies. */
  const signedBy = async (to: string): Promise<(string | undefined)[]> => {
    const { content } =
      sink.messages.find(({ recipients }) => recipients[0]?.address === to) ?? assert.fail(to);
    const [verdicts = []] = await byMailauth([content], records);
    const fields = content.toString('latin1').match(/^DKIM-Signature:(?:[^\r]|\r\n[ \t])*/gm) ?? [];
    assert.deepEqual(
      verdicts.filter((verdict) => verdict !== 'none'),
      fields.map(() => 'pass'),
    );
    return fields.map((text) => tagsOf({ name: 'DKIM-Signature', text }).get('s'));
  };

  await submit('anne@mail.example.test', 'a@dest.test');
  await fate(relay.events, 'a@dest.test', 'delivered');
  assert.deepEqual(await signedBy('a@dest.test'), ['one']);
  await submit('anne@unknown.test', 'b@dest.test');
  await fate(relay.events, 'b@dest.test', 'delivered');
  assert.deepEqual(await signedBy('b@dest.test'), []);

  await submit('anne@example.test', 'bounce-550@dest.test');
  await fate(relay.events, 'anne@example.test', 'delivered');
  assert.deepEqual(await signedBy('anne@example.test'), ['own'], 'the report of ours');

  await submit('anne@later.test', 'c@dest.test');
  const waits = await fate(relay.events, 'c@dest.test', 'deferred');
  assert.equal(waits.reason, 'signing_failed');
  assert.match(String(waits.detail), /later\._domainkey\.later\.test: there is no record/);
  dns.set('later._domainkey.later.test', { TXT: [keys.later.record] });
  dns.set('two._domainkey.example.test', { TXT: [keys.two.record] });
  const shown = relay.logLine('signing.key_shown', ({ selector }) => selector === 'two');
  const dkim = {
    keys: [...first, row('two', 'example.test'), row('gone', 'gone.test')],
    also_sign: 'relay.test',
  };
  relay.configure({ dkim });
  const reloaded = await relay.reload();
  assert.deepEqual(reloaded.applied, ['dkim.keys', 'dkim.also_sign']);
  await shown;
  await relay.queue('flush', '--all');
  await fate(relay.events, 'c@dest.test', 'delivered');
  assert.deepEqual(await signedBy('c@dest.test'), ['later', 'own']);

  // DNS is away: what it showed before counts.
  for (const name of Object.keys(records)) dns.set(name, { fault: 'SERVFAIL' });
  await relay.stop();
  await relay.start();
  await submit('anne@example.test', 'd@dest.test');
  await submit('anne@gone.test', 'e@dest.test');
  await fate(relay.events, 'd@dest.test', 'delivered');
  assert.deepEqual(await signedBy('d@dest.test'), ['one', 'two', 'own']);
  assert.match(
    String((await fate(relay.events, 'e@dest.test', 'deferred')).detail),
    /gone\.pem is not there/,
  );
});
