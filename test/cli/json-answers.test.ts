/** What commands that change something answer with --json, where no relay runs. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { run } from '../support/child.ts';

const RUNNER = join(import.meta.dirname, '../support/every-command.ts');

test('bans, orders for warm-ups and suspensions are answered as JSON; what is not known or not given is null', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'json-answers-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const config = join(dir, 'relay.json');
  const warmup = [{ source: '', providers: ['yahoo'], plan_messages_per_day: [50, 100] }];
  writeFileSync(config, JSON.stringify({ data_dir: dir, warmup }));
  const lines = [
    'ban add 192.0.2.1 192.0.2.2 --for 1h --json',
    'ban delete 192.0.2.1 192.0.2.9 --json',
    'warmup pause default --json',
    'warmup set default yahoo 2 --json',
    'warmup status --json',
    'suspend --destination a.test --json',
    'resume --all-rules --json',
  ];
  const input = JSON.stringify(lines.map((words) => words.split(' ')));
  const { code, stdout, stderr } = await run(process.execPath, [RUNNER, config], { input });
  assert.equal(code, 0, stderr);
  const { outcomes } = JSON.parse(stdout) as { outcomes: { code: number; said: string; stdout: string }[] };
  assert.deepEqual(
    outcomes.map((one) => one.code),
    [0, 65, 0, 0, 0, 0, 0],
    stdout,
  );
  const [added, deleted, paused, set, status, suspended, resumed] = outcomes.map((one) =>
    JSON.parse(one.stdout),
  );
  assert.deepEqual(
    added.map(({ network, kind }: { network: string; kind: string }) => [network, kind]),
    [
      ['192.0.2.1', 'operator'],
      ['192.0.2.2', 'operator'],
    ],
  );
  assert.match(added[0].ends_at, /^\d{4}-.*Z$/);
  assert.deepEqual(deleted, { deleted: ['192.0.2.1'], unknown: ['192.0.2.9'] });
  const { ordered_at, ...pause } = paused;
  assert.deepEqual(pause, { source: 'default', provider: '*', action: 'pause', step: null, reason: null });
  assert.match(ordered_at, /^\d{4}-.*Z$/);
  assert.deepEqual([set.step, set.reason], [2, null]);
  assert.deepEqual(status[0].orders, [paused, set]);
  assert.deepEqual([suspended.destinations, suspended.not_told], [['a.test'], []]);
  assert.deepEqual([resumed.resumed.length, resumed.unknown, resumed.not_told], [1, [], []]);
});
