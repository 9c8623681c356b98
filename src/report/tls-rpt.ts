/**
 * TLS reports (RFC 8460): counts the TLS sessions of each domain and UTC day, and keeps one file in the RFC's format
 * for each, `<dir>/<day>/<domain>.json` (`<domain>~1.json` for relay process 1). Counts are gathered in memory and
 * written now and then, without holding up mail; after a restart the counts of the day go on. Domains, policies and
 * failure details are bounded.
 */
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Log } from '../base/log.ts';
import type { Config } from '../config/schema.ts';
import type { TlsSession } from '../mail/tls-session.ts';

export interface TlsReportsOptions {
  dir: string;
  process: number;
  config: Config;
  log: Log;
  /** TXT records of a name; none when it has none, or the question failed. */
  txt(name: string): Promise<string[]>;
  now?: () => number;
}

export interface TlsReport {
  'organization-name': string;
  'date-range': { 'start-datetime': string; 'end-datetime': string };
  'contact-info': string;
  'report-id': string;
  policies: PolicyReport[];
  /** Not in the RFC's format: where the domain wants the report, from its `_smtp._tls` record. */
  rua: string[];
}

export interface PolicyReport {
  policy: { 'policy-type': string; 'policy-string': string[]; 'policy-domain': string; 'mx-host': string[] };
  summary: { 'total-successful-session-count': number; 'total-failure-session-count': number };
  'failure-details': FailureDetail[];
}

interface FailureDetail {
  'result-type': string;
  'receiving-mx-hostname': string;
  'receiving-ip': string;
  'failed-session-count': number;
  'failure-reason-code': string;
}

interface DomainDay {
  domain: string;
  day: string;
  policies: PolicyReport[];
  /** null: DNS was not asked yet. */
  rua: string[] | null;
  dirty: boolean;
  /** Whether the counts of an earlier process were read and added. */
  loaded: boolean;
}

/** Bounds for one domain and day; what is beyond is only counted in the sums. */
const MAX_POLICIES = 16;
const MAX_DETAILS = 16;
/** Bounds for the text of a policy and of a host, which strangers have written. */
const MAX_LINES = 16;
const MAX_TEXT = 160;
const DAY = /^\d{4}-\d\d-\d\d$/;
/** Domains that can be a file name. */
const FILE_NAME = /^[a-z0-9_-][a-z0-9_.-]{0,200}$/;

export class TlsReports {
  readonly #options: TlsReportsOptions;
  readonly #now: () => number;
  #config: Config;
  /** Counts by 'day domain'. */
  readonly #days = new Map<string, DomainDay>();
  #timer: NodeJS.Timeout | null = null;
  #writing: Promise<void> | null = null;
  #uncounted = 0;
  #closing = false;
  readonly #closed = Promise.withResolvers<null>();
  #purgedOn = '';

  constructor(options: TlsReportsOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
    this.#config = options.config;
  }

  reconfigure(config: Config): void {
    this.#config = config;
  }

