/**
 * Policies of MTA-STS on disk, so that a restart forgets none of them (RFC 8461 §5.1): one file for each domain,
 * shared by all threads and processes of the host. Files are replaced as a whole, so readers see the old or the new
 * one. A file that cannot be read counts as missing, and is reported. There are at most about `maxDomains` files.
 */

import { createHash } from 'node:crypto';
import { access, open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Log } from '../../base/log.ts';
import { makeFolder } from '../../base/make-folder.ts';
import { parsePolicy, type StsPolicy } from './sts-policy.ts';

export interface StoredPolicy {
  domain: string;
  /** The id in the record that announced it. */
  id: string;
  policy: StsPolicy;
  /** The text as it was fetched. */
  text: string;
  fetchedAtMs: number;
  untilMs: number;
}

export interface StsStoreOptions {
  dir: string;
  maxDomains: number;
  /** Name of this writer, unique on the host. */
  writer: string;
  warn: Log['warn'];
  now(): number;
}

const SUFFIX = '.json';
const PLAIN_NAME = /^[a-z0-9_-][a-z0-9_.-]{0,199}$/;
/** Longest file that is read: a policy has at most 64 KiB, and JSON may take six octets for one. */
const MAX_BYTES = 400_000;
/** Age at which a half-written file is removed: the process that wrote it has died. */
const STALE_MS = 600_000;
const RECOUNT_MS = 60_000;

export class StsStore {
  readonly #options: StsStoreOptions;
  #writes = 0;
  #files = 0;
  #countedAtMs = Number.NEGATIVE_INFINITY;
  #counting: Promise<void> = Promise.resolve();

  constructor(options: StsStoreOptions) {
    this.#options = options;
  }

  /** The policy kept for a domain; null when there is none, or it has ended. Never rejects. */
  async read(domain: string): Promise<StoredPolicy | null> {
    return this.#readFile(fileOf(domain), domain);
  }

  async #readFile(name: string, domain: string | null): Promise<StoredPolicy | null> {
    const file = join(this.#options.dir, name);
    try {
      const bytes = await readFile(file);
      const stored = bytes.length > MAX_BYTES ? null : decode(bytes.toString('utf8'), this.#options.now());
      if (stored !== null && fileOf(stored.domain) === name && (domain ?? stored.domain) === stored.domain)
        return stored.untilMs > this.#options.now() ? stored : null;
      this.#options.warn('mta_sts.damaged', {
        path: file,
        advice: 'with the next mail the policy is fetched again',
      });
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== 'ENOENT')
        this.#options.warn('mta_sts.unreadable', { path: file, error: code ?? String(error) });
    }
    return null;
  }

  /** Stores a policy in place of an older one. Never rejects: without a disk it is kept in memory only. */
  async write(stored: StoredPolicy): Promise<void> {
    const { dir, writer, warn, maxDomains } = this.#options;
    const file = join(dir, fileOf(stored.domain));
    const temporary = `${file}.${writer}-${this.#writes++}.new`;
    try {
      makeFolder(dir, 0o700);
      if (!(await this.#hasRoom(stored.domain))) {
        warn('mta_sts.not_kept', { domain: stored.domain, max_domains: maxDomains });
        return;
      }
      const handle = await open(temporary, 'wx', 0o600);
      try {
        await handle.writeFile(encode(stored));
        // Without this, a power cut could leave the name with an empty file.
        await handle.sync();
      } finally {
        await handle.close();
      }
      await rename(temporary, file);
    } catch (error) {
      warn('mta_sts.not_written', {
        path: file,
        error: (error as NodeJS.ErrnoException).code ?? String(error),
      });
      await rm(temporary, { force: true }).catch(() => {}); // the disk failed, and that was reported
    }
  }

  async #hasRoom(domain: string): Promise<boolean> {
    const { dir, maxDomains, now } = this.#options;
    const known = await access(join(dir, fileOf(domain))).then(
      () => true,
      () => false,
    );
    if (known) return true;
    if (now() - this.#countedAtMs > RECOUNT_MS) {
      this.#countedAtMs = now();
      this.#counting = this.#names().then((names) => {
        this.#files = names.length;
      });
    }
    // Later calls wait for the same count: a second one would not include what was let in after the first.
    await this.#counting;
    return this.#files++ < maxDomains;
  }

  async #names(): Promise<string[]> {
    const names = await readdir(this.#options.dir).catch(() => []);
    return names.filter((name) => name.endsWith(SUFFIX));
  }

  /**
   * All policies, one after the other. Removes files on the way whose policy has ended, or that are damaged or
   * half-written.
   */
  async *all(): AsyncGenerator<StoredPolicy> {
    const { dir, now } = this.#options;
    for (const name of await readdir(dir).catch(() => [])) {
      if (!name.endsWith(SUFFIX)) {
        await this.#removeStale(join(dir, name));
        continue;
      }
      const stored = await this.#readFile(name, null);
      if (stored !== null) yield stored;
      // The file may have been replaced by now: remove it only if it has still ended.
      else if ((await this.#endOf(join(dir, name))) <= now())
        await rm(join(dir, name), { force: true }).catch(() => {}); // the next round tries again
    }
  }

  async #endOf(file: string): Promise<number> {
    const text = await readFile(file, 'utf8').catch(() => '');
    return decode(text, this.#options.now())?.untilMs ?? 0;
  }

  async #removeStale(file: string): Promise<void> {
    try {
      const handle = await open(file);
      const { mtimeMs } = await handle.stat().finally(() => handle.close());
      if (file.endsWith('.new') && this.#options.now() - mtimeMs > STALE_MS) await rm(file, { force: true });
    } catch {
      // Its writer has renamed it meanwhile.
    }
  }
}

/** The file name of a domain: the domain itself where it can be one. */
function fileOf(domain: string): string {
  const name = PLAIN_NAME.test(domain) ? domain : createHash('sha256').update(domain).digest('hex');
  return `${name}${SUFFIX}`;
}

function encode({ domain, id, text, fetchedAtMs }: StoredPolicy): string {
  return `${JSON.stringify({ domain, id, fetched_at: new Date(fetchedAtMs).toISOString(), policy: text }, null, 2)}\n`;
}

function decode(json: string, nowMs: number): StoredPolicy | null {
  let value: Record<string, unknown> | null;
  try {
    value = JSON.parse(json) as Record<string, unknown> | null;
  } catch {
    return null;
  }
  const { domain, id, fetched_at, policy: text } = value ?? {};
  if (typeof domain !== 'string' || typeof id !== 'string' || typeof text !== 'string') return null;
  // A clock that was ahead at the fetch must not prolong the policy.
  const fetchedAtMs = Math.min(Date.parse(String(fetched_at)), nowMs);
  const policy = parsePolicy(text);
  if (policy === null || Number.isNaN(fetchedAtMs)) return null;
  return { domain, id, policy, text, fetchedAtMs, untilMs: fetchedAtMs + policy.maxAgeMs };
}
