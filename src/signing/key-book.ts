/**
 * The keys of `dkim.keys`, on the main thread: reads their files, asks DNS whether it shows their records, and tells the
 * delivery threads which keys sign. A key whose file or record is wrong keeps nobody else from signing. What DNS showed is
 * remembered over a restart, so that mail goes on where DNS does not.
 */
import type { Log } from '../base/log.ts';
import type { Config } from '../config/schema.ts';
import { closeSigningKey, openSigningKey, useSigningThreads } from '../native.ts';
import { type KeyFile, readKeyFile, refusalOf } from './key-file.ts';
import { recordFault, recordName } from './record.ts';
import type { SigningTable } from './table.ts';

type Rules = Config['dkim'];

/** How often all records are looked at, and those of domains that cannot sign. */
export const CHECK_INTERVAL_MS = 3_600_000;
export const WAITING_INTERVAL_MS = 60_000;
/** Questions to DNS at once. */
const AT_ONCE = 20;

export type TxtAnswer =
  | { kind: 'found'; records: string[] }
  | { kind: 'no-record' | 'no-name' }
  | { kind: 'temporary'; detail: string };

export interface KeyBookPorts {
  log: Log;
  /** Asks DNS, not a cache of ours. */
  txt(name: string): Promise<TxtAnswer>;
  /** Tells the delivery threads. null: nothing is signed. */
  tell(table: SigningTable | null): void;
  /** Fingerprints of keys by the name of their record, as remembered, and to be. */
  recall(): Map<string, string>;
  remember(shown: Map<string, string>): void;
  /** The time of day. */
  now(): number;
  steady(): number;
}

interface Key {
  domain: string;
  selector: string;
  file: string;
  notBeforeMs: number;
  key: KeyFile | null;
  /** 0: none. */
  slot: number;
  /** What is wrong with the file; '' nothing. */
  fileFault: string;
  /** DNS shows its record. */
  shown: boolean;
  /** What DNS said last, where it does not; '' it was not asked yet. */
  dnsFault: string;
}

export class KeyBook {
  readonly #ports: KeyBookPorts;
  #rules: Rules;
  #keys: Key[] = [];
  /** Slots of keys that are gone: threads may hear of it a moment later than they are asked to sign. */
  #retired: number[] = [];
  #told = '';
  #table: SigningTable | null = null;
  #checkedAtMs = 0;
  #checking: Promise<void> | null = null;

  constructor(rules: Rules, ports: KeyBookPorts) {
    this.#rules = rules;
    this.#ports = ports;
  }

  /** What threads know now. */
  get table(): SigningTable | null {
    return this.#table;
  }

  /** Reads the keys. @returns what is wrong with them. */
  load(): string[] {
    return this.#load(this.#ports.recall());
  }

  /** The config changed, or an operator wants files and records looked at again. @returns what is wrong with keys. */
  reconfigure(rules: Rules): string[] {
    this.#rules = rules;
    for (const slot of this.#retired.splice(0)) closeSigningKey(slot);
    const shown = new Map(
      this.#keys.filter((one) => one.shown).map((one) => [nameOf(one), fingerprintOf(one)]),
    );
    return this.#load(shown);
  }

  #load(shown: ReadonlyMap<string, string>): string[] {
    const before = new Map(this.#keys.map((key) => [nameOf(key), key]));
    const keys = this.#rules.enabled ? this.#rules.keys : [];
    const problems: string[] = [];
    this.#keys = keys.map((row, i) => {
      const key = this.#read(row, before);
      key.shown = key.key !== null && shown.get(nameOf(key)) === key.key.fingerprint;
      if (key.fileFault !== '') {
        const { domain, selector, fileFault: detail } = key;
        this.#ports.log.error('signing.key_unusable', { domain, selector, detail });
        problems.push(`dkim.keys[${i}].file: ${detail}`);
      }
      return key;
    });
    const kept = new Set(this.#keys.map(({ slot }) => slot));
    for (const { slot } of before.values()) if (slot !== 0 && !kept.has(slot)) this.#retired.push(slot);
    if (this.#keys.length > 0) useSigningThreads(this.#rules.threads);
    this.#tell();
    return problems;
  }

  #read(row: Rules['keys'][number], before: ReadonlyMap<string, Key>): Key {
    const { domain, selector, file, not_before } = row;
    const key: Key = {
      ...{ domain, selector, file, key: null, slot: 0, fileFault: '', shown: false, dnsFault: '' },
      notBeforeMs: not_before === '' ? 0 : Date.parse(not_before),
    };
    const read = readKeyFile(file);
    if (typeof read === 'string') key.fileFault = read;
    else if (refusalOf(read) !== '') key.fileFault = `${file} ${refusalOf(read)}`;
    else {
      const same = before.get(nameOf(key));
      const slot = same?.key?.pem === read.pem ? same.slot : openSigningKey(read.pem, domain, selector);
      if (slot === null) key.fileFault = `${file}: OpenSSL cannot use the key`;
      else {
        key.key = read;
        key.slot = slot;
        key.dnsFault = same?.dnsFault ?? '';
      }
    }
    return key;
  }

