/**
 * What nodes share of the policy, over Redis: buckets, bans, greylist, quotas. There is one for a host, on the main thread
 * of the process that keeps the policy; sessions use the host's memory and know nothing of Redis. Every
 * `sync_interval_ms` one round trip tells the others what was counted here and hears what they counted. Redis has a log
 * of the last seconds (a stream), and the bans; nothing else stays there.
 *
 * While Redis is away every host counts for itself. When it is back, each tells how full its buckets are, and the
 * fullest counts.
 */
import { randomBytes } from 'node:crypto';
import type { ChainableCommander, Redis } from 'ioredis';
import type { Log } from '../base/log.ts';
import { keyPrefix, openRedis } from '../base/redis-client.ts';
import { MAX_RETRY_MS, RETRY_MS, type RedisAccess } from '../base/redis-options.ts';
import { within } from '../base/within.ts';
import type { BanFact, ClusterBans } from './cluster-bans.ts';
import type { ClusterLedger, Field } from './cluster-ledger.ts';
import { PUT_BANS } from './redis-script.ts';

export interface PolicyClusterOptions extends RedisAccess {
  /** Name of this host, for people. */
  name: string;
  intervalMs: number;
  bans: ClusterBans;
  /** Everything else that is shared. */
  ledger: ClusterLedger;
  log: Log;
  /** Time as the memory has it (policyMs). */
  now(): number;
}

/** A node that joins begins with the log's start; one that was away for longer than it is kept hears levels. */
const LOG_KEPT_MS = 10_000;
const ENTRIES_AT_ONCE = 500;
const HEARTBEAT_INTERVAL_MS = 1000;
const NODE_GONE_AFTER_MS = 5000;
const BANS_INTERVAL_MS = 300;
const FACTS_AT_ONCE = 5000;
const PRUNE_INTERVAL_MS = 60_000;
const CLOSE_TIMEOUT_MS = 1000;

type Entry = [id: Buffer, fields: Buffer[]];
type Scripted = ChainableCommander & { relayPutBans(key: string, ...facts: (string | number)[]): unknown };

export class PolicyCluster {
  readonly #options: PolicyClusterOptions;
  readonly #client: Redis;
  readonly #node: string;
  #up = false;
  /** The loss of Redis was logged, and not its return yet. */
  #saidLost = false;
  #timer: NodeJS.Timeout | null = null;
  #running: Promise<void> = Promise.resolve();
  #retryMs = RETRY_MS;
  #closed = false;
  /** Id of the last entry that was read. */
  #lastId: string | null = null;
  /** How far the clock of Redis is ahead of ours. */
  #aheadMs = 0;
  #beatMs = 0;
  #bansMs = 0;
  #pruneMs = 0;
  /** Other nodes, and when each was heard of. */
  readonly #others = new Map<string, number>();
  /** Facts about bans that Redis was not told of yet. */
  #facts: BanFact[] = [];

