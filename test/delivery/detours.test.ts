/** Attempts that wait for another host, while nothing may begin. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Attempt } from '../../src/delivery/attempt.ts';
import { type DetourPorts, Detours } from '../../src/delivery/detours.ts';
import type { HostChoice } from '../../src/delivery/host-choice.ts';

test('in a pause no session is woken: it would find nothing to do, and be woken again without an end', () => {
  const rested = { host: { address: '192.0.2.2' } };
  const calls: string[] = [];
  const ports = {
    rules: { max_hosts_per_attempt: 3, max_attempt_ms: 1000 },
    draining: false,
    paused: () => true,
    heldBack: false,
    // In a pause a session that is woken begins nothing, and rests again.
    idle: [rested],
    sessions: [rested],
    dialling: false,
    now: () => 0,
    wake: () => {
      calls.push('wake');
      assert.ok(calls.length < 100, 'without an end');
    },
    waits: () => void calls.push('waits'),
  } as unknown as DetourPorts;
  const detours = new Detours(ports, { hasOthers: () => true } as unknown as HostChoice);
  const attempt = { tried: [], offered: true, visits: 0, startedAtMs: 0, tryElsewhere() {} };
  detours.take(attempt as unknown as Attempt, '192.0.2.1');
  assert.deepEqual(calls, ['waits']);
  assert.equal(detours.length, 1);
});
