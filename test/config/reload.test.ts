import assert from 'node:assert/strict';
import { test } from 'node:test';
import { planReload } from '../../src/config/reload.ts';
import { type Config, configSchema } from '../../src/config/schema.ts';

const config = (value: object): Config => configSchema.parse(value);

test('nothing changed: nothing applied, nothing waits', () => {
  const { applied, needsRestart, config: merged } = planReload(config({}), config({}));
  assert.deepEqual([applied, needsRestart], [[], []]);
  assert.deepEqual(merged, config({}));
});

test('live keys take their new value, the others keep the old one until a restart', () => {
  const next = config({
    relay_domains: ['new.test'],
    session_threads: 2,
    smtp: { max_recipients: 5 },
    database: { path: 'other.db' },
    delivery: { smarthost: { host: 'a.test' } },
  });
  const { config: merged, applied, needsRestart } = planReload(config({}), next);
  assert.deepEqual(applied, ['relay_domains', 'smtp.max_recipients']);
  assert.deepEqual(needsRestart, ['session_threads', 'database.path', 'delivery.smarthost']);
  assert.deepEqual(merged.relay_domains, ['new.test']);
  assert.equal(merged.smtp.max_recipients, 5);
  assert.equal(merged.session_threads, 'auto');
  assert.equal(merged.delivery.smarthost, undefined);
});

test('a smarthost may move while the relay runs; to have one or none takes a restart', () => {
  const moved = planReload(
    config({ delivery: { smarthost: { host: 'a.test' } } }),
    config({ delivery: { smarthost: { host: 'b.test', port: 26 } } }),
  );
  assert.deepEqual(moved.applied, ['delivery.smarthost.host', 'delivery.smarthost.port']);
  assert.deepEqual(moved.config.delivery.smarthost, { host: 'b.test', port: 26 });
  const gone = planReload(config({ delivery: { smarthost: { host: 'a.test' } } }), config({}));
  assert.deepEqual([gone.applied, gone.needsRestart], [[], ['delivery.smarthost']]);
});

test('to or from after_journal takes a restart, between the other ack modes it does not', () => {
  const ack = (inbound_ack_mode: string) => config({ inbound_ack_mode });
  const plan = (was: string, is: string) => planReload(ack(was), ack(is));
  for (const other of ['after_persist', 'after_enqueue']) {
    assert.deepEqual(plan(other, 'after_journal').needsRestart, ['inbound_ack_mode']);
    assert.equal(plan('after_journal', other).config.inbound_ack_mode, 'after_journal');
  }
  assert.deepEqual(plan('after_persist', 'after_enqueue').applied, ['inbound_ack_mode']);
});

test('the merged config is a config', () => {
  const { config: merged } = planReload(
    config({ delivery: { smarthost: { host: 'a.test' } } }),
    config({ retry: { max_attempts: 3 } }),
  );
  assert.deepEqual(configSchema.parse(merged), merged);
});