  take(sessions: readonly TlsSession[]): void {
    const day = new Date(this.#now()).toISOString().slice(0, 10);
    for (const session of sessions) {
      const entry = this.#entry(day, session.policy.domain);
      if (entry === null) {
        this.#uncounted++;
        continue;
      }
      count(entry, session);
      entry.dirty = true;
    }
    const { write_interval_ms } = this.#config.delivery.tls_rpt;
    this.#timer ??= setTimeout(() => void this.write(), write_interval_ms).unref();
  }

  #entry(day: string, domain: string): DomainDay | null {
    const key = `${day} ${domain}`;
    const known = this.#days.get(key);
    if (known !== undefined) return known;
    if (this.#days.size >= this.#config.delivery.tls_rpt.max_domains || !FILE_NAME.test(domain)) return null;
    const entry = { domain, day, policies: [], rua: null, dirty: true, loaded: false };
    this.#days.set(key, entry);
    return entry;
  }

  /** Writes the counts that changed. Never rejects: if the disk fails, the next session leads to another try. */
  write(): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#writing ??= this.#writeAll().finally(() => {
      this.#writing = null;
    });
    return this.#writing;
  }

  /** Writes the last counts, without waiting for DNS. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#closed.resolve(null);
    await this.#writing;
    await this.write();
  }

  async #writeAll(): Promise<void> {
    const today = new Date(this.#now()).toISOString().slice(0, 10);
    try {
      for (const [key, entry] of this.#days) {
        if (entry.dirty) await this.#writeOne(entry);
        if (entry.day !== today && !entry.dirty) this.#days.delete(key);
      }
      if (this.#purgedOn !== today && this.#config.delivery.tls_rpt.enabled) await this.#purge();
      this.#purgedOn = today;
    } catch (error) {
      this.#options.log.warn('tls_rpt.not_written', { error, path: this.#options.dir });
    }
    if (this.#uncounted === 0) return;
    const advice = 'raise delivery.tls_rpt.max_domains';
    this.#options.log.warn('tls_rpt.not_counted', { sessions: this.#uncounted, advice });
    this.#uncounted = 0;
  }

  async #writeOne(entry: DomainDay): Promise<void> {
    const { dir, process } = this.#options;
    const folder = join(dir, entry.day);
    const file = join(folder, `${entry.domain}${process === 0 ? '' : `~${process}`}.json`);
    if (!entry.loaded) {
      merge(entry, await earlier(file));
      entry.loaded = true;
    }
    if (entry.rua === null && !this.#closing) {
      const records = this.#options.txt(`_smtp._tls.${entry.domain}`).then(ruaOf);
      entry.rua = await Promise.race([records, this.#closed.promise]);
    }
    entry.dirty = false;
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      await writeFile(`${file}.new`, `${JSON.stringify(this.#report(entry), null, 2)}\n`, { mode: 0o600 });
      await rename(`${file}.new`, file);
    } catch (error) {
      entry.dirty = true;
      throw error;
    }
  }

  #report({ domain, day, policies, rua }: DomainDay): TlsReport {
    const { hostname, delivery } = this.#config;
    const { organization_name = hostname, contact_info = `postmaster@${hostname}` } = delivery.tls_rpt;
    return {
      'organization-name': organization_name,
      'date-range': { 'start-datetime': `${day}T00:00:00Z`, 'end-datetime': `${day}T23:59:59Z` },
      'contact-info': contact_info,
      'report-id': `${day}-${domain}-${this.#options.process}@${hostname}`,
      policies,
      rua: rua ?? [],
    };
  }

  async #purge(): Promise<void> {
    const { keep_days } = this.#config.delivery.tls_rpt;
    const oldest = new Date(this.#now() - keep_days * 86_400_000).toISOString().slice(0, 10);
    const days = await readdir(this.#options.dir).catch(() => []);
    for (const day of days) {
      if (DAY.test(day) && day < oldest)
        await rm(join(this.#options.dir, day), { recursive: true, force: true });
    }
  }
}

function count({ policies }: DomainDay, { policy, result, mx, address, detail }: TlsSession): void {
  const found = policyOf(policies, {
    'policy-type': policy.type,
    'policy-string': policy.strings.slice(0, MAX_LINES).map((line) => line.slice(0, MAX_TEXT)),
    'policy-domain': policy.domain,
    'mx-host': policy.mx.slice(0, MAX_LINES).map((name) => name.slice(0, MAX_TEXT)),
  });
  if (result === 'success') {
    found.summary['total-successful-session-count']++;
    return;
  }
  found.summary['total-failure-session-count']++;
  addDetail(found['failure-details'], {
    'result-type': result,
    'receiving-mx-hostname': mx,
    'receiving-ip': address,
    'failed-session-count': 1,
    'failure-reason-code': detail.slice(0, MAX_TEXT),
  });
}

function policyOf(policies: PolicyReport[], policy: PolicyReport['policy']): PolicyReport {
  const strings = JSON.stringify(policy);
  const known = policies.find((one) => JSON.stringify(one.policy) === strings);
  if (known !== undefined) return known;
  if (policies.length >= MAX_POLICIES) {
    const like = policies.find((one) => one.policy['policy-type'] === policy['policy-type']);
    return like ?? (policies[0] as PolicyReport);
  }
  const summary = { 'total-successful-session-count': 0, 'total-failure-session-count': 0 };
  const made = { policy, summary, 'failure-details': [] };
  policies.push(made);
  return made;
}

function addDetail(details: FailureDetail[], detail: FailureDetail): void {
  const same = details.find((one) =>
    (['result-type', 'receiving-mx-hostname', 'receiving-ip', 'failure-reason-code'] as const).every(
      (key) => one[key] === detail[key],
    ),
  );
  if (same !== undefined) same['failed-session-count'] += detail['failed-session-count'];
  else if (details.length < MAX_DETAILS) details.push(detail);
}

/** Reads an earlier report; null when there is none, or it cannot be read. */
async function earlier(file: string): Promise<TlsReport | null> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as TlsReport;
  } catch {
    return null;
  }
}

function merge(entry: Pick<DomainDay, 'policies'>, report: TlsReport | null): void {
  for (const { policy, summary, 'failure-details': details } of report?.policies ?? []) {
    const into = policyOf(entry.policies, policy);
    for (const key of ['total-successful-session-count', 'total-failure-session-count'] as const)
      into.summary[key] += summary[key];
    for (const detail of details) addDetail(into['failure-details'], detail);
  }
}

/** Adds up several reports about the same domain and day. */
export function mergePolicies(reports: readonly TlsReport[]): PolicyReport[] {
  const policies: PolicyReport[] = [];
  for (const report of reports) merge({ policies }, report);
  return policies;
}

/** The places in the domain's TLSRPTv1 record (RFC 8460 §3); none when there is no such record, or more than one. */
export function ruaOf(records: readonly string[]): string[] {
  const ours = records.filter((record) => /^v=TLSRPTv1\s*;/.test(record));
  const uris = ours.length === 1 ? /;\s*rua\s*=\s*([^;]*)/.exec(ours[0] as string)?.[1] : undefined;
  return (uris ?? '')
    .split(',')
    .map((uri) => uri.trim())
    .filter((uri) => /^(mailto:|https:\/\/)\S+$/i.test(uri));
}
