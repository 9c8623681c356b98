/** Selections on every engine: a table of what each means, and random ones against plain TypeScript. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import fc from 'fast-check';
import type { MailDetail, Selection } from '../../src/database/database.ts';
import type { Attributes } from '../../src/mail/attributes.ts';
import type { Message } from '../../src/mail/message.ts';
import type { OutboxState } from '../../src/mail/outbox-state.ts';
import { COUNT_KEYS, type CountKey } from '../../src/mail/queue-counts.ts';
import { bounced, deferred, delivered, type QueueFixture } from '../persistence/fixture.ts';
import type { Driver } from './conformance.ts';

/** A message with its entries as the queue shows them. */
interface Mail {
  message: Message;
  shown: MailDetail;
}

interface Entry {
  name: string;
  state: OutboxState;
  matching: number;
  all: number;
  keys: Record<Exclude<CountKey, 'domain'>, string>;
  domains: string[];
  mail: Message;
}

const FATES: Partial<Record<OutboxState, string>> = { DEAD: 'bounced', SENT: 'delivered' };

/** The pattern as a regular expression; patterns here have no backslashes. */
function like(pattern: string): RegExp {
  const source = pattern
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.');
  return new RegExp(`^${source}$`, 'isu');
}
const any = (patterns: readonly string[] | undefined, text: string | null | undefined): boolean =>
  patterns === undefined || (text != null && patterns.some((pattern) => like(pattern).test(text)));
const between = (value: number, least = -Infinity, most = Infinity): boolean =>
  value >= least && value <= most;

function meant(mails: readonly Mail[], selection: Selection): Entry[] {
  const { ids, states, headers } = selection;
  const names = new Set(headers?.map(({ name }) => name));
  return mails.flatMap(({ message, shown }) =>
    shown.rows.flatMap((row): Entry[] => {
      const all = shown.recipients.filter(
        ({ destination, status }) =>
          destination === row.destination && status === (FATES[row.state] ?? 'waiting'),
      );
      const matching = all.filter(({ address }) => {
        const domain = address.slice(address.indexOf('@') + 1);
        return any(selection.recipients, address) && any(selection.domains, domain);
      });
      const isMeant =
        (ids?.includes(row.queueId) ?? true) &&
        (states?.includes(row.state) ?? true) &&
        any(selection.destinations, row.destination) &&
        any(selection.reasons, row.reason) &&
        any(selection.senders, row.reversePath) &&
        any(selection.users, message.client.user) &&
        any(selection.listeners, message.client.listener ?? '') &&
        any(selection.tenants, message.attributes?.tenant) &&
        any(selection.campaigns, message.attributes?.campaign) &&
        any(selection.classes, message.attributes?.class) &&
        any(selection.pools, message.attributes?.pool) &&
        any(selection.messageIds, message.messageId ?? '') &&
        [...names].every((name) => {
          const values = headers?.filter((one) => one.name === name).map(({ value }) => value);
          return message.headers?.some((field) => field.name === name && any(values, field.value)) ?? false;
        }) &&
        between(row.attempts, selection.minAttempts, selection.maxAttempts) &&
        between(row.sizeBytes, selection.minBytes, selection.maxBytes) &&
        between(row.receivedAtMs, selection.receivedAfterMs, selection.receivedBeforeMs) &&
        ((selection.domains === undefined && selection.recipients === undefined) || matching.length > 0);
      if (!isMeant) return [];
      const keys = {
        destination: row.destination,
        state: row.state,
        sender: row.reversePath,
        reason: row.reason,
        user: message.client.user ?? '',
        tenant: message.attributes?.tenant ?? '',
        campaign: message.attributes?.campaign ?? '',
        class: message.attributes?.class ?? '',
        pool: message.attributes?.pool ?? '',
      };
      const domains = matching.map(({ address }) => address.slice(address.indexOf('@') + 1));
      const name = `${row.queueId} ${row.destination}`;
      return [
        { name, state: row.state, matching: matching.length, all: all.length, keys, domains, mail: message },
      ];
    }),
  );
}

const DOMAINS = ['one.test', 'two.test', 'sub.two.test'];
const SENDERS = ['', 'a@x.test', 'A.b@Y.test', 'jo_e%!@x.test', 'x\u00c4@b\u00fccher.test'];
const USERS = [undefined, 'alice', 'bob@x.test'];
const LOCALS = ['u1', 'u2', 'Info', 'a_b'];
const ATTRIBUTES: (Attributes | undefined)[] = [
  undefined,
  { tenant: 'Shop', campaign: 'M\u00e4rz 1', class: 'bulk', metadata: '{"a":[{"b":"\\u0000"}]}' },
  { tenant: 'shop_2', class: 'urgent', pool: 'warm', deadlineMs: 1_900_000_000_000 },
];
const CAMPAIGNS = ['spring 1', 'Spring-2', 'summer'];

