/**
 * The TLS contexts of a relay process, one for listeners and one for deliveries. Loads them from the files that the config
 * names; replaces them on reload and when a file changes. Threads know them by slot and need not be told; connections keep
 * the context that they began with. When a reload cannot load something, the old contexts stay.
 */
import { randomBytes } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { getCACertificates } from 'node:tls';
import { RelayError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { readRegularText } from '../base/regular-file.ts';
import type { Config } from '../config/schema.ts';
import { clearTls, configureTls, type TlsSetup, tlsSlot } from '../native.ts';
import { type Certificate, groupByName, readCertificate, readPem } from './certificates.ts';

const EXPIRY_WARNING_MS = 14 * 86_400_000;
const SECRET_BYTES = 32;

export interface TlsSlots {
  /** -1: no listener has TLS. */
  server: number;
  client: number;
}

export interface TlsContextsOptions {
  config: Config;
  log: Log;
  /** Encrypts session tickets; the same in all processes of the host. Default: a random one of this process. */
  secret?: Uint8Array | undefined;
  now?: () => number;
}

export class TlsContexts {
  readonly slots: TlsSlots;
  #config: Config;
  readonly #log: Log;
  readonly #secret: Uint8Array;
  readonly #now: () => number;
  #timer: NodeJS.Timeout | null = null;
  /** State of the files when we last tried to load them. */
  #seen = '';
  #stopped = false;

  constructor({ config, log, secret, now }: TlsContextsOptions) {
    this.#config = config;
    this.#log = log;
    this.#secret = secret ?? randomBytes(SECRET_BYTES);
    this.#now = now ?? Date.now;
    const serves = config.listeners.some(({ tls }) => tls !== 'off');
    this.slots = { server: serves ? tlsSlot() : -1, client: tlsSlot() };
  }

  /** @throws RelayError naming key and file when something cannot be used. */
  load(): TlsSlots {
    this.#apply(this.#config);
    this.#watch();
    return this.slots;
  }

  /** Takes new settings and reads all files again; what is bad is logged and returned, and changes nothing. */
  reconfigure(config: Config): string[] {
    const problems: string[] = [];
    const before = this.#config;
    this.#config = config;
    try {
      this.#apply(config);
    } catch (error) {
      this.#config = {
        ...config,
        tls: before.tls,
        delivery: { ...config.delivery, tls: before.delivery.tls },
      };
      problems.push((error as Error).message);
      this.#log.error('tls.reload_refused', { error });
    }
    this.#watch();
    return problems;
  }

  stop(): void {
    this.#stopped = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  #apply(config: Config): void {
    // All files are read before anything is replaced.
    const server = this.slots.server < 0 ? null : this.#serverSetup(config);
    const client = needsClient(config) ? clientSetup(config) : null;
    if (server !== null) configure(this.slots.server, server, 'tls');
    if (client !== null) configure(this.slots.client, client, 'delivery.tls');
    else clearTls(this.slots.client);
  }

  #serverSetup({ tls }: Config): TlsSetup | null {
    if (tls.cert_file === undefined) return null;
    const certificates = [
      readCertificate(tls.cert_file, tls.key_file, 'tls'),
      ...tls.certificates.map((one, i) =>
        readCertificate(one.cert_file, one.key_file, `tls.certificates[${i}]`),
      ),
    ];
    for (const certificate of certificates) this.#warnOfExpiry(certificate);
    const typed = certificates.map(({ names, leaf }) => ({
      names,
      keyType: leaf.publicKey.asymmetricKeyType ?? '',
    }));
    this.#log.info('tls.loaded', {
      certificates: certificates.map(({ names, leaf }) => ({
        names,
        key: leaf.publicKey.asymmetricKeyType,
        expires_at: new Date(leaf.validTo).toISOString(),
        fingerprint: leaf.fingerprint256.replaceAll(':', '').toLowerCase(),
      })),
    });
    return {
      server: true,
      certificates: certificates.map(({ chain, key }) => ({ chain, key })),
      groups: groupByName(typed),
      ca: tls.client_ca_file === undefined ? '' : readPem(tls.client_ca_file, 'tls.client_ca_file'),
      crl: tls.client_crl_file === undefined ? '' : readPem(tls.client_crl_file, 'tls.client_crl_file'),
      caLater: false,
      namesCa: tls.client_ca_file !== undefined,
      ticketSecret: this.#secret,
      sessionSeconds: Math.ceil(tls.session_lifetime_ms / 1000),
      resumption: tls.resumption_key_exchange,
      ...rulesOf(tls),
    };
  }

  #warnOfExpiry({ leaf, names }: Certificate): void {
    const expires = Date.parse(leaf.validTo);
    if (expires > this.#now() + EXPIRY_WARNING_MS) return;
    const advice = 'renew it; the file is read again when it changes, and on reload';
    this.#log.warn(expires < this.#now() ? 'tls.certificate_expired' : 'tls.certificate_expires', {
      names,
      expires_at: new Date(expires).toISOString(),
      advice,
    });
  }

  /** Looks at the files from time to time. */
  #watch(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    const { watch_interval_ms } = this.#config.tls;
    if (watch_interval_ms === 0 || this.#stopped || filesOf(this.#config).length === 0) return;
    void this.#signature().then((signature) => {
      this.#seen = signature;
      this.#lookLater();
    });
  }

  #lookLater(): void {
    if (this.#stopped || this.#timer !== null) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      void this.#look();
    }, this.#config.tls.watch_interval_ms).unref();
  }

  async #look(): Promise<void> {
    const signature = await this.#signature();
    if (this.#stopped) return;
    if (signature !== this.#seen) {
      this.#seen = signature;
      try {
        this.#apply(this.#config);
      } catch (error) {
        // Perhaps only one file of a pair was written so far: the other one will change the signature again.
        this.#log.error('tls.reload_refused', { error });
      }
    }
    this.#lookLater();
  }

  async #signature(): Promise<string> {
    const marks = filesOf(this.#config).map(async (file) => {
      const found = await stat(file).catch(() => null);
      return found === null ? 'missing' : `${found.ino} ${found.size} ${found.mtimeMs}`;
    });
    return (await Promise.all(marks)).join();
  }
}

