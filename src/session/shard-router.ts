/**
 * Which shard takes a new message, and so the last character of its queue id. Decided where the message becomes
 * complete, from a word of shared memory that says which shards can be used: no question to another thread, and a
 * shard that is down gets nothing new.
 */

import { GAUGE, type Gauges } from '../admission/gauges.ts';
import { type MostRecent, mostRecent } from '../base/most-recent.ts';
import type { Config } from '../config/schema.ts';
import type { Envelope } from '../mail/envelope.ts';
import { type QueueIds, withShard } from '../mail/queue-id.ts';

type Distributed = Extract<Config['database'], { driver: 'mysql_distributed' }>;

interface Weighted {
  id: number;
  weight: number;
}

const ASK_AGAIN_MS = 1000;

/** What we know of a user's shard; null: user_shards does not say. */
interface Answer {
  shard: number | null;
  /** A fresh answer was asked for. */
  asked: boolean;
  untilMs: number;
}

export interface ShardRouterOptions {
  database: Config['database'];
  gauges: Gauges;
  queueIds: QueueIds;
  now(): number;
  /** Asks user_shards; `learn` or `unanswered` is called with what came of it. */
  lookUp(user: string): void;
}

export class ShardRouter {
  readonly #options: ShardRouterOptions;
  readonly #router: Distributed['router'] | null;
  readonly #shards: Weighted[];
  readonly #idOfName = new Map<string, number>();
  readonly #answers: MostRecent<Answer>;
  /** The set of usable shards that `#choices` is for. */
  #mask = -1;
  #choices: Weighted[] = [];
  #totalWeight = 0;

  constructor(options: ShardRouterOptions) {
    this.#options = options;
    const { database } = options;
    const distributed = database.driver === 'mysql_distributed' ? database : null;
    this.#router = distributed?.router ?? null;
    this.#shards = (distributed?.shards ?? []).map(({ id, weight }, i) => ({ id: id ?? i, weight }));
    distributed?.shards.forEach(({ name, id }, i) => {
      this.#idOfName.set(name, id ?? i);
    });
    this.#answers = mostRecent(distributed?.router.cache_max_entries ?? 1);
  }

  /** At MAIL: asks for the sender's shard, so that the answer comes while the client sends the rest. */
  expect(sender: string): void {
    if (this.#router?.type !== 'table' || sender === '') return;
    const user = sender.toLowerCase();
    const known = this.#answers.get(user);
    if (known !== undefined && (known.asked || known.untilMs > this.#options.now())) return;
    if (known !== undefined) known.asked = true;
    else this.#answers.set(user, { shard: null, asked: true, untilMs: 0 });
    this.#options.lookUp(user);
  }

  /** user_shards answered; null: it does not have this user. */
  learn(user: string, shard: number | null): void {
    const untilMs = this.#options.now() + (this.#router?.cache_ttl_ms ?? 0);
    this.#answers.set(user, { shard, asked: false, untilMs });
  }

  /** Nobody could say: what was known stays, and it is asked again soon. */
  unanswered(user: string): void {
    const shard = this.#answers.get(user)?.shard ?? null;
    this.#answers.set(user, { shard, asked: false, untilMs: this.#options.now() + ASK_AGAIN_MS });
  }

  /** The id of a message that is complete. */
  queueId(envelope: Envelope): string {
    const { queueIds } = this.#options;
    if (this.#router === null) return queueIds.next();
    const base = queueIds.nextBase();
    return withShard(base, this.#routed(envelope) ?? this.#hashed(base));
  }

  /** What the router says, when that shard can be used. */
  #routed({ reversePath, recipients }: Envelope): number | null {
    let shard: number | null = null;
    if (this.#router?.type === 'table') shard = this.#answers.get(reversePath.toLowerCase())?.shard ?? null;
    else if (this.#router?.type === 'static') shard = this.#ofDomains(recipients);
    if (shard === null) return null;
    return (Atomics.load(this.#options.gauges, GAUGE.usableShards) & (1 << shard)) === 0 ? null : shard;
  }

  #ofDomains(recipients: Envelope['recipients']): number | null {
    const domains = this.#router?.domains ?? {};
    for (const { domain } of recipients) {
      const name = domains[domain];
      if (name !== undefined) return this.#idOfName.get(name) ?? null;
    }
    return null;
  }

  /** By weight among the shards that can be used; where none can, the commit will say what is wrong. */
  #hashed(base: string): number {
    this.#update();
    let point = hash(base) % this.#totalWeight;
    for (const { id, weight } of this.#choices) {
      if (point < weight) return id;
      point -= weight;
    }
    return (this.#shards[0] as Weighted).id;
  }

  #update(): void {
    const mask = Atomics.load(this.#options.gauges, GAUGE.usableShards);
    if (mask === this.#mask) return;
    this.#mask = mask;
    const usable = this.#shards.filter(({ id }) => (mask & (1 << id)) !== 0);
    const choices = usable.length > 0 ? usable : this.#shards;
    // Where only shards of weight 0 are left: better there than nowhere.
    const weightless = choices.every(({ weight }) => weight === 0);
    this.#choices = weightless ? choices.map(({ id }) => ({ id, weight: 1 })) : choices;
    this.#totalWeight = this.#choices.reduce((sum, { weight }) => sum + weight, 0);
  }
}

/** FNV-1a, its bits mixed (the finalizer of MurmurHash3): neighbouring ids fall anywhere. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  value = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35);
  return (value ^ (value >>> 16)) >>> 0;
}
