/**
 * `queue why` against what really holds mail: scheduler, limits, gates and pools as the relay has them, and a delivery thread in
 * few lines. Whatever holds a message, lifting what is named first, again and again, moves it, and nothing before the last does.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { steadyMs, timeOfDayMs } from '../../src/base/steady.ts';
import type { Config } from '../../src/config/schema.ts';
import { askedOf, whyAnswer } from '../../src/control/why.ts';
import type { MailDetail } from '../../src/database/database.ts';
import { Egress } from '../../src/egress/egress.ts';
import type { Job } from '../../src/mail/job.ts';
import type { QueueRow } from '../../src/mail/queue-row.ts';
import type { SuspensionRule } from '../../src/mail/suspension.ts';
import { RelayExplain } from '../../src/relay/explain.ts';
import { EmbeddedScheduler } from '../../src/scheduler/embedded.ts';
import { LimitKeys } from '../../src/shaping/limit-keys.ts';
import { createLimitTable, LimitSlot } from '../../src/shaping/limit-table.ts';
import { type Gate, MessageGates } from '../../src/shaping/message-gates.ts';
import type { ShapingData } from '../../src/shaping/shaping-data.ts';
import { ALL as WHOLE } from '../../src/shaping/slot-limits.ts';

const SITE = 'acme';
const DESTINATION = 'a.test';
const SOURCE = 'news';
const HOUR = 3_600_000;
const KEY = { site: SITE, provider: SITE, source: SOURCE };

const CONFIG = {
  hostname: 'relay.test',
  warmup: [],
  delivery: { mx_port: 25, routes: {} },
  egress: {
    sources: [{ name: SOURCE, enabled: true, port: 0, max_connections: 0 }],
    pools: [
      { name: 'p', members: [{ source: SOURCE, weight: 1 }], fallback_pool: '', retry_other_source: false },
    ],
    routing: [{ match: {}, pool: 'p' }],
  },
} as unknown as Config;

const DATA: ShapingData = {
  rollup: 'none',
  limits: {},
  total: {},
  providers: [
    {
      name: SITE,
      match: { mx_suffix: [], mx_exact: [], domain: [DESTINATION] },
      limits: { messages_per_h: 60_000 },
      total: { messages_per_day: 240_000 },
    },
  ],
};

type Held =
  | 'rule'
  | 'routing'
  | 'learned'
  | 'hold'
  | 'suspended'
  | 'retry'
  | 'adaptive'
  | 'warmup'
  | 'hour'
  | 'total'
  | 'gate'
  | 'source';

class World {
  delivered = false;
  readonly row = {
    queueId: 'id',
    destination: DESTINATION,
    state: 'PENDING',
    attempts: 0,
    nextAttemptMs: 0,
    reversePath: 'a@x.test',
    waiting: 1,
    reason: '',
    detail: '',
    attributes: '{"campaign":"spring"}',
    user: null,
  } as QueueRow;
  rules: SuspensionRule[] = [];
  missing: string[] = [];
  /** A job that waits for a connection. */
  waiting: Job | null = null;
  gates: Gate[] = [];
  readonly table = createLimitTable();
  readonly keys = new LimitKeys(DATA, {
    table: this.table,
    now: steadyMs,
    share: () => WHOLE,
    full: () => {},
  });
  readonly scheduler: EmbeddedScheduler;
  readonly explain: RelayExplain;
  readonly slots: Record<'own' | 'total', LimitSlot>;

  constructor() {
    const slots = this.keys.take(0, {
      ask: [KEY, { ...KEY, source: null }],
      free: [],
      sites: [],
      signs: [],
      hosts: [],
    });
    const [own, total] = slots.map(({ slot }) => new LimitSlot(this.table, slot));
    this.slots = { own: own as LimitSlot, total: total as LimitSlot };
    this.scheduler = new EmbeddedScheduler(
      {
        claim: async () => {
          const { row } = this;
          const isDue = row.state === 'PENDING' && row.nextAttemptMs <= Date.now();
          if (isDue) row.state = 'SENDING';
          const job = { queueId: 'id', destination: DESTINATION, reversePath: row.reversePath } as Job;
          const nextDueMs = row.state === 'PENDING' ? row.nextAttemptMs : null;
          return {
            jobs: isDue ? [{ ...job, attributes: { campaign: 'spring' } }] : [],
            nextDueMs,
            short: false,
          };
        },
        deliver: (jobs) => {
          for (const job of jobs) this.#send(job);
        },
        contentBytes: 1e9,
        freeContentBytes: () => 1e9,
        now: Date.now,
        steady: steadyMs,
        setTimer: () => ({ cancel() {} }),
        held: () => this.rules.length > 0,
        outlook: (site) => this.keys.outlook(site),
      },
      {
        maxInFlight: 100,
        enabled: true,
        isShared: false,
        onClaimError: (_destination, error) => assert.fail(String(error)),
      },
    );
    this.explain = new RelayExplain({
      current: () => CONFIG,
      shaping: { keys: this.keys, loaded: { data: DATA, originOf: () => null, placeOfMatch: () => null } },
      learning: {
        says: (by) => ({ setBy: by, sinceMs: null, counts: null }),
        gatesAt: () => this.gates.map((gate) => ({ gate, setBy: gate.by, sinceMs: null })),
      },
      siteOf: (destination) => this.scheduler.standing(destination).site,
      isPresent: (source) => !this.missing.includes(source),
    });
    this.scheduler.start();
    this.scheduler.belongs(DESTINATION, SITE);
  }

  /** What a delivery thread does. */
  #send(job: Job): void {
    const egress = new Egress(CONFIG);
    egress.setMissing(this.missing);
    const routed = {
      tenant: '',
      campaign: 'spring',
      class: '',
      pool: '',
      fromDomain: 'x.test',
      recipientDomain: DESTINATION,
      provider: SITE,
    };
    const gates = new MessageGates(() => []);
    gates.set(this.gates);
    const nowMs = steadyMs();
    const { source } = egress.choose(egress.decide(routed).value, 'id', () => true);
    const goes =
      source !== null &&
      gates.take(SITE, { job, dkimDomains: null }, { name: SOURCE, netblock: '' }, nowMs) === 0 &&
      this.slots.own.takeMessage(nowMs) === 0 &&
      this.slots.total.takeMessage(nowMs) === 0;
    if (goes && this.slots.own.takeConnection(nowMs) !== 0) {
      // It stays with delivery.
      this.slots.own.giveBackMessage();
      this.slots.total.giveBackMessage();
      this.waiting = job;
    } else if (goes) this.delivered = true;
    else {
      this.row.state = 'PENDING';
      Object.assign(this.row, { reason: 'limit_reached', nextAttemptMs: Date.now() + HOUR });
      this.scheduler.returned(job);
    }
  }

  put(what: Held): void {
    const atMs = steadyMs() + HOUR;
    const puts: Record<Held, () => void> = {
      rule: () => this.rules.push(RULE),
      hold: () => {
        this.row.state = 'HELD';
      },
      routing: () =>
        void Object.assign(this.row, { state: 'HELD', reason: 'held_by_rule', detail: 'rule look' }),
      learned: () => {
        this.keys.cap(`${SITE} ${SOURCE}`, 'learned', { max_connections: 1 });
        assert.equal(this.slots.own.takeConnection(steadyMs()), 0);
      },
      suspended: () => this.scheduler.suspend(DESTINATION, atMs, 'refused'),
      retry: () => void Object.assign(this.row, { reason: 'peer_4xx', nextAttemptMs: Date.now() + HOUR }),
      adaptive: () => this.keys.close(`${SITE} ${SOURCE}`, 'adaptive', atMs),
      warmup: () => this.keys.close(`${SITE} ${SOURCE}`, 'warmup', atMs),
      hour: () => this.slots.own.setNextUs('messages_per_h', atMs * 1000),
      total: () => this.slots.total.setNextUs('messages_per_day', (atMs + HOUR) * 1000),
      gate: () =>
        this.gates.push({
          kind: 'campaign',
          value: 'spring',
          site: SITE,
          messagesPerS: 0,
          closedUntilMs: atMs,
          by: 'rule r',
        }),
      source: () => this.missing.push(SOURCE),
    };
    puts[what]();
  }

  /** Lifts what is named, as operators do it. */
  lift(kind: string, key: string | null): void {
    const lifts: Record<string, () => void> = {
      suspend: () => {
        this.rules = [];
      },
      hold: () => {
        this.row.state = 'PENDING';
      },
      connection_wait: () => {
        this.slots.own.freeConnection();
        const job = this.waiting as Job;
        this.waiting = null;
        this.#send(job);
      },
      connect_failures: () => this.scheduler.suspend(DESTINATION, 0),
      retry_delay: () => {
        this.row.nextAttemptMs = 0;
      },
      adaptive: () => this.keys.close(`${SITE} ${SOURCE}`, 'adaptive', 0),
      warmup: () => this.keys.close(`${SITE} ${SOURCE}`, 'warmup', 0),
      provider_limit: () => {
        if (key?.startsWith('total_') === true) this.slots.total.setNextUs('messages_per_day', 0);
        else this.slots.own.setNextUs('messages_per_h', 0);
      },
      campaign_paused: () => {
        this.gates = [];
      },
      source_paused: () => {
        this.missing = [];
      },
    };
    const lift = lifts[kind];
    assert.ok(lift !== undefined, `${kind} ${key} can be lifted`);
    lift();
  }

  /** The scheduler looks at the destination, as it does now and then. */
  async settle(): Promise<void> {
    this.scheduler.rulesChanged();
    this.scheduler.changed([{ destination: DESTINATION, rows: 0 }]);
    for (let i = 0; i < 3; i++) await new Promise(setImmediate);
  }

  why() {
    const { row } = this;
    const recipients = [{ seq: 0, address: `x@${DESTINATION}`, destination: DESTINATION, status: 'waiting' }];
    const mail = { queueId: 'id', rows: [row], recipients } as unknown as MailDetail;
    const standing = { holds: [], rules: this.rules, destinations: [this.scheduler.standing(DESTINATION)] };
    const explained = this.explain.explain(askedOf(mail));
    return (
      whyAnswer(mail, standing, this.rules, [], Date.now(), undefined, explained).entries[0]?.causes ?? []
    );
  }
}

