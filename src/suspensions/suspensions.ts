/**
 * The rules as one relay process knows them: from the host's files, which it looks at every second, from the shards of
 * the queue, where nodes tell each other, and from the operator's command. What it learns from one it passes on to the
 * others. As long as it is not sure of the rules, it holds all mail.
 */
import { BrokenInvariant } from '../base/broken-invariant.ts';
import type { Log } from '../base/log.ts';
import { SuspensionMatcher, type SuspensionRule } from '../mail/suspension.ts';
import type { FilesRead, RuleFiles } from './rule-files.ts';
import { type Clocks, type RuleChange, RuleSet } from './rule-set.ts';
import type { ShardRules } from './shard-rules.ts';

export const LOOK_MS = 1000;
/** A timer cannot wait for longer. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

export interface SuspensionsPorts {
  files: RuleFiles;
  /** One for each shard; [] where the queue is a file. */
  shards: readonly ShardRules[];
  clocks: Clocks;
  log: Log;
  /** Other rules hold from now on. Resolves when what delivery had and had not begun was taken back. */
  changed(change: RuleChange): Promise<void>;
}

export class Suspensions {
  /** Which mail is held. Replaced as a whole when rules change. */
  matcher = new SuspensionMatcher([]);
  readonly #ports: SuspensionsPorts;
  readonly #rules: RuleSet;
  #damaged: FilesRead['damaged'] = [];
  #timer: NodeJS.Timeout | null = null;
  #endTimer: NodeJS.Timeout | null = null;
  #fileFault = '';
  /** The rules as they were when they were last in force. */
  #inForce: SuspensionRule[] = [];
  #changing: Promise<void> = Promise.resolve();

  constructor(ports: SuspensionsPorts) {
    this.#ports = ports;
    this.#rules = new RuleSet(ports.clocks);
  }

  /** To be called before anything is sent: reads the files, and the shards that answer. */
  async load(): Promise<void> {
    this.#readFiles();
    await Promise.all(this.#ports.shards.map((shard) => this.#exchange(shard)));
    await this.#apply();
  }

  start(): void {
    this.#timer = setInterval(() => void this.look(), LOOK_MS);
    this.#timer.unref();
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    if (this.#endTimer !== null) clearTimeout(this.#endTimer);
  }

  /** The rules that hold mail, those of the relay itself among them. */
  get active(): readonly SuspensionRule[] {
    return this.#inForce;
  }

  /** How long the rule still holds; Infinity when it has no end. */
  leftMs(rule: SuspensionRule): number {
    return isOwn(rule) ? Number.POSITIVE_INFINITY : this.#rules.leftMs(rule);
  }

  /**
   * An operator changed rules, and they are in the files. Resolves when they hold here.
   * @returns shards that could not be told: they are once they answer.
   */
  async take(rules: readonly SuspensionRule[]): Promise<string[]> {
    this.#rules.merge(rules);
    this.#readFiles();
    await this.#apply();
    const { shards } = this.#ports;
    const told = await Promise.all(shards.map((shard) => this.#exchange(shard)));
    return shards.filter((_, i) => !told[i]).map(({ name }) => name);
  }

  /** Looks whether others changed rules. */
  async look(): Promise<void> {
    try {
      this.#readFiles();
      await this.#apply();
      await Promise.all(this.#ports.shards.map((shard) => this.#lookAt(shard)));
    } catch (error) {
      if (error instanceof BrokenInvariant) throw error;
      this.#ports.log.error('suspensions.look_failed', { error });
    }
  }

  async #lookAt(shard: ShardRules): Promise<void> {
    // One that does not answer is not asked again and again.
    if (shard.busy) return;
    await this.#exchange(shard);
    await this.#apply();
  }

  /** Takes what the shard knows, and tells it what it does not. @returns whether it answered. */
  async #exchange(shard: ShardRules): Promise<boolean> {
    const learned = await shard.exchange(this.#rules.all());
    if (learned === null) return false;
    const change = this.#rules.merge(learned);
    this.#writeFiles([...change.begun, ...change.ended]);
    return true;
  }

  #readFiles(): void {
    const read = this.#ports.files.readChanged();
    if (read === null) return;
    const before = this.#damaged.length;
    this.#damaged = read.damaged;
    this.#rules.merge(read.rules);
    if (read.damaged.length > before)
      this.#ports.log.error('suspensions.damaged', {
        paths: read.damaged.map(({ path }) => path),
        error: read.damaged[0]?.why,
      });
  }

  /** What another node ordered is kept here too, for a start without the shards. */
  #writeFiles(rules: readonly SuspensionRule[]): void {
    try {
      this.#ports.files.write(rules.flatMap(({ id }) => this.#rules.get(id) ?? []));
      this.#fileFault = '';
    } catch (error) {
      const { message } = error as Error;
      if (message !== this.#fileFault) this.#ports.log.warn('suspensions.not_kept', { error });
      this.#fileFault = message;
    }
  }

  /** Puts the rules as they are now in force. */
  async #apply(): Promise<void> {
    const rules = [...this.#own(), ...this.#rules.active()];
    this.#watchEnd();
    const before = new Map(this.#inForce.map((rule) => [rule.id, rule]));
    const now = new Map(rules.map((rule) => [rule.id, rule]));
    const begun = rules.filter(({ id }) => !before.has(id));
    const ended = this.#inForce.filter(({ id }) => !now.has(id));
    if (begun.length + ended.length > 0) {
      this.#inForce = rules;
      this.matcher = new SuspensionMatcher(rules);
      this.#changing = this.#changing.then(() => this.#changed({ begun, ended }));
    }
    // Also a change that another look found is in force only then.
    await this.#changing;
  }

  async #changed(change: RuleChange): Promise<void> {
    try {
      await this.#ports.changed(change);
    } catch (error) {
      if (error instanceof BrokenInvariant) throw error;
      this.#ports.log.error('suspensions.look_failed', { error });
    }
  }

  #own(): SuspensionRule[] {
    const { shards } = this.#ports;
    const own: SuspensionRule[] = [];
    if (shards.length > 0 && shards.every(({ known }) => !known)) own.push(ownRule('unread', UNREAD));
    if (this.#damaged.length > 0) own.push(damagedRule(this.#damaged));
    return own;
  }

  #watchEnd(): void {
    if (this.#endTimer !== null) clearTimeout(this.#endTimer);
    this.#endTimer = null;
    const leftMs = this.#rules.nextEndMs();
    if (leftMs === Number.POSITIVE_INFINITY) return;
    this.#endTimer = setTimeout(
      () => void this.look(),
      Math.min(Math.max(1, leftMs), LONGEST_TIMER_MS),
    ).unref();
  }
}

const UNREAD = 'no shard has told yet which mail is suspended';

/** The id of the rule that holds all mail while files of rules cannot be read. */
export const DAMAGED = 'damaged';

export const damagedRule = ([first]: FilesRead['damaged']): SuspensionRule =>
  ownRule(DAMAGED, `${first?.path} cannot be read: ${first?.why}`.slice(0, 300));

/** A rule of the relay itself for all mail. */
function ownRule(id: string, reason: string): SuspensionRule {
  const selectors = { destinations: [], domains: [], senders: [], users: [], tenants: [], campaigns: [] };
  return {
    id,
    ...selectors,
    reason,
    createdBy: 'relay',
    node: '',
    createdAtMs: 0,
    untilMs: null,
    endedAtMs: null,
  };
}

const isOwn = ({ createdAtMs }: SuspensionRule): boolean => createdAtMs === 0;