const pick = <T>(values: readonly T[]): fc.Arbitrary<T> => fc.constantFrom(...values);
const some = <T>(values: readonly T[]): fc.Arbitrary<T[]> =>
  fc.array(pick(values), { minLength: 1, maxLength: 2 });

const mailArbitrary = fc.record({
  addresses: fc.array(fc.tuple(pick(LOCALS), pick(DOMAINS)), { minLength: 1, maxLength: 6 }),
  sender: pick(SENDERS),
  user: pick(USERS),
  listener: pick(['smtp', 'submission']),
  campaign: fc.option(pick(CAMPAIGNS), { nil: undefined }),
  attributes: pick(ATTRIBUTES),
  bytes: fc.integer({ min: 1, max: 40 }),
  ageMs: fc.nat(1000),
  state: pick(['PENDING', 'HELD', 'SENDING'] as const),
  /** What an attempt comes to, by recipient, of entries being sent; none: it goes on. */
  fates: fc.option(fc.array(fc.nat(2), { minLength: 6, maxLength: 6 }), { nil: undefined }),
});

const selectionArbitrary = fc.record(
  {
    states: some(['PENDING', 'SENDING', 'RETRY', 'HELD', 'DEAD', 'SENT'] as const),
    destinations: some(['one.test', '*.test', 'TWO.test.', '?ne.test']),
    domains: some(['*.two.test', 'Two.Test', 's*', 'none.test']),
    recipients: some(['u1@one.test', 'INFO@*', '*@two.test', 'a_b@*', 'a?b@sub.two.test', 'u%@*']),
    senders: some(['', 'a@x.test', '*@y.TEST', 'jo_e*', 'x?@*', 'X\u00c4@xn--bcher-kva.test', '*']),
    users: some(['ALICE', '*@x.test', '*']),
    listeners: some(['smtp', 'sub*']),
    reasons: some(['peer_4xx', 'peer*', '']),
    tenants: some(['SHOP', 'shop?2', '*']),
    campaigns: some(['m\u00e4rz*', '*']),
    classes: some(['bulk', 'urgent']),
    pools: some(['warm', '*']),
    messageIds: some(['<m1*', 'm?@x.test', '*7@x.test']),
    headers: some([
      { name: 'x-campaign', value: 'spring*' },
      { name: 'x-campaign', value: 'Summer' },
      { name: 'x-none', value: '*' },
    ]),
    minAttempts: fc.nat(1),
    maxAttempts: fc.nat(1),
    minBytes: fc.nat(40),
    maxBytes: fc.nat(40),
    receivedBeforeMs: fc.nat(1000),
    receivedAfterMs: fc.nat(1000),
  },
  { requiredKeys: [] },
);

async function add(
  queue: QueueFixture,
  mail: typeof mailArbitrary extends fc.Arbitrary<infer M> ? M : never,
  n: number,
): Promise<Message> {
  const { sender, user, listener, campaign } = mail;
  const message = queue.message(
    mail.addresses.map(([local, domain]) => `${local}@${domain}`),
    {
      content: Buffer.alloc(mail.bytes, 120),
      message: { receivedAtMs: mail.ageMs, messageId: `m${n}@x.test` },
    },
  );
  message.envelope.reversePath = sender;
  Object.assign(message.client, { listener, ...(user === undefined ? {} : { user }) });
  if (mail.attributes !== undefined) message.attributes = mail.attributes;
  if (campaign !== undefined) message.headers = [{ name: 'x-campaign', value: campaign }];
  const planned = queue.plan(message, mail.state);
  await queue.database.commit(queue.batch({ messages: [planned] }));
  queue.arena.release(message.content);
  if (mail.state !== 'SENDING' || mail.fates === undefined) return message;
  for (const { destination, seqs } of planned.plan) {
    const of = (fate: number): number[] => seqs.filter((seq) => mail.fates?.[seq % 6] === fate);
    const groups = [delivered(of(0)), bounced(of(1)), deferred(of(2))].filter(
      (group) => group.seqs.length > 0,
    );
    const retryAtMs = of(2).length > 0 ? 9000 : null;
    await queue.settle({ queueId: message.queueId, destination, groups, retryAtMs });
  }
  return message;
}

