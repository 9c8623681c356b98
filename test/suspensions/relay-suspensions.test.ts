/** What rules of operators do to jobs on their way to delivery, in one relay process whose parts only note. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { silentLog } from '../../src/base/log.ts';
import { configSchema } from '../../src/config/schema.ts';
import type { ReleasedRow, Selection } from '../../src/database/database.ts';
import type { AttemptResult, Job } from '../../src/mail/job.ts';
import type { SuspensionRule } from '../../src/mail/suspension.ts';
import { RelaySuspensions, type RelaySuspensionsSetup } from '../../src/relay/suspensions.ts';
import { newRuleId } from '../../src/suspensions/rule-form.ts';

const HOUR = 3_600_000;

const rule = (fields: Partial<SuspensionRule> = {}): SuspensionRule => ({
  id: newRuleId(),
  destinations: [],
  domains: [],
  senders: [],
  users: [],
  tenants: [],
  campaigns: [],
  reason: '',
  createdBy: 'root',
  node: 'a',
  createdAtMs: 1,
  untilMs: null,
  endedAtMs: null,
  ...fields,
});

const job = (addresses: string[], fields: Partial<Job> = {}): Job => ({
  queueId: 'id',
  destination: 'smarthost',
  attempts: 3,
  fence: 7,
  reversePath: 'news@shop.example',
  body: '7BIT',
  smtpUtf8: false,
  trace: '',
  content: 1,
  sizeBytes: 1,
  receivedAtMs: Date.now(),
  delayNotified: false,
  recipients: addresses.map((address, seq) => ({ seq, address, notify: 0 })),
  ...fields,
});

function setUp(t: TestContext) {
  const dir = mkdtempSync(join(tmpdir(), 'relay-suspensions-'));
  const delivered: Job[] = [];
  const settled: AttemptResult[] = [];
  const released: ReleasedRow[] = [];
  const flushed: Selection[] = [];
  /** Jobs that delivery has not begun. */
  let waiting: Job[] = [];
  const database = {
    release: async (rows: ReleasedRow[]) => void released.push(...rows),
    async operate(_action: string, selection: Selection) {
      flushed.push(selection);
      return { rows: 0, changes: [] };
    },
  };
  const undelivered = {
    arena: { release() {} },
    leases: { drop() {} },
    database,
    scheduler: { returned() {}, rulesChanged() {}, changed() {} },
    suspects: { take: () => [], over() {} },
    deliveries: { takeBack: async () => waiting.splice(0) },
    forget: (one: Job) => suspensions.forget(one),
  };
  const setup = {
    place: { eventsDir: join(dir, 'events') },
    queue: { shards: null, database },
    log: silentLog,
    settings: () => configSchema.parse({}),
    undelivered: () => undelivered,
    duePoll: () => ({ askNow() {} }),
    deliver: (jobs: Job[]) => delivered.push(...jobs),
    settle: (results: AttemptResult[]) => settled.push(...suspensions.complete(results)),
  } as unknown as RelaySuspensionsSetup;
  const suspensions: RelaySuspensions = new RelaySuspensions(setup);
  t.after(() => {
    suspensions.rules.stop();
    rmSync(dir, { recursive: true, force: true });
  });
  const resultOf = (one: Job): AttemptResult => ({
    ...one,
    groups: [
      {
        seqs: one.recipients.map(({ seq }) => seq),
        outcome: { kind: 'bounced', reason: 'null_mx', status: '5.1.10', detail: '' },
      },
    ],
    times: { queueMs: 0, connectMs: 0, transferMs: 0 },
    dsns: [],
  });
  return {
    suspensions,
    delivered,
    settled,
    released,
    flushed,
    resultOf,
    handOver(...jobs: Job[]) {
      waiting = jobs;
    },
  };
}

const seqsOf = (one: { recipients: { seq: number }[] } | undefined): number[] | undefined =>
  one?.recipients.map(({ seq }) => seq);

