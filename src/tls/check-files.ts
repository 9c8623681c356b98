/**
 * Checks the files that a config names for TLS before anything is started or replaced, so that a start and `config check`
 * list all that is wrong with them at once, with file and line.
 */
import { createSecureContext } from 'node:tls';
import { RelayError } from '../base/errors.ts';
import type { Finding, Say } from '../config/say.ts';
import type { Config } from '../config/schema.ts';
import { type Certificate, readCertificate, readPem } from './certificates.ts';

interface Says {
  problem: Say;
  warning: Say;
  /** Of a certificate whose time is over, or has not begun. A relay that runs goes on with it. */
  outOfDate: Say;
  /** Milliseconds since 1970. */
  nowMs: number;
}

/** Certificates that end within so long are worth a warning. */
const SOON_MS = 14 * 86_400_000;
const ANY = /(?:)/;
const CERTIFICATE = /-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----/;
const REVOKED = /-----BEGIN X509 CRL-----/;
/** RFC 8446, B.4. */
const SUITES = new Set([
  'TLS_AES_128_GCM_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
  'TLS_AES_128_CCM_SHA256',
  'TLS_AES_128_CCM_8_SHA256',
]);
const NEW_KEY = 'openssl x509 -noout -pubkey -in CERT and openssl pkey -pubout -in KEY must print the same';

/** What is wrong with the files for TLS that this config makes a relay read. */
export function checkTlsFiles({ tls, listeners, delivery, hostname }: Config, says: Says): void {
  const { problem, warning } = says;
  const tried = <T>(what: () => T): T | null => {
    try {
      return what();
    } catch (error) {
      if (!(error instanceof RelayError)) throw error;
      // The message begins with the key.
      const [, key = '', message = error.message] = /^([\w.[\]]+): ([\s\S]*)$/.exec(error.message) ?? [];
      problem(pathOf(key), message, mendOf(message));
      return null;
    }
  };
  /** Whether the file can be read, and holds what it should. None is as good. */
  const pem = (file: string | undefined, key: string, holds: RegExp, what: string): boolean => {
    if (file === undefined) return true;
    const text = tried(() => readPem(file, key));
    if (text === null || holds.test(text)) return text !== null;
    problem(pathOf(key), `${file} holds no ${what} in PEM format`);
    return false;
  };
  const issuers = (file: string | undefined, key: string) => pem(file, key, CERTIFICATE, 'certificate');
  const revoked = (file: string | undefined, key: string) => pem(file, key, REVOKED, 'revocation list');
  const rules = (
    of: { ciphers?: string | undefined; ciphersuites?: string | undefined },
    at: string,
  ): void => {
    tried(() => checkCiphers(of.ciphers, `${at}.ciphers`));
    const unknown = (of.ciphersuites ?? '').split(':').find((suite) => suite !== '' && !SUITES.has(suite));
    if (unknown !== undefined)
      problem(
        [...pathOf(at), 'ciphersuites'],
        `TLS 1.3 has no "${unknown}"`,
        `it has ${[...SUITES].join(', ')}`,
      );
  };
  const certificate = (
    of: { cert_file?: string | undefined; key_file?: string | undefined },
    at: string,
  ): Certificate | null => {
    const { cert_file: file, key_file: keyFile } = of;
    // Both are looked at: either of them may be missing.
    const readable = [
      pem(file, `${at}.cert_file`, ANY, 'certificate'),
      pem(keyFile, `${at}.key_file`, ANY, 'key'),
    ];
    if (file === undefined || readable.includes(false)) return null;
    const read = tried(() => readCertificate(file, keyFile, at));
    if (read === null) return null;
    const key = [...pathOf(at), 'cert_file'];
    try {
      createSecureContext({ cert: read.chain, key: read.key });
    } catch (error) {
      problem(key, `OpenSSL refuses ${file}: ${(error as Error).message.replace(/^error:.*:/, '')}`);
    }
    checkDates(read, key, says);
    return read;
  };
  if (listeners.some((listener) => listener.tls !== 'off')) {
    const first = certificate(tls, 'tls');
    const others = tls.certificates.map((one, i) => certificate(one, `tls.certificates[${i}]`));
    if (first !== null) checkName([first, ...others.filter((one) => one !== null)], hostname, warning);
    issuers(tls.client_ca_file, 'tls.client_ca_file');
    revoked(tls.client_crl_file, 'tls.client_crl_file');
    rules(tls, 'tls');
  }
  certificate(delivery.tls, 'delivery.tls');
  issuers(delivery.tls.ca_file, 'delivery.tls.ca_file');
  revoked(delivery.tls.crl_file, 'delivery.tls.crl_file');
  rules(delivery.tls, 'delivery.tls');
}

const pathOf = (key: string): Finding['path'] =>
  key
    .split(/[.[\]]+/)
    .filter((step) => step !== '')
    .map((step) => (/^\d+$/.test(step) ? Number(step) : step));

function mendOf(message: string): string | undefined {
  if (message.includes('is encrypted')) return 'write it without its password: openssl pkey -in KEY -out NEW';
  return message.includes('of another certificate') ? NEW_KEY : undefined;
}

function checkDates({ leaf }: Certificate, path: Finding['path'], { warning, outOfDate, nowMs }: Says): void {
  const [from, to] = [Date.parse(leaf.validFrom), Date.parse(leaf.validTo)];
  const shown = (ms: number): string => new Date(ms).toISOString();
  if (nowMs < from)
    outOfDate(path, `is not valid before ${shown(from)}`, 'look at the clock of this machine');
  else if (nowMs > to) outOfDate(path, `expired at ${shown(to)}`, 'renew it');
  else if (nowMs > to - SOON_MS) warning(path, `expires at ${shown(to)}`, 'renew it');
}

/** Clients that verify look for the name they connected to, mostly the one that MX and operators know. */
function checkName(certificates: readonly Certificate[], hostname: string, warning: Say): void {
  if (certificates.some(({ leaf }) => leaf.checkHost(hostname) !== undefined)) return;
  const names = [...new Set(certificates.flatMap((one) => one.names))];
  const text = names.length === 0 ? 'it names no host' : `it is for ${names.slice(0, 5).join(', ')}`;
  warning(
    ['tls', 'cert_file'],
    `is not for ${hostname}, and clients that verify it refuse it: ${text}`,
    'set hostname to one of its names, or get one for it',
  );
}

function checkCiphers(ciphers: string | undefined, key: string): void {
  try {
    if (ciphers !== undefined) createSecureContext({ ciphers });
  } catch (error) {
    throw new RelayError('config_invalid', `${key}: OpenSSL knows none of "${ciphers}"`, error);
  }
}
