/** `shaping show` and `shaping check`: what sources have of their own, and where the rules for replies know another provider. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { runHere } from '../support/command-line.ts';

const dir = mkdtempSync(join(tmpdir(), 'shaping-cli-'));
after(() => rmSync(dir, { recursive: true, force: true }));
const [config, own] = [join(dir, 'relay.json'), join(dir, 'own.json')];

async function run(overrides: string, ...args: string[]): Promise<{ code: number | null; stdout: string }> {
  writeFileSync(own, overrides);
  writeFileSync(
    config,
    JSON.stringify({
      data_dir: join(dir, 'data'),
      egress: { sources: [{ name: 'a1' }], pools: [{ name: 'p', members: [{ source: 'a1' }] }] },
      shaping: { overrides_file: own },
    }),
  );
  return runHere(config, ['shaping', ...args]);
}

const OWN =
  '{ "providers": { "google": {\n"pools": { "p": { "max_connections": 2 } },\n"sources": { "a1": { "messages_per_h": 9 } } } } }';

test('show prints the values of sources with their places', async () => {
  const { stdout } = await run(OWN, 'show', 'google', '--json');
  const [google] = JSON.parse(stdout);
  assert.deepEqual(google.sources, [
    {
      source: 'a1',
      limits: [
        { limit: 'max_connections', value: 2, file: own, line: 2, source: null, as_of: null },
        { limit: 'messages_per_h', value: 9, file: own, line: 3, source: null, as_of: null },
      ],
    },
  ]);
  const text = (await run(OWN, 'show', 'google')).stdout;
  assert.match(text, /^ {2}messages_per_h from a1 +9 +.*own\.json:3$/m);
  assert.match(text, /^ {2}max_connections +5 /m);
});

test('check refuses a source that egress does not have', async () => {
  assert.equal((await run(OWN, 'check')).code, 0);
  const { code, stdout } = await run('{ "providers": { "google": { "sources": { "b1": {} } } } }', 'check');
  assert.equal(code, 78);
  assert.match(
    stdout,
    /own\.json:1: providers\.google\.sources\.b1: there is no source of this name in egress\.sources/,
  );
});

test('check says where the rules for replies have a host with another provider', async () => {
  const agree = JSON.parse((await run('{}', 'check', '--json')).stdout);
  assert.deepEqual(agree.differ, []);
  const moved =
    '{ "providers": { "orange": { "match": { "mx_suffix": ["orange.fr", "mx.t-online.de"] } } } }';
  const { code, stdout } = await run(moved, 'check');
  assert.equal(code, 0, stdout);
  assert.match(
    stdout,
    /own\.json:1: providers\.orange\.match\.mx_suffix: mx\.t-online\.de is a host of tonline in the rules for replies/,
  );
});
