/**
 * Saves what the policy of a host must remember over a restart: bans within a second of every change, the greylist every
 * minute and at the end. Also carries out what operators ask and order about bans. There is one for a host, in the
 * process that began it; the memory itself is shared.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { RelayError } from '../base/errors.ts';
import { formatNetwork, type Network, parseNetwork } from '../base/ip.ts';
import type { Log } from '../base/log.ts';
import { makeFolder } from '../base/make-folder.ts';
import { putBans, readBans, writeBans, writeBansSync } from './ban-file.ts';
import { type Ban, endOf, FOREVER_MS, shifted } from './ban-table.ts';
import { shiftSeen } from './greylist.ts';
import type { PolicyMemory } from './host-memory.ts';

const LOOK_INTERVAL_MS = 1000;
const LOOKS_PER_GREYLIST_SAVE = 60;

export const bansPath = (dataDir: string): string => join(dataDir, 'policy', 'bans.jsonl');
const greylistPath = (dataDir: string): string => join(dataDir, 'policy', 'greylist.bin');

export interface KeeperOptions {
  memory: PolicyMemory;
  dataDir: string;
  log: Log;
  /** How long an entry that is over still counts (policy.bans.forget_ms). */
  forgetMs: () => number;
  /** Whether the greylist is in use. */
  greylisting: () => boolean;
  /** An operator deleted a ban. */
  deleted: (network: string) => void;
  /** Time as the memory has it (policyMs). */
  now: () => number;
  /** What is to be added to `now()` to make it a time of day. */
  toDayMs: () => number;
}

export class PolicyKeeper {
  readonly #options: KeeperOptions;
  readonly #timer: NodeJS.Timeout;
  #savedVersion: number;
  #looks = 0;
  #saving: Promise<void> | null = null;
  #failed = false;

  /** Reads what was saved. To be made before any other thread uses the memory. */
  constructor(options: KeeperOptions) {
    this.#options = options;
    const { memory, dataDir } = options;
    makeFolder(join(dataDir, 'policy'), 0o700);
    this.#read();
    this.#savedVersion = memory.bans.version;
    this.#timer = setInterval(() => this.#look(), LOOK_INTERVAL_MS).unref();
  }

  #read(): void {
    const { memory, dataDir, log, toDayMs } = this.#options;
    try {
      const { records: bans, bad } = readBans(bansPath(dataDir));
      putBans(
        memory.bans,
        bans.map((ban) => shifted(ban, -toDayMs())),
      );
      if (bad > 0) log.warn('policy.bans_damaged', { path: bansPath(dataDir), lines: bad });
    } catch (error) {
      log.error('policy.bans_unreadable', { path: bansPath(dataDir), error });
    }
    try {
      const bytes = readFileSync(greylistPath(dataDir));
      // A file of another size is of another table: it is ignored, and everybody is new once.
      if (bytes.length === memory.greylistBytes.length) {
        shiftSeen(bytes, -toDayMs());
        memory.greylistBytes.set(bytes);
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
        log.error('policy.greylist_unreadable', { path: greylistPath(dataDir), error });
    }
  }

  list(): Ban[] {
    const { memory, now } = this.#options;
    return this.#ofDay(memory.bans.list(now()));
  }

  /** Bans an address or network; `durationMs` null: until it is deleted. @throws RelayError when the text is neither. */
  add(text: string, durationMs: number | null): Ban {
    const { memory, now, log } = this.#options;
    const ban = operatorBan(text, durationMs, now());
    memory.bans.put(networkOf(text), ban);
    const [shown] = this.#ofDay([ban]) as [Ban];
    log.info('policy.ban', { network: ban.network, kind: ban.kind, ...endOf(shown) });
    return shown;
  }

  /** False when it was not banned. @throws RelayError when it is no address or network. */
  delete(text: string): boolean {
    const { memory, now, log } = this.#options;
    const network = networkOf(text);
    const held = (memory.bans.get(network)?.untilMs ?? 0) > now();
    memory.bans.remove(network);
    this.#options.deleted(formatNetwork(network));
    if (held) log.info('policy.ban_deleted', { network: formatNetwork(network) });
    return held;
  }

  #look(): void {
    this.#looks++;
    const greylist = this.#looks % LOOKS_PER_GREYLIST_SAVE === 0 && this.#options.greylisting();
    const { version } = this.#options.memory.bans;
    if (this.#saving !== null || (version === this.#savedVersion && !greylist)) return;
    this.#saving = this.#save(version, greylist).finally(() => {
      this.#saving = null;
    });
  }

  async #save(version: number, greylist: boolean): Promise<void> {
    const { dataDir } = this.#options;
    try {
      if (version !== this.#savedVersion) await writeBans(bansPath(dataDir), this.#kept());
      this.#savedVersion = version;
      if (greylist) {
        const path = greylistPath(dataDir);
        await writeFile(`${path}.new`, this.#greylist(), { mode: 0o600 });
        await rename(`${path}.new`, path);
      }
      this.#failed = false;
    } catch (error) {
      this.#saveFailed(error);
    }
  }

  #saveFailed(error: unknown): void {
    if (!this.#failed) this.#options.log.error('policy.save_failed', { path: this.#options.dataDir, error });
    this.#failed = true;
  }

  #kept(): Ban[] {
    const { memory, now, forgetMs } = this.#options;
    return this.#ofDay(memory.bans.list(now() - forgetMs()));
  }

  /** With times of day, for people and files. */
  #ofDay(bans: Ban[]): Ban[] {
    const byMs = this.#options.toDayMs();
    return bans.map((ban) => shifted(ban, byMs));
  }

  #greylist(): Buffer {
    const bytes = Buffer.from(this.#options.memory.greylistBytes);
    shiftSeen(bytes, this.#options.toDayMs());
    return bytes;
  }

  /** Saves a last time. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#saving;
    const { memory, dataDir, greylisting } = this.#options;
    try {
      if (memory.bans.version !== this.#savedVersion) writeBansSync(bansPath(dataDir), this.#kept());
      this.#savedVersion = memory.bans.version;
      if (!greylisting()) return;
      const path = greylistPath(dataDir);
      writeFileSync(`${path}.new`, this.#greylist(), { mode: 0o600 });
      renameSync(`${path}.new`, path);
    } catch (error) {
      this.#saveFailed(error);
    }
  }
}

/** @throws RelayError when the text is no address or network. */
export function networkOf(text: string): Network {
  const network = parseNetwork(text);
  if (network !== null) return network;
  throw new RelayError(
    'control_failed',
    `"${text}" is no address or network; write 192.0.2.1 or 2001:db8::/64`,
  );
}

/** @throws RelayError when the text is no address or network. */
export function operatorBan(text: string, durationMs: number | null, nowMs: number): Ban {
  const untilMs = durationMs === null ? FOREVER_MS : Math.min(FOREVER_MS, nowMs + durationMs);
  return { network: formatNetwork(networkOf(text)), kind: 'operator', sinceMs: nowMs, untilMs, times: 1 };
}