  constructor(options: PolicyClusterOptions) {
    this.#options = options;
    this.#node = `${options.name}/${randomBytes(6).toString('hex')}`;
    this.#client = openRedis(options, {
      lazyConnect: true,
      enableOfflineQueue: false,
      maxRetriesPerRequest: null,
      commandTimeout: options.timeoutMs,
      scripts: { relayPutBans: { lua: PUT_BANS, numberOfKeys: 1 } },
    });
    this.#client.on('error', (error) => this.#lost(error));
    this.#client.on('close', () => this.#lost(new Error('the connection to Redis was closed')));
    this.#client.connect().catch(() => {}); // told by its events; it tries again by itself
    this.#later(0);
  }

  get up(): boolean {
    return this.#up;
  }

  /** An operator deleted a ban here. */
  banDeleted(network: string): void {
    this.#facts.push(this.#options.bans.deleted(network, this.#redisMs()));
  }

  /** Tells what was not told yet, and leaves. */
  async close(): Promise<void> {
    this.#closed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    await within(CLOSE_TIMEOUT_MS, this.#running);
    this.#bansMs = 0;
    if (this.#up)
      await within(
        CLOSE_TIMEOUT_MS,
        this.#exchange('leave').catch(() => {}),
      );
    this.#client.disconnect();
  }

  #key(name: string): string {
    return `${keyPrefix(this.#options)}:policy:${name}`;
  }

  #redisMs(): number {
    return this.#options.now() + this.#aheadMs;
  }

  #later(delayMs: number): void {
    if (this.#closed) return;
    this.#timer = setTimeout(() => {
      this.#running = this.#turn();
    }, delayMs).unref();
  }

  async #turn(): Promise<void> {
    let pauseMs = this.#options.intervalMs;
    try {
      // What is counted while Redis is away is told by levels, when it is back.
      if (!this.#up) this.#options.ledger.forgetUntold();
      if (this.#client.status === 'ready') {
        if (!this.#up) await this.#comeUp();
        if (await this.#exchange()) pauseMs = 0;
        this.#retryMs = RETRY_MS;
      }
    } catch (error) {
      this.#lost(error as Error);
      pauseMs = this.#retryMs;
      this.#retryMs = Math.min(this.#retryMs * 2, MAX_RETRY_MS);
    }
    this.#later(pauseMs);
  }

  /** Agrees with the others about the seed and the bans. @throws when Redis fails. */
  async #comeUp(): Promise<void> {
    const { bans, ledger, now, log } = this.#options;
    const seedKey = this.#key('seed');
    const [, seed, time, held] = await execute(
      this.#client
        .pipeline()
        .setnx(seedKey, String(ledger.seed))
        .get(seedKey)
        .time()
        .hgetall(this.#key('bans')),
    );
    const [seconds, microseconds] = time as [string, string];
    this.#aheadMs = Number(seconds) * 1000 + Number(microseconds) / 1000 - now();
    if (!ledger.agree(Number(seed))) throw new Error(`${seedKey} in Redis is not ours: ${seed}`);
    const unknown = bans.meet(factsOf(held as Record<string, string>), this.#redisMs(), this.#aheadMs);
    this.#facts = unknown;
    ledger.tellLevels();
    this.#beatMs = this.#bansMs = 0;
    await this.#exchange('join');
    this.#up = true;
    // After an outage the others come back just as we do: how many there are is not known yet.
    log.info('policy.redis_up', this.#saidLost ? {} : { nodes: this.#others.size + 1 });
    this.#saidLost = false;
  }

  /**
   * One round trip.
   * @param word says that this node joins the others, or leaves them.
   * @returns whether there is more to tell or to hear at once. @throws when Redis fails.
   */
  async #exchange(word: 'join' | 'leave' | null = null): Promise<boolean> {
    const { ledger, now } = this.#options;
    const sentMs = now();
    const beat = sentMs - this.#beatMs >= HEARTBEAT_INTERVAL_MS;
    if (beat) this.#beatMs = sentMs;
    const pipeline = this.#client.pipeline();
    const log = this.#key('log');
    const facts = this.#newFacts(sentMs);
    const { fields, more } = ledger.tell(sentMs, this.#aheadMs);
    const tells = beat || word !== null || fields.length > 0 || facts.length > 0;
    pipeline.get(this.#key('seed'));
    // Facts first: a ban that the log speaks of is in Redis already.
    if (facts.length > 0) this.#putFacts(pipeline, facts, fields);
    if (tells) {
      const from = Math.floor(this.#redisMs() - LOG_KEPT_MS);
      const said = fields.flat();
      const coming = word === null ? [] : [word, '1'];
      pipeline.xadd(
        log,
        'MINID',
        '=',
        from,
        '*',
        'node',
        this.#node,
        'seed',
        ledger.seed,
        ...coming,
        ...said,
      );
    }
    this.#prune(pipeline, sentMs);
    pipeline.xrangeBuffer(
      log,
      this.#lastId === null ? '-' : `(${this.#lastId}`,
      '+',
      'COUNT',
      ENTRIES_AT_ONCE,
    );
    const results = await execute(pipeline);
    if (results[0] !== String(ledger.seed)) throw new Error('Redis lost what was written to it');
    const entries = results.at(-1) as Entry[];
    // Only facts that were answered for are dropped; had this thrown, they would be told again.
    this.#facts = this.#facts.slice(facts.length);
    if (tells) this.#setClock(results[facts.length > 0 ? 2 : 1] as string, sentMs);
    for (const entry of entries) this.#hear(entry);
    this.#count();
    return more || this.#facts.length > 0 || entries.length === ENTRIES_AT_ONCE;
  }

  #newFacts(nowMs: number): BanFact[] {
    if (nowMs - this.#bansMs >= BANS_INTERVAL_MS) {
      this.#bansMs = nowMs;
      this.#facts.push(...this.#options.bans.changes(this.#redisMs(), this.#aheadMs));
    }
    return this.#facts.slice(0, FACTS_AT_ONCE);
  }

  #putFacts(pipeline: ChainableCommander, facts: readonly BanFact[], fields: Field[]): void {
    const said = facts.flatMap(({ network, atMs, text }) => [network, Math.floor(atMs), text]);
    (pipeline as Scripted).relayPutBans(this.#key('bans'), ...said);
    fields.push(['bans', JSON.stringify(facts)]);
  }

  #prune(pipeline: ChainableCommander, nowMs: number): void {
    if (nowMs - this.#pruneMs < PRUNE_INTERVAL_MS) return;
    this.#pruneMs = nowMs;
    const gone = this.#options.bans.prune(this.#redisMs());
    if (gone.length > 0) pipeline.hdel(this.#key('bans'), ...gone);
  }

  /** @param id of the entry just written: its first part is the time in Redis. */
  #setClock(id: string, sentMs: number): void {
    const idMs = Number.parseInt(id, 10);
    this.#aheadMs = idMs - (sentMs + this.#options.now()) / 2;
    // Another Redis, or one whose clock was set back: its log is read from the start.
    if (this.#lastId !== null && idMs < Number.parseInt(this.#lastId, 10)) this.#lastId = null;
  }

  #hear([idBytes, raw]: Entry): void {
    const { ledger, bans, now } = this.#options;
    const id = idBytes.toString();
    this.#lastId = id;
    const fields = new Map<string, Buffer>();
    for (let i = 0; i + 1 < raw.length; i += 2) fields.set(String(raw[i]), raw[i + 1] as Buffer);
    const node = String(fields.get('node'));
    if (node === this.#node) return;
    const nowMs = now();
    const atMs = Math.min(nowMs, Number.parseInt(id, 10) - this.#aheadMs);
    if (fields.has('leave')) this.#others.delete(node);
    else this.#others.set(node, Math.max(this.#others.get(node) ?? 0, atMs));
    for (const fact of readFacts(fields.get('bans'))) bans.learn(fact, this.#redisMs(), this.#aheadMs);
    // Under another seed the same numbers are other keys.
    if (String(fields.get('seed')) === String(ledger.seed)) ledger.hear(fields, atMs, nowMs, this.#aheadMs);
    if (fields.has('join') && nowMs - atMs < NODE_GONE_AFTER_MS && this.#isFirstBut(node))
      ledger.tellLevels();
  }

  /** Whether this node is the one that tells a node that joins what is known: the first by name of those here. */
  #isFirstBut(joined: string): boolean {
    const oldestMs = this.#options.now() - NODE_GONE_AFTER_MS;
    for (const [node, heardMs] of this.#others)
      if (node !== joined && heardMs > oldestMs && node < this.#node) return false;
    return true;
  }

  #count(): void {
    const oldestMs = this.#options.now() - NODE_GONE_AFTER_MS;
    for (const [node, heardMs] of this.#others) if (heardMs < oldestMs) this.#others.delete(node);
    this.#options.ledger.nodes = this.#others.size + 1;
  }

  #lost(error: Error): void {
    if (this.#closed || (!this.#up && this.#saidLost)) return;
    this.#up = false;
    this.#saidLost = true;
    this.#others.clear();
    this.#options.ledger.nodes = 1;
    this.#options.log.warn('policy.redis_lost', {
      error: error.message || ((error as NodeJS.ErrnoException).code ?? error.name),
      advice: 'nobody waits for it: this host counts for itself until Redis can be used again',
    });
  }
}

/** Results of the commands. @throws the first error among them. */
async function execute(pipeline: ChainableCommander): Promise<unknown[]> {
  const results = (await pipeline.exec()) ?? [];
  return results.map(([error, result]) => {
    if (error !== null) throw error;
    return result;
  });
}

function factsOf(held: Record<string, string>): BanFact[] {
  return Object.entries(held).flatMap(([network, value]) => {
    const [, at, text = ''] = /^(\d+) (.*)$/.exec(value) ?? [];
    return at === undefined ? [] : [{ network, atMs: Number(at), text }];
  });
}

function readFacts(bytes: Buffer | undefined): BanFact[] {
  if (bytes === undefined) return [];
  try {
    const facts: unknown = JSON.parse(bytes.toString());
    return Array.isArray(facts) ? facts.filter(isFact) : [];
  } catch {
    return [];
  }
}

function isFact(value: unknown): value is BanFact {
  const { network, atMs, text } = (value ?? {}) as Partial<BanFact>;
  return typeof network === 'string' && Number.isFinite(atMs) && typeof text === 'string';
}