test('recipients that a rule means wait until the others have their outcome; one settlement has both', async (t) => {
  const { suspensions, delivered, settled, resultOf } = setUp(t);
  const held = rule({ domains: ['slow.test'], reason: 'why' });
  await suspensions.rules.take([held]);
  suspensions.deliver([job(['a@slow.test', 'b@fast.test', 'c@slow.test'])]);
  assert.deepEqual(seqsOf(delivered[0]), [1]);
  const [result] = suspensions.complete([resultOf(delivered[0] as Job)]);
  assert.deepEqual(
    result?.groups.map(({ seqs, outcome }) => [seqs, outcome.kind]),
    [
      [[0, 2], 'deferred'],
      [[1], 'bounced'],
    ],
  );
  assert.deepEqual(seqsOf(result), [1, 0, 2]);
  assert.deepEqual(settled, []);
  // Nothing is kept of it.
  assert.equal(suspensions.complete([resultOf(delivered[0] as Job)])[0]?.groups.length, 1);
});

test('an entry of which all are held is deferred without an attempt, until the rule ends or for an hour', async (t) => {
  const { suspensions, delivered, settled } = setUp(t);
  const nowMs = Date.now();
  const [long, short] = [
    rule({ domains: ['a.test'] }),
    rule({ domains: ['b.test'], untilMs: nowMs + 60_000 }),
  ];
  await suspensions.rules.take([long, short]);
  suspensions.deliver([job(['x@a.test', 'y@b.test'])]);
  assert.deepEqual(delivered, []);
  const [result] = settled as [AttemptResult];
  assert.equal(result.attempts, 3);
  const [first, second] = result.groups.map(({ outcome }) => outcome) as {
    detail: string;
    retryAtMs: number;
  }[];
  assert.equal(first?.detail, `rule ${long.id}`);
  assert.ok(Math.abs((first?.retryAtMs ?? 0) - nowMs - HOUR) < 5000);
  assert.ok(Math.abs((second?.retryAtMs ?? 0) - nowMs - 60_000) < 5000);
});

test('resumed while the others were being sent, the held ones are due at once', async (t) => {
  const { suspensions, delivered, resultOf, flushed } = setUp(t);
  const held = rule({ domains: ['slow.test'] });
  await suspensions.rules.take([held]);
  suspensions.deliver([job(['a@slow.test', 'b@fast.test'])]);
  await suspensions.rules.take([{ ...held, endedAtMs: 5 }]);
  const outcome = suspensions.complete([resultOf(delivered[0] as Job)])[0]?.groups[0]?.outcome;
  assert.ok(outcome?.kind === 'deferred' && outcome.retryAtMs <= Date.now());
  assert.deepEqual(flushed[0]?.details, [`rule ${held.id}`, `rule ${held.id}:*`]);
});

test('what delivery has not begun comes back, and is parted anew by all rules', async (t) => {
  const { suspensions, delivered, released, handOver } = setUp(t);
  await suspensions.rules.take([rule({ domains: ['slow.test'] })]);
  const addresses = ['a@slow.test', 'b@fast.test', 'c@other.test'];
  suspensions.deliver([job(addresses)]);
  handOver(delivered.pop() as Job);
  await suspensions.rules.take([rule({ domains: ['fast.test'] })]);
  assert.deepEqual(seqsOf(delivered[0]), [2]);
  handOver(delivered.pop() as Job);
  await suspensions.rules.take([rule({ destinations: ['smarthost'], reason: 'all of it' })]);
  assert.deepEqual(delivered, []);
  assert.deepEqual(released, [{ queueId: 'id', destination: 'smarthost', fence: 7, reason: 'suspended' }]);
});

test('mail that is too old goes to its end, whatever rules hold', async (t) => {
  const { suspensions, delivered } = setUp(t);
  await suspensions.rules.take([rule()]);
  const { max_age_ms } = configSchema.parse({}).retry;
  suspensions.deliver([job(['a@b.test'], { receivedAtMs: Date.now() - max_age_ms - 60_000 })]);
  assert.equal(delivered.length, 1);
});

test('without rules jobs pass as they are', (t) => {
  const { suspensions, delivered } = setUp(t);
  const jobs = [job(['a@b.test'])];
  suspensions.deliver(jobs);
  assert.equal(delivered[0], jobs[0]);
  assert.equal(suspensions.complete([]).length, 0);
});
