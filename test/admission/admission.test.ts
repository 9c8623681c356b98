import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Admission } from '../../src/admission/admission.ts';
import { createGauges, GAUGE, PRESSURE } from '../../src/admission/gauges.ts';

const room = { totalBytes: 160, free: 160, freeBytes: () => room.free };

test('a message is taken while fewer than the limit are in flight, and counts from then on', () => {
  const gauges = createGauges();
  const admission = new Admission(gauges, room, 2);
  assert.equal(admission.message(), null);
  assert.equal(admission.message(), null);
  assert.equal(admission.message()?.reason, 'inflight_full');
  assert.equal(Atomics.load(gauges, GAUGE.inflightMails), 2, 'the refused one does not count');
  assert.equal(admission.transaction()?.reason, 'inflight_full');
  assert.equal(admission.recipient(), null, 'recipients of an open transaction are not refused for it');
  Atomics.sub(gauges, GAUGE.inflightMails, 1);
  assert.equal(admission.transaction(), null);
});

test('the limit can be changed live', () => {
  const gauges = createGauges();
  const admission = new Admission(gauges, room, 1);
  admission.message();
  admission.reconfigure(2);
  assert.equal(admission.message(), null);
});

test('each kind of pressure has its refusal at MAIL, RCPT and end of data', () => {
  const gauges = createGauges();
  const admission = new Admission(gauges, room, 10);
  const expected = {
    memory: 'memory_pressure',
    disk: 'disk_pressure',
    database: 'database_pressure',
    content_memory: 'content_memory_full',
    messages: 'queue_full',
  };
  for (const [name, reason] of Object.entries(expected)) {
    Atomics.store(gauges, GAUGE.pressure, PRESSURE[name as keyof typeof PRESSURE]);
    assert.equal(admission.transaction()?.reason, reason);
    assert.equal(admission.recipient()?.reason, reason);
    if (name !== 'content_memory') assert.equal(admission.message()?.reason, reason);
  }
  assert.equal(Atomics.load(gauges, GAUGE.inflightMails), 0);
});

test('a sixteenth of the content memory is kept for transactions that are open', () => {
  const admission = new Admission(createGauges(), room, 10);
  room.free = 10;
  assert.equal(admission.transaction(), null);
  room.free = 9;
  assert.equal(admission.transaction()?.reason, 'content_memory_full');
  assert.equal(admission.message(), null, 'content that is complete needs no more room');
});

test('draining is what the gauge says', () => {
  const gauges = createGauges();
  const admission = new Admission(gauges, room, 10);
  assert.equal(admission.draining(), false);
  Atomics.store(gauges, GAUGE.draining, 1);
  assert.equal(admission.draining(), true);
});

test('content that is complete is taken while room for content is short: its commit gives the room back', () => {
  const gauges = createGauges();
  const admission = new Admission(gauges, { totalBytes: 64, freeBytes: () => 0 }, 1);
  Atomics.store(gauges, GAUGE.pressure, PRESSURE.content_memory);
  assert.equal(admission.message(), null);
  assert.equal(admission.message()?.reason, 'inflight_full', 'other limits still hold');
});
