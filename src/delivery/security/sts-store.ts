/**
 * Policies of MTA-STS on disk, so that a restart forgets none of them (RFC 8461 §5.1): one file for each domain, shared by
 * all threads and processes of the host. A file is replaced as a whole, so whoever reads meanwhile has the old one or the
 * new one; what cannot be read counts as not there and is told. Never more files than `maxDomains`, about.
 */
import { createHash } from 'node:crypto';
import { access, open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { makeFolder } from '../../base/make-folder.ts';
import { parsePolicy, type StsPolicy } from './sts-policy.ts';

export interface StoredPolicy {
  domain: string;
  /** Of the record that announced it. */
  id: string;
  policy: StsPolicy;
  /** As it was fetched. */
  text: string;
  fetchedAtMs: number;
  untilMs: number;
}

export interface StsStoreOptions {
  dir: string;
  maxDomains: number;
  /** Tells this writer from all others of the host. */
  writer: string;
  warn(event: string, fields: Record<string, unknown>): void;
  now(): number;
}

const SUFFIX = '.json';
const PLAIN_NAME = /^[a-z0-9_-][a-z0-9_.-]{0,199}$/;
/** Longest file that is read; a policy has at most 64 KiB, and JSON may write an octet in six. */
const MAX_BYTES = 400_000;
/** A file half written by a process that died is removed after so long. */
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

  /** What is kept for a domain and not over; null when there is nothing. Never rejects. */
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
      this.#options.warn('mta-sts.damaged', {
        file,
        advice: 'with the next mail the policy is fetched again',
      });
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== 'ENOENT') this.#options.warn('mta-sts.unreadable', { file, error: code ?? String(error) });
    }
    return null;
  }

  /** Keeps a policy in place of what was there. Never rejects: without a disk it is kept in memory only. */
  async write(stored: StoredPolicy): Promise<void> {
    const { dir, writer, warn, maxDomains } = this.#options;
    const file = join(dir, fileOf(stored.domain));
    const temporary = `${file}.${writer}-${this.#writes++}.new`;
    try {
      makeFolder(dir, 0o700);
      if (!(await this.#hasRoom(stored.domain))) {
        warn('mta-sts.not-kept', { domain: stored.domain, max_domains: maxDomains });
        return;
      }
      const handle = await open(temporary, 'wx', 0o600);
      try {
        await handle.writeFile(encode(stored));
        // A name that leads to nothing after a power cut would be no policy.
        await handle.sync();
      } finally {
        await handle.close();
      }
      await rename(temporary, file);
    } catch (error) {
      warn('mta-sts.not-written', { file, error: (error as NodeJS.ErrnoException).code ?? String(error) });
      await rm(temporary, { force: true }).catch(() => {}); // the disk fails: it was told of
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
    // Whoever comes meanwhile waits as well: a second count would forget who was let in by the first.
    await this.#counting;
    return this.#files++ < maxDomains;
  }

  async #names(): Promise<string[]> {
    const names = await readdir(this.#options.dir).catch(() => []);
    return names.filter((name) => name.endsWith(SUFFIX));
  }

  /** All that is kept, one after the other; files that are over, damaged or left half written are removed on the way. */
  async *all(): AsyncGenerator<StoredPolicy> {
    const { dir, now } = this.#options;
    for (const name of await readdir(dir).catch(() => [])) {
      if (!name.endsWith(SUFFIX)) {
        await this.#removeStale(join(dir, name));
        continue;
      }
      const stored = await this.#readFile(name, null);
      if (stored !== null) yield stored;
      // It may be another one by now: only what is still over goes.
      else if ((await this.#endOf(join(dir, name))) <= now())
        await rm(join(dir, name), { force: true }).catch(() => {}); // tried again
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
      // Its writer was faster.
    }
  }
}

/** Readable where the name can be a file's. */
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
  // A clock that was ahead once keeps nothing for longer.
  const fetchedAtMs = Math.min(Date.parse(String(fetched_at)), nowMs);
  const policy = parsePolicy(text);
  if (policy === null || Number.isNaN(fetchedAtMs)) return null;
  return { domain, id, policy, text, fetchedAtMs, untilMs: fetchedAtMs + policy.maxAgeMs };
}
