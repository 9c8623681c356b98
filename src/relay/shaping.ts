/**
 * The limits of sites of one relay process: reads the data, keeps the table that its threads share, and writes down what was
 * used of limits by hour and day, so that a restart does not begin them anew. Part of the composition root.
 */
import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Log } from '../base/log.ts';
import { readRegularText } from '../base/regular-file.ts';
import { steadyMs, timeOfDayMs } from '../base/steady.ts';
import type { Config } from '../config/schema.ts';
import { Overflow } from '../egress/overflow.ts';
import type { SiteReport } from '../mail/site-report.ts';
import { LeasedParts, type SharedParts } from '../scheduler/parts.ts';
import type { LimitKey, LimitNews, LimitSign, SlotOf } from '../shaping/limit-key.ts';
import { LimitKeys } from '../shaping/limit-keys.ts';
import { LimitLeases } from '../shaping/limit-leases.ts';
import { createLimitTable } from '../shaping/limit-table.ts';
import { readCounts, writeCounts } from '../shaping/saved-counts.ts';
import type { ShapingData } from '../shaping/shaping-data.ts';
import { type LoadedShaping, loadShaping } from '../shaping/shaping-file.ts';
import { SiteTraffic } from '../shaping/site-traffic.ts';
import type { ProcessPlace } from './place.ts';

/** How often it is looked whether a limit's part is to be leased. */
const LEASE_LOOK_MS = 50;
/** How often counts are written down, and slots that nobody uses given away. */
const LOOK_MS = 3000;
const FILE = 'limits.json';
const MAX_FILE_BYTES = 16_777_216;

export interface RelayShapingSetup {
  config: Config;
  place: ProcessPlace;
  log: Log;
  /** Mail begins to go to a site. */
  begins(key: LimitKey): void;
  /** A connection ended in a way that says what the peer allows. */
  saw(sign: LimitSign): void;
  /** A destination was found to belong to the site. */
  belongs(destination: string, site: string): void;
  /** What the nodes share; null where this one shares with nobody. */
  agenda: SharedParts | null;
}

export class RelayShaping {
  readonly table = createLimitTable();
  readonly keys: LimitKeys;
  loaded: LoadedShaping;
  readonly traffic = new SiteTraffic(() => timeOfDayMs(steadyMs()));
  #overflow: Overflow;
  readonly #setup: RelayShapingSetup;
  readonly #path: string;
  #timer: NodeJS.Timeout | null = null;
  #written = '';
  #saidFull = false;
  /** Number of processes that share limits. */
  readonly sharers: () => number;
  readonly #leases: LimitLeases | null;
  #leaseTimer: NodeJS.Timeout | null = null;

  /** @throws RelayError config_invalid */
  constructor(setup: RelayShapingSetup) {
    const { config, place, agenda } = setup;
    this.#setup = setup;
    this.#path = join(config.data_dir, FILE);
    this.loaded = loadShaping(config.shaping, config.egress);
    this.#overflow = new Overflow(config);
    this.sharers = () => Math.max(agenda?.members().all ?? 1, place.processes);
    this.#leases = agenda === null ? null : this.#openLeases(agenda);
    const part = { part: 1 / place.processes, connections: null, isLease: false };
    this.keys = new LimitKeys(this.loaded.data, {
      table: this.table,
      now: steadyMs,
      share: (key) => this.#leases?.share(key) ?? part,
      full: () => this.#full(),
      begins: (key, slot) => {
        this.#leases?.begins(key, slot);
        setup.begins(key);
      },
      ends: (key, slot) => this.traffic.opened(key, slot.opened),
      others: ({ source, site, provider }) => this.#overflow.sourcesOf(source ?? '', site, provider),
    });
  }

  get data(): ShapingData {
    return this.loaded.data;
  }

  start(): void {
    this.#restore();
    this.#timer = setInterval(() => this.#look(), LOOK_MS).unref();
    const leases = this.#leases;
    if (leases !== null) this.#leaseTimer = setInterval(() => void leases.look(), LEASE_LOOK_MS).unref();
  }

  stop(): void {
    if (this.#leaseTimer !== null) clearInterval(this.#leaseTimer);
    if (this.#timer === null) return;
    clearInterval(this.#timer);
    this.#timer = null;
    this.#save();
  }

  /** Reads the data anew. @returns what is wrong with them; then the old ones hold. */
  reconfigure(config: Config): string[] {
    try {
      this.loaded = loadShaping(config.shaping, config.egress);
    } catch (error) {
      return (error as Error).message.split('\n');
    }
    this.#overflow = new Overflow(config);
    this.keys.reconfigure(this.data);
    return [];
  }

  /** Takes what a delivery thread tells. */
  take(thread: number, news: LimitNews): SlotOf[] {
    for (const sign of news.signs) this.#setup.saw(sign);
    for (const hosts of news.hosts) this.traffic.found(hosts);
    for (const { destination, site } of news.sites) this.#setup.belongs(destination, site);
    return this.keys.take(thread, news);
  }

  /** What is known of sites, for operators. */
  sites(): SiteReport[] {
    const opened = new Map<string, number>();
    for (const [, { key, slot }] of this.keys.entries())
      if (key.source !== null) opened.set(key.site, (opened.get(key.site) ?? 0) + slot.opened);
    return this.traffic.report(opened);
  }

  #openLeases(agenda: SharedParts): LimitLeases {
    const { processes } = this.#setup.place;
    const members = () => {
      const { all, silent } = agenda.members();
      return { all: Math.max(all, processes), silent };
    };
    const shared: SharedParts = {
      get up() {
        return agenda.up;
      },
      get sinceMs() {
        return agenda.sinceMs;
      },
      members,
      leaseParts: (demands) => agenda.leaseParts(demands),
    };
    const parts = new LeasedParts(shared, steadyMs);
    return new LimitLeases({
      now: steadyMs,
      sharers: this.sharers,
      limitsOf: (key) => this.keys.limitsOf(key),
      rewrite: (name) => this.keys.rewrite(name),
      holds: (name, slot) => this.keys.entry(name)?.slot === slot,
      lease: (demands) => parts.lease(demands),
    });
  }

  #look(): void {
    this.keys.sweep();
    this.#save();
  }

  #save(): void {
    const text = writeCounts(this.keys, steadyMs(), Date.now());
    if (text === this.#written || (text === '' && this.#written === '')) return;
    try {
      writeFileSync(`${this.#path}.new`, text);
      renameSync(`${this.#path}.new`, this.#path);
      this.#written = text;
    } catch (error) {
      this.#setup.log.warn('limits.not_saved', { error });
    }
  }

  #restore(): void {
    let text: string;
    try {
      text = readRegularText(this.#path, MAX_FILE_BYTES);
    } catch {
      return; // nothing was limited by hour or day
    }
    this.keys.restore(readCounts(text, steadyMs(), Date.now()));
    this.#written = text;
  }

  #full(): void {
    if (!this.#saidFull) this.#setup.log.warn('limits.table_full', {});
    this.#saidFull = true;
  }
}
