import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DialogLine } from '../../src/delivery/client/transcript.ts';
import { Peer } from './peer.ts';

function dialog() {
  const lines: DialogLine[] = [];
  const take = (line: DialogLine): void => void lines.push(line);
  const peer = new Peer({}, { sessionId: 'd0.0-7', destination: 'x.test', take });
  /** `DIRECTION QUEUE-ID LINE`, or the event. */
  const shown = () =>
    lines.splice(0).map(({ event, fields }) => {
      assert.deepEqual(
        [fields.session_id, fields.peer_host, fields.peer_address],
        ['d0.0-7', 'mx.test', '192.0.2.1'],
      );
      if (event !== 'delivery.transcript') return event;
      return `${fields.direction} ${fields.queue_id ?? '-'} ${fields.line}`;
    });
  return { peer, shown };
}

test('a transcript has every line of a dialog with its direction and message, but no content', () => {
  const { peer, shown } = dialog();
  const { queueId } = peer.attempt(4711, 'a@x.test').job;
  peer.hello('PIPELINING');
  peer.say('250 ok', '250 ok', '354 go on');
  peer.session.sent();
  peer.say('250 taken');
  peer.session.quit();
  peer.say('221 bye');
  assert.deepEqual(shown(), [
    'delivery.opened',
    'received - 220-mx.test',
    'received - 220 ready',
    'sent - EHLO relay.test',
    'received - 250-mx.test',
    'received - 250 PIPELINING',
    `sent ${queueId} MAIL FROM:<s4711@x.test>`,
    `sent ${queueId} RCPT TO:<a@x.test>`,
    `sent ${queueId} DATA`,
    `received ${queueId} 250 ok`,
    `received ${queueId} 250 ok`,
    `received ${queueId} 354 go on`,
    `sent ${queueId} (content)`,
    `received ${queueId} 250 taken`,
    'sent - QUIT',
    'received - 221 bye',
    'delivery.closed',
  ]);
});

test('long lines are cut, of long replies the middle is left out; how it failed is said once', () => {
  const { peer, shown } = dialog();
  peer.session.opened('');
  const many = Array.from({ length: 100 }, (_, i) => `554-${i}`);
  peer.say(`220-${'x'.repeat(1000)}`, ...many.map((line) => line.replace('554', '220')), '220 ready');
  const greeting = shown();
  assert.equal(greeting.length, 1 + 20 + 1 + 1 + 1, 'opened, lines, …, the last, EHLO');
  assert.equal(greeting[1], `received - 220-${'x'.repeat(496)}…`);
  assert.deepEqual(greeting.slice(-3), ['received - …', 'received - 220 ready', 'sent - EHLO relay.test']);
  peer.session.timedOut();
  assert.deepEqual(shown(), ['delivery.closed']);
});
