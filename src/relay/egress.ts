/**
 * The part of the composition root that watches the sources. Every process looks whether their addresses are on this
 * host; what has to be asked of DNS, process 0 asks for all.
 */
import type { Aside } from '../base/aside.ts';
import { parseIp } from '../base/ip.ts';
import type { Log } from '../base/log.ts';
import type { Config } from '../config/schema.ts';
import { Queries } from '../dns/queries.ts';
import { type SourceChange, SourceChanges } from '../egress/source-changes.ts';
import {
  SourceChecks,
  type SourceDns,
  type SourceFinding,
  type SourceStanding,
} from '../egress/source-checks.ts';
import { LookUp } from '../lint/look-up.ts';
import { checkSpf } from '../lint/spf.ts';

/** How often it is looked whether the addresses are there: mail of one that is not waits. */
const ADDRESSES_MS = 10_000;

export interface RelaySourcesSetup {
  log: Log;
  aside: Aside;
  /** The config as of the last reload. */
  current(): Config;
  /** Whether this process asks DNS. */
  asksDns: boolean;
  /** What changes about sources, for the events. */
  stateChanged(change: SourceChange): void;
  /** Tells delivery which sources have no address on this host. */
  missing(sources: string[]): void;
}

export class RelaySources {
  readonly checks: SourceChecks;
  readonly #setup: RelaySourcesSetup;
  readonly #changes = new SourceChanges();
  /** Of this round: each question is asked once, whatever sources ask it. */
  #spf: LookUp;
  #told = '';
  #addressTimer: NodeJS.Timeout | null = null;
  #checkTimer: NodeJS.Timeout | null = null;
  /** A new one begins with each start: what an older one waited for is not gone on with. */
  #life = 0;

  constructor(setup: RelaySourcesSetup) {
    this.#setup = setup;
    const lookUp = (): LookUp => new LookUp(new Queries(setup.current().dns));
    this.#spf = lookUp();
    this.checks = new SourceChecks({
      dns: sourceDns(setup.current, () => this.#spf),
      began: () => {
        this.#spf = lookUp();
      },
      rules: () => {
        const { egress, delivery, hostname } = setup.current();
        const domains = sendingDomains(setup.current());
        return { egress, ehloName: delivery.ehlo_name ?? hostname, domains };
      },
      now: Date.now,
      changed: (standing, before) => this.#say(standing, before),
    });
  }

  /** Resolves when the addresses are known; the names in DNS follow. Also to be called after a reload. */
  async start(): Promise<void> {
    const life = ++this.#life;
    this.#clear();
    this.#tell();
    const { sources } = this.#setup.current().egress;
    this.#changes.keep(sources.map(({ name }) => name));
    if (sources.length === 0) return;
    await this.#look(life);
    if (this.#setup.asksDns && life === this.#life) this.#checkLater(life, 0);
  }

  stop(): void {
    this.#life++;
    this.#clear();
  }

  #clear(): void {
    if (this.#addressTimer !== null) clearTimeout(this.#addressTimer);
    if (this.#checkTimer !== null) clearTimeout(this.#checkTimer);
  }

  async #look(life: number): Promise<void> {
    await this.#setup.aside.later('sources', () => this.checks.lookAtAddresses());
    if (life !== this.#life) return;
    this.#tell();
    this.#addressTimer = setTimeout(() => void this.#look(life), ADDRESSES_MS).unref();
  }

  #checkLater(life: number, pauseMs: number): void {
    this.#checkTimer = setTimeout(async () => {
      await this.#setup.aside.later('sources', () => this.checks.check());
      if (life !== this.#life) return;
      this.#tell();
      this.#checkLater(life, this.#setup.current().egress.check_interval_s * 1000);
    }, pauseMs).unref();
  }

  #tell(): void {
    const { sources } = this.#setup.current().egress;
    const missing = sources
      .map(({ name }) => name)
      .filter((name) => this.checks.standing(name)?.present === false);
    const text = missing.join(' ');
    if (text === this.#told) return;
    this.#told = text;
    this.#setup.missing(missing);
  }

  #say(standing: SourceStanding, before: SourceStanding | undefined): void {
    const { source, present, findings } = standing;
    const { log, asksDns, stateChanged } = this.#setup;
    // All processes of the host see the same: one of them says so.
    if (asksDns) for (const change of this.#changes.of(standing)) stateChanged(change);
    if (present !== (before?.present ?? true))
      if (present) log.info('source.resumed', { source });
      else log.error('source.suspended', { source, reason: 'address_missing' });
    for (const { check, ok, detail } of findings) {
      if (ok !== false || check === 'address' || wasKnown(before?.findings, check)) continue;
      log.warn('source.check_failed', { source, check, detail });
    }
  }
}

const wasKnown = (before: readonly SourceFinding[] | undefined, check: SourceFinding['check']): boolean =>
  before?.some((one) => one.check === check && one.ok === false) === true;

/** The domains of reverse-paths and signatures, as far as the config says. */
const sendingDomains = ({ return_path, dkim }: Config): string[] => [
  ...new Set([return_path.domain, ...dkim.keys.map(({ domain }) => domain)].filter((one) => one !== '')),
];

/** DNS by the rules of the last reload; not cached, because it is asked once an hour. */
function sourceDns(current: () => Config, spf: () => LookUp): SourceDns {
  const queries = (): Queries => new Queries(current().dns);
  const known = async (asked: Promise<string[]>): Promise<string[] | null> => {
    try {
      return await asked;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      return code === 'ENOTFOUND' || code === 'ENODATA' || code === 'EBADNAME' ? [] : null;
    }
  };
  const addressesOf = async (asked: Promise<{ address: string }[]>): Promise<string[]> =>
    (await asked).map(({ address }) => address);
  return {
    async spf(domain, address) {
      try {
        const { result, fault } = await checkSpf(spf(), domain, parseIp(address));
        return { result, fault };
      } catch {
        // DNS does not answer.
        return null;
      }
    },
    ptr: async (name) =>
      (await known(queries().resolvePtr(name)))?.map((one) => one.toLowerCase().replace(/\.$/, '')) ?? null,
    async addresses(name) {
      const one = queries();
      const [v4, v6] = await Promise.all([
        known(addressesOf(one.resolve4(name))),
        known(addressesOf(one.resolve6(name))),
      ]);
      if (v4 === null && v6 === null) return null;
      return [...(v4 ?? []), ...(v6 ?? [])];
    },
  };
}