const RULE: SuspensionRule = {
  id: 'k7q2m9xd',
  destinations: [DESTINATION],
  domains: [],
  senders: [],
  users: [],
  tenants: [],
  campaigns: [],
  reason: 'moves house',
  createdBy: 'root',
  node: '',
  createdAtMs: timeOfDayMs(0),
  untilMs: null,
  endedAtMs: null,
};

const ALL: Held[] = [
  'rule',
  'routing',
  'learned',
  'hold',
  'suspended',
  'retry',
  'adaptive',
  'warmup',
  'hour',
  'total',
  'gate',
  'source',
];

test('what is named first, lifted again and again, moves the message; nothing before the last does', async () => {
  // Each alone, all pairs, and a sample of the rest.
  const sets = Array.from({ length: 2 ** ALL.length }, (_, bits) => ALL.filter((_one, i) => (bits >> i) & 1));
  for (const [i, set] of sets.entries()) {
    // An entry is held once, by whom ever.
    if (set.includes('hold') && set.includes('routing')) continue;
    if (set.length > 2 && i % 23 !== 0) continue;
    const world = new World();
    for (const one of set) world.put(one);
    world.scheduler.waiting(DESTINATION, 1, world.row.nextAttemptMs);
    await world.settle();
    const lifted: string[] = [];
    while (!world.delivered) {
      const [first] = world.why();
      assert.ok(first !== undefined && lifted.length <= 2 * ALL.length, `${set}: ${lifted}`);
      lifted.push(first.kind);
      world.lift(first.kind, first.key);
      await world.settle();
    }
    // Where a thread gave it back, its pause is lifted too.
    const lifts = lifted.filter((kind) => kind !== 'retry_delay').length;
    assert.equal(lifts, set.filter((one) => one !== 'retry').length, `${set}: ${lifted}`);
  }
});
