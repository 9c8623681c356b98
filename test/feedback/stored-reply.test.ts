/** The refusal is found again in what the queue keeps of it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { storedRefusal } from '../../src/feedback/stored-reply.ts';

const CASES: [reason: string, detail: string, found: string | null][] = [
  ['peer_4xx', '451 4.7.1 try later (mx1.y.test [192.0.2.1])', '451|4.7.1|try later|mx1.y.test'],
  ['peer_5xx', '550 no (5) such user ([2001:db8::1])', '550||no (5) such user|'],
  [
    'tls_failed',
    'refused in the clear, and it wants TLS: 530 5.7.0 STARTTLS first (mx.y.test [192.0.2.1])',
    '530|5.7.0|STARTTLS first|mx.y.test',
  ],
  [
    'expired',
    'gave up after 3 attempts in 120.0 hours; last: peer_4xx, 452 4.2.2 full (mx.y.test [192.0.2.1])',
    '452|4.2.2|full|mx.y.test',
  ],
  ['peer_4xx', '421 cut off in the mid', '421||cut off in the mid|'],
  ['connect_failed', 'cannot connect to mx.y.test [192.0.2.1] port 450 (ECONNREFUSED)', null],
  ['expired', 'gave up after 500 attempts in 450.0 hours; last: timeout, no reply', null],
  ['', '', null],
];

for (const [reason, detail, found] of CASES)
  test(`${reason} ${detail || '(nothing)'}`, () => {
    const stored = storedRefusal(reason, detail);
    const { refusal, host } = stored ?? {};
    assert.equal(
      stored === null ? null : `${refusal?.code}|${refusal?.enhanced}|${refusal?.text}|${host}`,
      found,
    );
  });
