/** What the configuration of Redis and of servers must not say, found before the start. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { keyPrefix } from '../../src/base/redis-client.ts';
import { loadConfig } from '../../src/config/load.ts';

function saidOf(t: TestContext, settings: object): string {
  const folder = mkdtempSync(join(tmpdir(), 'config-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, 'relay.json');
  writeFileSync(
    file,
    JSON.stringify({
      hostname: 'relay.test',
      node_id: 'a',
      database: server,
      storage: { provider: 'local' },
      ...settings,
    }),
  );
  try {
    loadConfig(file);
    return '';
  } catch (error) {
    return (error as Error).message;
  }
}

const server = { driver: 'mysql', host: '127.0.0.1', user: 'u', password: 'p', database: 'd' };
const redis = (changes: object): object => ({ scheduler: { engine: 'bullmq', redis: changes } });

test('Redis: one server, sentinels or a cluster; nothing that would end the start', (t) => {
  const nodes = ['10.0.0.1:6379', '[2001:db8::1]:6379', 'redis.test:6379'];
  assert.equal(saidOf(t, redis({ url: 'redis://10.0.0.1:6379/3' })), '');
  assert.equal(saidOf(t, redis({ topology: 'cluster', nodes })), '');
  assert.equal(
    saidOf(t, redis({ topology: 'sentinel', nodes, master_name: 'mail', sentinel_password: 'x' })),
    '',
  );
  assert.match(saidOf(t, redis({ url: 'redis://a:1,redis://b:2' })), /redis\.url: is no URL of one server/);
  assert.match(saidOf(t, redis({ url: 'redis://a,b:2' })), /redis\.url: is no URL of one server/);
  assert.match(saidOf(t, redis({ url: 'redis://a:99999999' })), /redis\.url: is no URL of one server/);
  assert.match(saidOf(t, redis({ nodes })), /nodes: needs topology/);
  assert.match(saidOf(t, redis({ topology: 'cluster' })), /nodes: must name nodes/);
  assert.match(
    saidOf(t, redis({ topology: 'cluster', nodes, url: 'redis://x/1' })),
    /url: must name no database/,
  );
  assert.match(saidOf(t, redis({ topology: 'cluster', nodes: ['a,b:1'] })), /nodes\[0\]/);
});

test('a transaction may not take longer than a lease', (t) => {
  const database = { ...server, query_timeout_ms: 15_000 };
  assert.match(saidOf(t, { lease_ms: 15_000, database }), /query_timeout_ms: must be less than lease_ms/);
  assert.equal(saidOf(t, { lease_ms: 15_001, database }), '');
  // What nobody set follows the lease.
  assert.equal(saidOf(t, { lease_ms: 2000 }), '');
});

test('a cluster gets a hash tag, unless the operator gave one', () => {
  const access = { url: 'redis://x', timeoutMs: 1 };
  assert.equal(keyPrefix({ ...access, prefix: 'protorelay' }), 'protorelay');
  assert.equal(keyPrefix({ ...access, topology: 'cluster', prefix: 'protorelay' }), '{protorelay}');
  assert.equal(keyPrefix({ ...access, topology: 'cluster', prefix: 'a{b}' }), 'a{b}');
  assert.equal(keyPrefix({ ...access, topology: 'cluster', prefix: '{}a' }), '{{}a}');
});
