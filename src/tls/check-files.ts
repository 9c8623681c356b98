/**
 * Checks the files that a config names for TLS before anything is started or replaced, so that a start and `config check`
 * list all that is wrong with them at once, with file and line.
 */
import { createSecureContext } from 'node:tls';
import { RelayError } from '../base/errors.ts';
import type { Config } from '../config/schema.ts';
import { readCertificate, readPem } from './certificates.ts';

interface Problem {
  /** Path of the key, from the top of the config. */
  path: (string | number)[];
  message: string;
}

/** What is wrong with the files for TLS that this config makes a relay read. */
export function checkTlsFiles({ tls, listeners, delivery }: Config): Problem[] {
  const problems: Problem[] = [];
  const tried = (what: () => void): void => {
    try {
      what();
    } catch (error) {
      if (!(error instanceof RelayError)) throw error;
      // The message begins with the key.
      const [, key = '', message = error.message] = /^([\w.[\]]+): ([\s\S]*)$/.exec(error.message) ?? [];
      const path = key.split(/[.[\]]+/).map((step) => (/^\d+$/.test(step) ? Number(step) : step));
      problems.push({ path, message });
    }
  };
  const pem = (file: string | undefined, key: string): void => {
    if (file !== undefined) tried(() => readPem(file, key));
  };
  const certificate = (
    of: { cert_file?: string | undefined; key_file?: string | undefined },
    at: string,
  ): void => {
    const { cert_file: file } = of;
    if (file !== undefined) tried(() => readCertificate(file, of.key_file, at));
  };
  if (listeners.some((listener) => listener.tls !== 'off')) {
    certificate(tls, 'tls');
    for (const [i, one] of tls.certificates.entries()) certificate(one, `tls.certificates[${i}]`);
    pem(tls.client_ca_file, 'tls.client_ca_file');
    pem(tls.client_crl_file, 'tls.client_crl_file');
    tried(() => checkCiphers(tls.ciphers, 'tls.ciphers'));
  }
  certificate(delivery.tls, 'delivery.tls');
  pem(delivery.tls.ca_file, 'delivery.tls.ca_file');
  pem(delivery.tls.crl_file, 'delivery.tls.crl_file');
  tried(() => checkCiphers(delivery.tls.ciphers, 'delivery.tls.ciphers'));
  return problems;
}

function checkCiphers(ciphers: string | undefined, key: string): void {
  try {
    if (ciphers !== undefined) createSecureContext({ ciphers });
  } catch (error) {
    throw new RelayError('config_invalid', `${key}: OpenSSL knows none of "${ciphers}"`, error);
  }
}
