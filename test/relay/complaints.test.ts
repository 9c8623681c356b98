import assert from 'node:assert/strict';
import { test } from 'node:test';
import { configSchema } from '../../src/config/schema.ts';
import { Complaints } from '../../src/relay/complaints.ts';

/** Processes that tell each other at once; `sent` is what each remembers. */
function processes(...sent: Record<string, readonly [string, string]>[]) {
  const config = configSchema.parse({
    delivery: { source_address: '192.0.2.1' },
    egress: { sources: [{ name: 'a2', address: '192.0.2.2' }] },
  });
  const counted: string[][] = sent.map(() => []);
  const all: Complaints[] = sent.map(
    (known, i) =>
      new Complaints({
        current: () => config,
        siteOf: (domain) => (domain === 'gmail.test' ? 'google' : null),
        sentBy: (queueId) => known[queueId] ?? null,
        counted: (source, site) => counted[i]?.push(`${source} at ${site}`),
        tell: (line) => {
          for (const [k, one] of all.entries()) if (k !== i) assert.ok(one.heard(line));
        },
      }),
  );
  return { all, counted };
}

test('a complaint is counted by every process for the source that the report names', () => {
  const { all, counted } = processes({}, {}, {});
  all[1]?.take({ queueId: '', domain: 'gmail.test', sourceAddress: '192.0.2.2' });
  all[2]?.take({ queueId: '', domain: 'gmail.test', sourceAddress: '192.0.2.1' });
  for (const one of counted) assert.deepEqual(one, ['a2 at google', ' at google']);
});

test('one that names no address is counted by whoever sent the message, and told to all once', () => {
  const { all, counted } = processes({}, { q1: ['a2', 'mx:x.test'] });
  all[0]?.take({ queueId: 'q1', domain: 'x.test', sourceAddress: '' });
  assert.deepEqual(counted, [['a2 at mx:x.test'], ['a2 at mx:x.test']]);
});

test('one that is about nobody’s mail, or an address that is not ours, counts nowhere', () => {
  const { all, counted } = processes({}, {});
  all[0]?.take({ queueId: 'q2', domain: 'gmail.test', sourceAddress: '' });
  all[0]?.take({ queueId: '', domain: 'gmail.test', sourceAddress: '198.51.100.1' });
  assert.deepEqual(counted, [[], []]);
  assert.equal(all[0]?.heard('{"key":"source"}'), false);
});