  /** Looks at records that are due: all of them every hour, and every minute those of domains that cannot sign. */
  look(): Promise<void> {
    const all = this.#ports.steady() - this.#checkedAtMs >= CHECK_INTERVAL_MS;
    if (all) return this.checkAll();
    const waiting = new Set(
      [...(this.#table?.domains ?? [])].flatMap(([name, { fault }]) => (fault === '' ? [] : [name])),
    );
    return this.#check(this.#keys.filter(({ domain }) => waiting.has(domain)));
  }

  /** Asks DNS for the records of all keys. */
  checkAll(): Promise<void> {
    this.#checkedAtMs = this.#ports.steady();
    return this.#check(this.#keys);
  }

  async #check(keys: readonly Key[]): Promise<void> {
    await this.#checking;
    this.#checking = this.#ask(keys.filter(({ key }) => key !== null)).finally(() => {
      this.#checking = null;
    });
    await this.#checking;
  }

  async #ask(keys: readonly Key[]): Promise<void> {
    let isNew = false;
    for (let at = 0; at < keys.length; at += AT_ONCE) {
      const part = keys.slice(at, at + AT_ONCE);
      const answers = await Promise.all(part.map((key) => this.#ports.txt(nameOf(key))));
      for (const [i, key] of part.entries()) isNew = this.#heard(key, answers[i] as TxtAnswer) || isNew;
    }
    this.#tell();
    if (isNew)
      this.#ports.remember(
        new Map(this.#keys.filter((one) => one.shown).map((one) => [nameOf(one), fingerprintOf(one)])),
      );
  }

  /** Whether DNS shows the key, or does not any more; false when it said nothing new. */
  #heard(key: Key, answer: TxtAnswer): boolean {
    const { domain, selector, shown } = key;
    const { log } = this.#ports;
    if (answer.kind === 'temporary') {
      // What DNS said before counts on.
      const detail = `DNS does not answer for ${nameOf(key)} (${answer.detail})`;
      if (!shown && key.dnsFault !== detail) log.warn('signing.key_waits', { domain, selector, detail });
      key.dnsFault = shown ? '' : detail;
      return false;
    }
    const records = answer.kind === 'found' ? answer.records : [];
    const fault = recordFault(records, key.key as KeyFile);
    const detail = fault === '' ? '' : `${nameOf(key)}: ${fault}`;
    key.shown = fault === '';
    if (key.shown && !shown) log.info('signing.key_shown', { domain, selector });
    else if (shown && !key.shown) log.error('signing.key_withdrawn', { domain, selector, detail });
    else if (!key.shown && key.dnsFault !== detail)
      log.warn('signing.key_waits', { domain, selector, detail });
    key.dnsFault = detail;
    return key.shown !== shown;
  }

  #tell(): void {
    const table = this.#tableNow();
    const text = table === null ? '' : JSON.stringify({ ...table, domains: [...table.domains] });
    if (text === this.#told) return;
    this.#told = text;
    this.#table = table;
    this.#ports.tell(table);
  }

  #tableNow(): SigningTable | null {
    if (this.#keys.length === 0) return null;
    const { also_sign, sign_headers, oversign_headers, expire_s, on_error } = this.#rules;
    const domains: SigningTable['domains'] = new Map();
    for (const [domain, keys] of Map.groupBy(this.#keys, (key) => key.domain)) {
      const slots = (['rsa', 'ed25519'] as const).flatMap(
        (algorithm) => this.#newest(keys, algorithm)?.slot ?? [],
      );
      const fault =
        slots.length > 0
          ? ''
          : `no key of ${domain} can sign (${keys.map((key) => this.#lackOf(key)).join('; ')})`;
      domains.set(domain, { slots, fault });
    }
    return {
      domains,
      alsoSign: also_sign,
      signHeaders: sign_headers,
      oversignHeaders: oversign_headers,
      expireS: expire_s,
      onError: on_error,
    };
  }

  /** Of the keys that may sign the one to be used from the latest time on; of equal ones the last in the config. */
  #newest(keys: readonly Key[], algorithm: KeyFile['algorithm']): Key | undefined {
    const now = this.#ports.now();
    return keys
      .filter(({ key, shown, notBeforeMs }) => key?.algorithm === algorithm && shown && notBeforeMs <= now)
      .reduce<Key | undefined>(
        (best, one) => (best && best.notBeforeMs > one.notBeforeMs ? best : one),
        undefined,
      );
  }

  #lackOf(key: Key): string {
    if (key.fileFault !== '') return key.fileFault;
    if (!key.shown) return key.dnsFault || `${nameOf(key)}: DNS was not asked yet`;
    return `${key.selector} is for later (not_before)`;
  }

  /** Forgets its keys; the threads have ended. */
  close(): void {
    for (const { slot } of this.#keys) if (slot !== 0) closeSigningKey(slot);
    for (const slot of this.#retired.splice(0)) closeSigningKey(slot);
    this.#keys = [];
  }
}

const nameOf = ({ selector, domain }: Pick<Key, 'selector' | 'domain'>): string =>
  recordName(selector, domain);
const fingerprintOf = ({ key }: Key): string => key?.fingerprint ?? '';
