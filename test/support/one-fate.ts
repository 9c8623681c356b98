/** What became of many recipients, over the events of several relays. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { fatesOf } from './fates.ts';
import type { RelayFixture } from './relay-fixture.ts';
import type { ScriptedSink } from './scripted-sink.ts';
import { PATIENCE } from './wait.ts';

/**
 * Waits until every one of these has a fate in the events of some relay, and checks that it is the only one.
 * @param killed where a relay was killed: it may have settled so many deliveries, at most, whose event lines it had
 *   not written; for these it is enough that the sink took the message.
 */
export async function oneFateEach(
  relays: RelayFixture[],
  recipients: string[],
  withinMs: number,
  killed?: { sink: ScriptedSink; atMost: number },
): Promise<void> {
  const until = Date.now() + withinMs * PATIENCE;
  for (;;) {
    for (const { events } of relays) events.read();
    const fates = fatesOf(relays.flatMap(({ events }) => events.events));
    const met = new Map<string, string[]>();
    for (const [key, types] of fates) {
      const recipient = key.split(' ')[1] as string;
      met.set(recipient, (met.get(recipient) ?? []).concat(types));
    }
    const missing = recipients.filter((recipient) => !met.has(recipient));
    const late = Date.now() > until;
    if (missing.length === 0 || (late && killed !== undefined && settledUntold(missing, killed))) {
      const twice = recipients.filter((recipient) => (met.get(recipient)?.length ?? 1) !== 1);
      assert.deepEqual(
        twice.map((recipient) => [recipient, met.get(recipient)]),
        [],
        'one fate each',
      );
      return;
    }
    if (late)
      assert.fail(
        `${missing.length} of ${recipients.length} without a fate, as ${missing[0]}\n${relays[0]?.output()}`,
      );
    await sleep(50);
  }
}

function settledUntold(missing: string[], { sink, atMost }: { sink: ScriptedSink; atMost: number }): boolean {
  const taken = deliveries(sink);
  return missing.length <= atMost && missing.every((recipient) => taken.has(recipient));
}

/** How often the sink took a message for each recipient. */
export function deliveries(sink: ScriptedSink): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { recipients } of sink.messages)
    for (const { address } of recipients) counts.set(address, (counts.get(address) ?? 0) + 1);
  return counts;
}
