/** What a host remembers of its clients over a restart, and over a clock that is set. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseNetwork } from '../../src/base/ip.ts';
import { Greylist } from '../../src/policy/greylist.ts';
import { PolicyKeeper } from '../../src/policy/keeper.ts';
import { policyMs, policyToDayMs } from '../../src/policy/policy-time.ts';
import { StoppedBans } from '../../src/policy/stopped-bans.ts';
import { configOf, policyMemory, recordingLog } from '../session/dialog-fixture.ts';

const HOUR_MS = 3_600_000;
const config = configOf({
  policy: { greylist: { enabled: true, delay_ms: HOUR_MS, retry_window_ms: 24 * HOUR_MS } },
});
const subject = {
  ip: parseNetwork('192.0.2.9')?.ip ?? assert.fail(),
  address: '192.0.2.9',
  mayRelay: false,
  user: null,
};

test('bans and the greylist outlive a restart of the machine, and a clock that is set meanwhile moves neither', async () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'keeper-'));
  let dayMs = 1_800_000_000_000;
  try {
    // Each life has steady time of its own, as after a restart of the machine.
    const life = (steadyAt: number) => {
      let nowMs = 1_100_000_000_000 + steadyAt;
      const memory = policyMemory(config);
      const keeper = new PolicyKeeper({
        memory,
        dataDir,
        log: recordingLog([]),
        forgetMs: () => HOUR_MS,
        greylisting: () => true,
        deleted: () => {},
        now: () => nowMs,
        toDayMs: () => dayMs - nowMs,
      });
      const greylist = new Greylist(config.policy.greylist, memory.greylist);
      return {
        keeper,
        pass(ms: number) {
          nowMs += ms;
          dayMs += ms;
        },
        isBanned: () => memory.bans.find(subject.ip, nowMs) !== null,
        waits: () =>
          Number(
            (greylist.look(subject, 'a@a.test', 'b@b.test', nowMs) as { text: string } | null)?.text ?? 0,
          ),
      };
    };
    const first = life(5_000_000);
    first.keeper.add('192.0.2.9', HOUR_MS);
    assert.equal(first.waits(), 3600);
    dayMs += 12 * HOUR_MS; // somebody sets the clock: nothing ends
    first.pass(HOUR_MS / 2);
    assert.ok(first.isBanned());
    assert.equal(first.keeper.list()[0]?.untilMs, dayMs + HOUR_MS / 2, 'shown by the clock as it is now');
    assert.equal(first.waits(), 1800);
    dayMs -= 24 * HOUR_MS;
    first.pass(HOUR_MS / 4);
    await first.keeper.close();

    assert.equal(new StoppedBans(dataDir, () => dayMs).list()[0]?.untilMs, dayMs + HOUR_MS / 4);
    const second = life(10_000);
    second.pass(HOUR_MS / 4 - 2000);
    assert.ok(second.isBanned());
    assert.equal(second.waits(), 2);
    second.pass(3000);
    assert.ok(!second.isBanned());
    assert.equal(second.waits(), 0);
    await second.keeper.close();
  } finally {
    rmSync(dataDir, { recursive: true });
  }
  assert.ok(Math.abs(policyMs() + policyToDayMs() - Date.now()) < 2000);
});