type Rules = Config['tls'] | Config['delivery']['tls'];

function rulesOf(rules: Rules): Pick<TlsSetup, 'minVersion' | 'ciphers' | 'ciphersuites'> {
  return {
    minVersion: rules.min_version,
    ciphers: rules.ciphers ?? '',
    ciphersuites: rules.ciphersuites ?? '',
  };
}

function needsClient({ delivery }: Config): boolean {
  const hops = [...Object.values(delivery.routes), delivery.smarthost];
  const modes = [
    delivery.tls.mode,
    ...Object.values(delivery.tls.destinations).map(({ mode }) => mode),
    ...hops.map((hop) => hop?.tls?.mode ?? 'none'),
  ];
  const dane = [delivery.dane.mode, ...Object.values(delivery.dane.destinations).map(({ mode }) => mode)];
  return (
    delivery.mta_sts.enabled || modes.some((mode) => mode !== 'none') || dane.some((mode) => mode !== 'off')
  );
}

function clientSetup({ delivery: { tls } }: Config): TlsSetup {
  const own =
    tls.cert_file === undefined ? [] : [readCertificate(tls.cert_file, tls.key_file, 'delivery.tls')];
  return {
    server: false,
    certificates: own.map(({ chain, key }) => ({ chain, key })),
    groups: [],
    ca: tls.ca_file === undefined ? trustedBySystem() : readPem(tls.ca_file, 'delivery.tls.ca_file'),
    crl: tls.crl_file === undefined ? '' : readPem(tls.crl_file, 'delivery.tls.crl_file'),
    caLater: tls.ca_file === undefined,
    namesCa: false,
    ticketSecret: new Uint8Array(0),
    sessionSeconds: tls.resume_sessions ? 1 : 0,
    resumption: tls.resumption_key_exchange,
    ...rulesOf(tls),
  };
}

/** Where systems keep what they trust as one file. Node reads, parses and writes anew each certificate: 80 ms. */
const SYSTEM_FILES = ['/etc/ssl/certs/ca-certificates.crt', '/etc/pki/tls/certs/ca-bundle.crt'];

/** PEM. What cannot be read, or is empty, leaves it to Node, which has authorities of its own. */
export function trustedBySystem(files: readonly string[] = SYSTEM_FILES): string {
  const { SSL_CERT_FILE, SSL_CERT_DIR } = process.env;
  const isTold = SSL_CERT_FILE !== undefined || SSL_CERT_DIR !== undefined;
  for (const file of isTold ? [] : files)
    try {
      const text = readRegularText(file);
      if (text.trim() !== '') return text;
    } catch {
      // The next one, or Node.
    }
  const system = getCACertificates('system');
  return (system.length > 0 ? system : getCACertificates('bundled')).join('\n');
}

function configure(slot: number, setup: TlsSetup, at: string): void {
  try {
    configureTls(slot, setup);
  } catch (error) {
    throw new RelayError(
      'config_invalid',
      `${at}: the certificates, keys or rules cannot be used: ${(error as Error).message}`,
      error,
    );
  }
}

/** All files whose change matters. */
function filesOf({ tls, delivery }: Config): string[] {
  const { cert_file, key_file, client_ca_file, client_crl_file, certificates } = tls;
  const out = delivery.tls;
  return [
    cert_file,
    key_file,
    client_ca_file,
    client_crl_file,
    ...certificates.flatMap((one) => [one.cert_file, one.key_file]),
    out.ca_file,
    out.crl_file,
    out.cert_file,
    out.key_file,
  ].filter((file) => file !== undefined);
}