async function seen(queue: QueueFixture, messages: readonly Message[]): Promise<Mail[]> {
  const mails: Mail[] = [];
  for (const message of messages) {
    const shown = await queue.database.show(message.queueId);
    if (shown !== null) mails.push({ message, shown });
  }
  return mails;
}

async function listed(queue: QueueFixture, selection: Selection): Promise<string[]> {
  const rows = await queue.database.list({ selection, limit: 1000 });
  return rows.map(({ queueId, destination }) => `${queueId} ${destination}`);
}

export function selectingConformance(driver: Driver): void {
  describe(`selecting: ${driver.name}`, { skip: driver.skip ?? false }, () => {
    let queue: QueueFixture;
    beforeEach(async () => {
      await driver.prepare?.();
      queue = driver.open({ queue: { keep_delivered_ms: 1000 } });
    });
    afterEach(() => queue.close());

    it('every key means what it says, patterns and spellings included', async () => {
      const mail = (change: object) => ({
        addresses: [
          ['u1', 'one.test'],
          ['Info', 'two.test'],
        ] as [string, string][],
        sender: 'a@x.test',
        user: undefined,
        listener: 'smtp',
        campaign: undefined,
        attributes: undefined,
        bytes: 10,
        ageMs: 500,
        state: 'PENDING' as const,
        fates: undefined,
        ...change,
      });
      const idn = [['u1', 'xn--bcher-kva.test']] as [string, string][];
      const messages = [
        await add(queue, mail({}), 0),
        await add(
          queue,
          mail({ sender: '', state: 'HELD', addresses: idn, bytes: 20, attributes: ATTRIBUTES[1] }),
          1,
        ),
        await add(
          queue,
          mail({ user: 'alice', listener: 'submission', campaign: 'Spring 1', ageMs: 900 }),
          2,
        ),
        await add(
          queue,
          mail({ sender: 'x\u00c4@b\u00fccher.test', state: 'SENDING', fates: [2, 1, 0, 0, 0, 0] }),
          3,
        ),
      ];
      const at = (n: number, destination: string) => `${messages[n]?.queueId} ${destination}`;
      const [one0, two0, idn1, one2, two2, one3, two3] = [at(0, 'one.test'), at(0, 'two.test'), at(1, 'xn--bcher-kva.test'), at(2, 'one.test'), at(2, 'two.test'), at(3, 'one.test'), at(3, 'two.test')]; // biome-ignore format: one line
      const table: [Selection, string[]][] = [
        [{}, [one0, two0, idn1, one2, two2, one3, two3]],
        [{ ids: [messages[2]?.queueId ?? '', messages[0]?.queueId ?? '', 'none'] }, [one0, two0, one2, two2]],
        [{ ids: [] }, []],
        [{ states: [] }, []],
        [{ states: ['HELD', 'RETRY'] }, [idn1, one3]],
        [{ states: ['DEAD'] }, [two3]],
        [{ destinations: ['ONE.test.'] }, [one0, one2, one3]],
        [{ destinations: ['b\u00fccher.test'] }, [idn1]],
        [{ destinations: ['*.test'], states: ['PENDING'] }, [one0, two0, one2, two2]],
        [{ domains: ['B\u00dcCHER.test'] }, [idn1]],
        [{ domains: ['*.test', 'nowhere'], states: ['HELD'] }, [idn1]],
        // A recipient of the message at another destination does not count, nor one who is settled.
        [{ recipients: ['U1@ONE.test'] }, [one0, one2, one3]],
        [{ recipients: ['info@*'] }, [two0, two2, two3]],
        [{ recipients: ['u1@b\u00fccher.test'] }, [idn1]],
        [{ recipients: ['*'], domains: ['two.test'] }, [two0, two2, two3]],
        [{ recipients: ['u1@*'], domains: ['two.test'] }, []],
        [{ recipients: ['u%', 'u_@*', '\\*'] }, []],
        [{ senders: [''] }, [idn1]],
        [{ senders: ['X\u00c4@B\u00dcCHER.test'] }, [one3, two3]],
        [{ senders: ['x?@xn--bcher-kva.test'] }, [one3, two3]],
        [{ senders: ['a@?.test', '*@y.test'], destinations: ['two.test'] }, [two0, two2]],
        [{ users: ['ALI*'] }, [one2, two2]],
        [{ listeners: ['submission'] }, [one2, two2]],
        [{ tenants: ['SHO*'] }, [idn1]],
        [{ tenants: ['shop'], campaigns: ['m\u00e4rz 1'], classes: ['bulk'] }, [idn1]],
        [{ classes: ['urgent'] }, []],
        [{ pools: ['*'] }, []],
        [{ reasons: ['peer_4xx'] }, [one3]],
        [{ reasons: ['peer*'] }, [one3, two3]],
        [{ messageIds: ['<m2@x.test>', 'M0@*'] }, [one0, two0, one2, two2]],
        [{ headers: [{ name: 'X-Campaign', value: 'spring*' }] }, [one2, two2]],
        [
          {
            headers: [
              { name: 'x-campaign', value: '*' },
              { name: 'x-other', value: '*' },
            ],
          },
          [],
        ],
        [{ receivedBeforeMs: 499 }, []],
        [{ receivedAfterMs: 900 }, [one2, two2]],
        [{ minAttempts: 1 }, [one3, two3]],
        [{ maxAttempts: 0, minBytes: 11, maxBytes: 20 }, [idn1]],
      ];
      for (const [selection, expected] of table)
        assert.deepEqual(await listed(queue, selection), expected, JSON.stringify(selection));
    });

    it('attributes come back with the job of a row, as they were', async () => {
      for (const attributes of ATTRIBUTES) {
        const message = queue.message(['u1@one.test']);
        if (attributes !== undefined) message.attributes = attributes;
        await queue.database.commit(queue.batch({ messages: [queue.plan(message, 'PENDING')] }));
        queue.arena.release(message.content);
      }
      const { jobs } = await queue.database.claim({ destination: 'one.test', limit: 9, maxRecipients: 9, nowMs: 3000, leaseUntilMs: 9000 }); // biome-ignore format: one line
      assert.deepEqual(jobs.map(({ attributes }) => attributes), ATTRIBUTES); // biome-ignore format: one line
      for (const { content } of jobs) queue.arena.release(content);
    });

    it('delete takes just the recipients who match; the entry stays with the others', async () => {
      const queueId = await queue.add(['u1@one.test', 'u2@one.test', 'u3@one.test', 'u1@two.test']);
      const removed: string[] = [];
      const remove = async (selection: Selection): Promise<number[]> => {
        const { rows, recipients, changes } = await queue.database.operate(
          'delete',
          selection,
          2000,
          (part) => {
            for (const one of part.removed) removed.push(...one.recipients);
          },
        );
        return [rows, recipients, ...changes.map((change) => change.rows)];
      };
      assert.deepEqual(await remove({ recipients: ['u2@*'] }), [1, 1, 0]);
      const [job] = (await queue.database.claim({ destination: 'one.test', limit: 9, maxRecipients: 9, nowMs: 3000, leaseUntilMs: 9000 })).jobs; // biome-ignore format: one line
      assert.deepEqual(job?.recipients.map(({ seq }) => seq), [0, 2]); // biome-ignore format: one line
      assert.deepEqual(
        (await remove({ recipients: ['u1@one.test'] })).slice(0, 2),
        [0, 0],
        'it is being sent',
      );
      await queue.settle({ queueId, destination: 'one.test', fence: job?.fence ?? 0, groups: [bounced([0]), deferred([2])], retryAtMs: 4000 }); // biome-ignore format: one line
      assert.deepEqual(await remove({ recipients: ['u1@one.test'] }), [0, 0], 'it bounced before');
      // With the last one who waits the entry fails, because another bounced.
      assert.deepEqual(await remove({ domains: ['one.test'] }), [1, 1, -1]);
      const shown = await queue.database.show(queueId);
      assert.deepEqual(shown?.rows.map(({ state, waiting }) => [state, waiting]), [['DEAD', 0], ['PENDING', 1]]); // biome-ignore format: one line
      assert.deepEqual(shown?.recipients.map(({ status }) => status), ['bounced', 'removed', 'removed', 'waiting']); // biome-ignore format: one line
      assert.deepEqual(await remove({ recipients: ['u1@two.test'] }), [1, 1, -1]);
      assert.deepEqual(removed, ['u2@one.test', 'u3@one.test', 'u1@two.test']);
      assert.equal(await queue.database.purge(2000 + queue.config.queue.keep_failed_ms, 10), 1);
    });

    it('deletes all there is, each recipient once, with all content; what is being sent stays', async () => {
      const all = [
        ['a@one.test', 'b@two.test', 'c@one.test'],
        ['d@one.test'],
        ['e@three.test', 'f@one.test'],
      ];
      for (const sending of [false, true]) {
        for (const addresses of all) await queue.add(addresses);
        const kept = sending ? [await queue.add(['g@one.test'], 'SENDING')] : [];
        const removed: string[] = [];
        const result = await queue.database.operate('delete', {}, 2000, (part) => {
          for (const one of part.removed)
            removed.push(...one.recipients.map((to) => `${to} ${one.destination}`));
        });
        const expected = all.flat().map((to) => `${to} ${to.slice(2)}`);
        assert.deepEqual([result.rows, result.recipients, removed.sort()], [5, 6, expected.sort()]);
        assert.deepEqual((await queue.database.list({ limit: 10 })).map(({ queueId }) => queueId), kept); // biome-ignore format: one line
        const { mails, contentBytes } = await queue.database.stats();
        assert.deepEqual([mails, contentBytes > 0], [kept.length, sending]);
      }
    });

    it('goes on from part to part, and does nothing twice', async () => {
      const ids = [
        await queue.add(['a@one.test']),
        await queue.add(['b@one.test']),
        await queue.add(['c@one.test']),
      ];
      const first = await queue.database.operate('hold', { ids }, 2000, undefined, {
        after: ids[0] as string,
        forMs: 0,
      });
      assert.deepEqual([first.rows, first.queueIds, first.next], [2, ids.slice(1), null]);
    });

    it('any selection means what plain TypeScript says, in lists, counts and deletions', async () => {
      const mails = fc.array(mailArbitrary, { minLength: 1, maxLength: 12 });
      const selections = fc.array(selectionArbitrary, { minLength: 1, maxLength: 10 });
      const property = fc.asyncProperty(mails, selections, pick(COUNT_KEYS), async (given, asked, by) => {
        await queue.close();
        await driver.prepare?.();
        queue = driver.open({ queue: { keep_delivered_ms: 1000 } });
        const messages: Message[] = [];
        for (const mail of given) messages.push(await add(queue, mail, messages.length));
        const before = await seen(queue, messages);
        for (const selection of asked) await compare(queue, before, selection as Selection, by);
        await compareDeletion(queue, messages, before, asked[0] as Selection);
      });
      await fc.assert(property, { numRuns: 12 });
    });
  });
}

