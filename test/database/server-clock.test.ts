import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ServerClock } from '../../src/database/server-clock.ts';

describe('the clock of a server', () => {
  let wallMs = 1_000_000;
  let steadyMs = 500;
  const clock = (): ServerClock =>
    new ServerClock(
      () => wallMs,
      () => steadyMs,
    );
  const pass = (ms: number): void => {
    wallMs += ms;
    steadyMs += ms;
  };

  it('is ours until it was measured', () => {
    const one = clock();
    assert.deepEqual(
      [one.offsetMs, one.until(5), one.since(5), one.here(5), one.jumped],
      [null, 5, 5, 5, false],
    );
  });

  it('is measured in the middle of a question, and an answer that took long changes nothing it agrees with', () => {
    const one = clock();
    const measured = one.measure();
    pass(10);
    measured(wallMs - 5 + 30_000);
    assert.equal(one.offsetMs, 30_000);
    assert.equal(one.here(one.until(wallMs)), wallMs);
    const slow = one.measure();
    pass(2000);
    slow(wallMs - 1000 + 30_000 + 900);
    assert.equal(one.offsetMs, 30_000, 'within what 2 s leave open');
    const moved = one.measure();
    pass(10);
    moved(wallMs - 5 + 31_000);
    assert.equal(one.offsetMs, 31_000, 'the server’s clock was set');
  });

  for (const jumpMs of [120_000, -120_000])
    it(`our clock is set by ${jumpMs} ms: no lease ends sooner, and nothing is due sooner, than either clock says`, () => {
      const one = clock();
      one.measure()(wallMs);
      const trueMs = wallMs;
      wallMs += jumpMs;
      assert.equal(one.jumped, true);
      assert.ok(one.until(wallMs + 1000) >= trueMs + 1000);
      assert.ok(one.since(wallMs) <= trueMs);
      one.measure()(trueMs);
      assert.deepEqual([one.jumped, one.offsetMs], [false, -jumpMs]);
      assert.equal(one.until(wallMs + 1000), trueMs + 1000);
    });

  it('the machine was suspended: leases begin by the time of day', () => {
    const one = clock();
    one.measure()(wallMs);
    wallMs += 3_600_000;
    assert.equal(one.jumped, true);
    assert.ok(one.until(wallMs + 1000) >= wallMs + 1000);
  });
});
