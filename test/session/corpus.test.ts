/** The dialog corpus over the plain reactor: whole, every octet alone, pipelined, and pipelined in two pieces. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GAUGE, PRESSURE } from '../../src/admission/gauges.ts';
import { CHUNK_BYTES, CONTENT_FLAG } from '../../src/native.ts';
import { REPLY, REPLY_REASONS, type ReplyReason, ReplyTemplate } from '../../src/protocol/reply.ts';
import { VERDICT } from '../../src/session/messages.ts';
import { type Cut, clientOctets, type Dialog, type Peer, play, readCorpus } from './corpus.ts';
import { DialogFixture } from './dialog-fixture.ts';

const corpus = readCorpus();
const linesSeen = new Set<string>();

class PlainPeer implements Peer {
  readonly #fixture: DialogFixture;
  readonly #connection: number;
  #read = 0;
  #messages = 0;

  constructor(dialog: Dialog) {
    this.#fixture = new DialogFixture(dialog.config);
    this.#connection = this.#fixture.open(dialog.client);
  }

  async send(octets: Buffer): Promise<void> {
    this.#fixture.say(this.#connection, octets);
  }

  async line(): Promise<string | null> {
    const sent = this.#fixture.reactor.sent[this.#connection] as string;
    const end = sent.indexOf('\r\n', this.#read);
    if (end < 0) {
      assert(this.#fixture.isClosed(this.#connection), 'a line is awaited that was not sent');
      return null;
    }
    const line = sent.slice(this.#read, end);
    this.#read = end + 2;
    linesSeen.add(line);
    return line;
  }

  async message(): Promise<unknown> {
    return this.#fixture.submitted[this.#messages++];
  }

  stage(words: string[]): void {
    const { gauges, reactor, arena, server } = this.#fixture;
    const [word, first = '', second = ''] = words;
    if (word === 'pressure') Atomics.store(gauges, GAUGE.pressure, PRESSURE[first as keyof typeof PRESSURE]);
    else if (word === 'inflight') Atomics.store(gauges, GAUGE.inflightMails, Number(first));
    else if (word === 'draining') Atomics.store(gauges, GAUGE.draining, 1);
    else if (word === 'drain') {
      Atomics.store(gauges, GAUGE.draining, 1);
      server.drain(() => {});
    } else if (word === 'room') arena.free = Number(first) * CHUNK_BYTES;
    else if (word === 'timeout' || word === 'slow') reactor.timeout(this.#connection, word === 'slow');
    else if (word === 'fault')
      reactor.fault = { flags: CONTENT_FLAG[first as 'noMemory'], detail: Number(second) };
    else if (word === 'verdict')
      this.#fixture.verdicts = words.slice(1).map((name) => VERDICT[name as 'full'] ?? null);
    else if (word === 'secured') reactor.handshake(this.#connection, { facts: words.slice(1).join(' ') });
    else if (word === 'handshakes') reactor.handshakesUnderWay = Number(first);
    else assert.fail(`unknown stage direction ${words.join(' ')}`);
  }

  async finish(): Promise<void> {
    const { reactor, submitted, arena } = this.#fixture;
    assert.equal((reactor.sent[this.#connection] as string).slice(this.#read), '', 'nothing more was sent');
    assert.equal(submitted.length, this.#messages, 'every message is accounted for');
    // A message without verdict is still the main thread's.
    const withMain = submitted.filter((_, i) => this.#fixture.heldBack.has(i)).length;
    assert.equal(arena.held, withMain, 'every reference on content was given back');
  }
}

function cutsOf(dialog: Dialog): Cut[] {
  const cuts: Cut[] = ['steps', 'octets'];
  if (!dialog.pipelined) return cuts;
  cuts.push('pipelined');
  for (let at = 1; at < clientOctets(dialog).length; at++) cuts.push({ at });
  return cuts;
}

for (const dialog of corpus) {
  test(`${dialog.name}`, async () => {
    for (const cut of cutsOf(dialog)) {
      try {
        await play(dialog, new PlainPeer(dialog), cut);
      } catch (error) {
        (error as Error).message = `cut ${JSON.stringify(cut)}: ${(error as Error).message}`;
        throw error;
      }
    }
  });
}

test('every reply of the table is given in some dialog, or at accept', () => {
  // The listener gives these before there is a session: test/listener/listener.test.ts.
  const atAccept: ReplyReason[] = ['overloaded', 'too_many_connections', 'too_many_from_address'];
  // Its line of 12 KB would be played at every octet: test/session/auth.test.ts.
  const tooLong: ReplyReason[] = ['auth_line_too_long'];
  // Nothing a client says leads to it: test/system/dialog-faults.test.ts.
  const ours: ReplyReason[] = ['internal_error'];
  // What one client holds of what all share: test/session/shares.test.ts.
  const shares: ReplyReason[] = ['envelopes_full', 'too_much_ahead'];
  // Only where reports come in: test/system/bounces.test.ts.
  const reports: ReplyReason[] = ['no_such_return_path', 'report_read'];
  // test/session/attributes.test.ts, test/system/suppression.test.ts.
  const elsewhere: ReplyReason[] = ['header_too_long', 'recipient_suppressed'];
  const unseen = REPLY_REASONS.filter((reason) => {
    const reply = REPLY[reason];
    const line = (reply instanceof ReplyTemplate ? reply.with('*') : reply).line.trimEnd();
    const source = line.replace(/[.+?^${}()|[\]\\]/g, '\\$&').replace('*', '.*');
    const pattern = new RegExp(`^${source}$`);
    return ![...linesSeen].some((seen) => pattern.test(seen));
  });
  const left = [...atAccept, ...tooLong, ...ours, ...shares, ...elsewhere, ...reports];
  assert.deepEqual(unseen.sort(), left.sort());
});