async function compare(
  queue: QueueFixture,
  mails: Mail[],
  selection: Selection,
  by: CountKey,
): Promise<void> {
  const expected = meant(mails, selection);
  assert.deepEqual(await listed(queue, selection), expected.map(({ name }) => name)); // biome-ignore format: one line
  const counted = await queue.database.count(selection, by);
  const single = selection.domains !== undefined || selection.recipients !== undefined;
  // An entry of which some are meant counts those.
  const sum = (entries: Entry[]): number =>
    entries.reduce((n, { matching, all }) => n + (single ? matching : all), 0);
  const counts = by === 'domain' ? expected.filter(({ domains }) => domains.length > 0) : expected;
  const of = new Map(
    [...new Set(counts.map(({ mail }) => mail))].map((mail) => [mail.queueId, mail.sizeBytes]),
  );
  assert.deepEqual(
    [counted.entries, counted.messages, counted.recipients, counted.bytes],
    [counts.length, of.size, sum(counts), [...of.values()].reduce((n, bytes) => n + bytes, 0)],
  );
  const groups = new Map<string, number>();
  for (const entry of counts) {
    if (by === 'domain')
      for (const domain of entry.domains) groups.set(domain, (groups.get(domain) ?? 0) + 1);
    else groups.set(entry.keys[by], (groups.get(entry.keys[by]) ?? 0) + sum([entry]));
  }
  assert.deepEqual(new Map(counted.groups.map(({ key, recipients }) => [key, recipients])), groups);
}

async function compareDeletion(
  queue: QueueFixture,
  messages: Message[],
  before: Mail[],
  selection: Selection,
): Promise<void> {
  const removed: string[] = [];
  const result = await queue.database.operate('delete', selection, 5000, (part) => {
    for (const { queueId, recipients } of part.removed)
      removed.push(...recipients.map((one) => `${queueId} ${one}`));
  });
  const expected = meant(before, selection).filter(
    ({ state }) => !['SENDING', 'DEAD', 'SENT'].includes(state),
  );
  const single = selection.domains !== undefined || selection.recipients !== undefined;
  const count = expected.reduce((n, { matching, all }) => n + (single ? matching : all), 0);
  assert.deepEqual([removed.length, result.recipients], [count, count]);
  // What is left waits as before, and rows agree with their recipients.
  const after = await seen(queue, messages);
  const waiting = (mails: Mail[]): number =>
    mails.flatMap(({ shown }) => shown.recipients).filter(({ status }) => status === 'waiting').length;
  assert.equal(waiting(after), waiting(before) - count);
  assert.equal(after.flatMap(({ shown }) => shown.rows).reduce((n, row) => n + row.waiting, 0), waiting(after)); // biome-ignore format: one line
}
