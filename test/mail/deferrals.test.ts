import assert from 'node:assert/strict';
import { test } from 'node:test';
import { configSchema } from '../../src/config/schema.ts';
import { Attempt } from '../../src/delivery/attempt.ts';
import { deferred } from '../../src/delivery/outcome.ts';
import { Settler } from '../../src/delivery/settle.ts';
import { DEFERRALS } from '../../src/mail/deferrals.ts';
import type { AttemptResult, Job } from '../../src/mail/job.ts';
import type { DeferralReason, Outcome } from '../../src/mail/outcome.ts';
import type { Arena } from '../../src/native.ts';
import type { DsnWriter } from '../../src/report/dsn.ts';
import { nextAttempt } from '../../src/scheduler/retry.ts';

const NOW_MS = 1_800_000_000_000;
const STEADY_MS = 7_000_000;

function settled(
  outcomes: Outcome[],
  options: { attempts: number; ageMs: number; notBeforeMs?: number },
): AttemptResult {
  const results: AttemptResult[] = [];
  const settler = new Settler({
    config: configSchema.parse({ retry: { max_attempts: 5, jitter_ratio: 0 } }),
    arena: { release() {} } as unknown as Arena,
    wall: () => NOW_MS,
    now: () => STEADY_MS,
    random: () => 0.5,
    nextAttempt,
    dsn: { draft: () => [] } as unknown as DsnWriter,
    result: (result) => results.push(result),
    signers: () => [],
  });
  const attempt = new Attempt({
    queueId: 'q',
    destination: 'one.test',
    attempts: options.attempts,
    receivedAtMs: NOW_MS - options.ageMs,
    recipients: outcomes.map((_, seq) => ({ seq, address: `${seq}@one.test`, notify: 0 })),
  } as Job);
  // The peer was talked to in each case.
  attempt.counted = true;
  attempt.notBeforeMs = options.notBeforeMs ?? 0;
  for (const [position, outcome] of outcomes.entries()) attempt.decide([position], outcome);
  settler.finish(attempt);
  return results[0] as AttemptResult;
}

for (const [reason, { whose, pause }] of Object.entries(DEFERRALS)) {
  const outcome = (): Outcome => deferred(reason as DeferralReason, null, 'detail');
  test(`${reason} is ${whose === 'peer' ? "the peer's: it" : 'ours: it never'} counts as an attempt`, () => {
    const first = settled([outcome()], { attempts: 0, ageMs: 1000 });
    assert.equal(first.attempts, whose === 'peer' ? 1 : 0);
    const last = settled([outcome()], { attempts: 4, ageMs: 1000 });
    const kind = last.groups[0]?.outcome.kind;
    assert.deepEqual([last.attempts, kind], whose === 'peer' ? [5, 'bounced'] : [4, 'deferred']);
    const retry = first.groups[0]?.outcome;
    assert.ok(retry?.kind === 'deferred');
    const delayMs = retry.retryAtMs - NOW_MS;
    assert.equal(delayMs, { none: 0, moment: 1000, schedule: 60_000, age: 60_000 }[pause]);
    const old = settled([outcome()], { attempts: 0, ageMs: 3_600_000 }).groups[0]?.outcome;
    assert.ok(old?.kind === 'deferred');
    if (pause === 'age') assert.equal(old.retryAtMs - NOW_MS, 3_600_000, 'grows though nothing is counted');
    const suspended = settled([outcome()], { attempts: 0, ageMs: 0, notBeforeMs: STEADY_MS + 99_000 });
    assert.ok(suspended.groups[0]?.outcome.kind === 'deferred');
    assert.equal(
      suspended.groups[0].outcome.retryAtMs - NOW_MS,
      99_000,
      'steady time is told apart from the clock',
    );
  });
}

test('what the peer said of one recipient makes an attempt of it, whatever we failed at for others', () => {
  const mixed = [deferred('lease_lapsed', null, ''), deferred('peer_4xx', null, '')];
  assert.equal(settled(mixed, { attempts: 0, ageMs: 0 }).attempts, 1);
});
