import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { features } from '../../src/config/features.ts';
import { loadConfig } from '../../src/config/load.ts';
import { configurationPage, jsonSchema } from '../../src/config/reference.ts';

const root = join(import.meta.dirname, '../..');
const stale = 'stale: run bin/protorelay config reference --write';

test('docs/configuration.md is what the schema says', () => {
  assert.equal(readFileSync(join(root, 'docs/configuration.md'), 'utf8'), configurationPage(), stale);
});

test('config/relay.schema.json is what the schema says', () => {
  assert.equal(readFileSync(join(root, 'config/relay.schema.json'), 'utf8'), jsonSchema(), stale);
});

test('the shipped config is good, accepts on loopback only, and has no smarthost', () => {
  const { config, warnings } = loadConfig(join(root, 'config/relay.json'), {}, { machineName: 'mx1.test' });
  assert.deepEqual(warnings, []);
  assert.deepEqual(
    config.listeners.map((l) => l.host),
    ['127.0.0.1'],
  );
  assert.deepEqual(config.relay_networks, ['127.0.0.0/8', '::1/128']);
  assert.equal(config.delivery.smarthost, undefined);
});

test('every key has a description', () => {
  const rows = configurationPage()
    .split('\n')
    .filter((line) => line.startsWith('| `'));
  assert.ok(rows.length > 80);
  assert.deepEqual(
    rows.filter((row) => row.endsWith('|  |')),
    [],
  );
});

test('features are the choices the schema offers', () => {
  assert.deepEqual(features().ack, ['after_persist', 'after_journal', 'after_enqueue']);
  assert.ok(features().database?.includes('sqlite'));
});
