/** Commands that are asked about what is not there say so, with the nearest that is, and end with a code for it; never as a fault of the program. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { run } from '../support/child.ts';

const RUNNER = join(import.meta.dirname, '../support/every-command.ts');

const CASES: [string, number, RegExp][] = [
  ['warmup set a2 google 1', 65, /no warm-up of source a2 in the config \(did you mean a1\?\)/],
  [
    'warmup status a2',
    65,
    /^protorelay: there is no warm-up of source a2 in the config \(did you mean a1\?\)\n$/,
  ],
  ['warmup pause default', 65, /no warm-up of source default/],
  ['warmup set a1 gogle 1', 65, /no provider gogle \(did you mean google\?\)/],
  ['warmup set b1 google 1', 65, /source b1 is at yahoo only, not at google/],
  ['warmup set b1 yahoo 9', 65, /the plan has 1 days/],
  ['token revoke nobody', 65, /there is no token nobody/],
  // There is no data_dir as yet.
  ['warmup set a1 mx:mx.a.test 1', 0, /source a1 goes on with day 1 at mx:mx\.a\.test/],
  ['warmup set b1 yahoo 2', 0, /source b1 is done with the plan at yahoo/],
  ['warmup pause b1 yahoo', 0, /source b1 pauses at yahoo/],
  ['warmup status b1', 0, /nothing was sent yet\n {2}ordered: set 2 at yahoo\n {2}ordered: pause at yahoo\n/],
  // The runner throws what would be a usage error.
  ['shaping show gogle', 70, /there is no provider gogle \(did you mean google\?\)/],
  ['shaping check --overrides /nowhere', 78, /\/nowhere: cannot be read/],
  ['shaping replay --rules /nowhere', 78, /\/nowhere: cannot be read/],
  ['replies unknown', 69, /no relay is running/],
  ['source list', 69, /no relay is running/],
  ['lint ./nowhere --offline', 65, /nowhere cannot be read/],
  ['dkim check --domain x.test', 65, /no such key/],
  ['dkim generate --domain x.test --selector s --out /nowhere/s', 73, /\/nowhere\/s cannot be written/],
];

/** These open the queue, which makes data_dir. */
const ON_QUEUE: typeof CASES = [
  ['suppression remove a@a.test', 65, /a@a\.test is not on the list/],
  ['suppression import /nowhere', 65, /\/nowhere cannot be read: ENOENT/],
  ['suppression import /', 65, /\/ cannot be read: EISDIR/],
  ['suppression export /nowhere/list.csv', 73, /\/nowhere\/list\.csv cannot be written: ENOENT/],
];

test('unknown names and files end commands with usage, data or file errors', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'unknown-names-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const config = join(dir, 'relay.json');
  const warmup = [
    { source: 'a1', providers: ['yahoo', '*'] },
    { source: 'b1', providers: ['yahoo'], plan_messages_per_day: [50] },
  ];
  const egress = { sources: [{ name: 'a1' }, { name: 'b1' }] };
  writeFileSync(config, JSON.stringify({ data_dir: join(dir, 'NODIR'), egress, warmup }));
  const all = [...CASES, ...ON_QUEUE];
  const input = JSON.stringify(all.map(([words]) => words.split(' ')));
  const { code, stdout, stderr } = await run(process.execPath, [RUNNER, config], { input });
  assert.equal(code, 0, stderr);
  const { outcomes } = JSON.parse(stdout) as { outcomes: { code: number; said: string }[] };
  for (const [i, [words, expected, text]] of all.entries()) {
    const { code: ended, said } = outcomes[i] as { code: number; said: string };
    assert.match(said, text, words);
    assert.equal(ended, expected, `${words}: ${said}`);
  }
});
