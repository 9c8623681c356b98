/** The plane's certificate: read at the start, and again when its files change. */
import { statSync } from 'node:fs';
import type { Server } from 'node:https';
import { createSecureContext } from 'node:tls';
import { RelayError } from '../base/errors.ts';
import { fileFault } from '../base/file-fault.ts';
import type { Log } from '../base/log.ts';
import { readRegular } from '../base/regular-file.ts';
import type { Config } from '../config/schema.ts';
import type { Certificate } from './engine.ts';

/** @throws RelayError naming the file that cannot be used. */
export function readCertificate({
  cert_file: certFile = '',
  key_file: keyFile = certFile,
}: Config['http']['tls']): Certificate {
  const read = (path: string): Buffer => {
    try {
      return readRegular(path);
    } catch (error) {
      throw new RelayError('config_invalid', fileFault(path, error), error);
    }
  };
  const pair = { cert: read(certFile), key: read(keyFile) };
  try {
    createSecureContext(pair);
  } catch (error) {
    const text = `${certFile} and ${keyFile} are no certificate with its key: ${(error as Error).message}`;
    throw new RelayError('config_invalid', text, error);
  }
  return pair;
}

/** @returns what looks whether the files changed. One that cannot be used leaves the one in use. */
export function watchCertificate(tls: Config['http']['tls'], server: object, log: Log): () => void {
  const state = (): string =>
    [tls.cert_file, tls.key_file]
      .map((path) => (path === undefined ? '' : statSync(path, { throwIfNoEntry: false })?.mtimeMs))
      .join(' ');
  let seen = state();
  return () => {
    const now = state();
    if (now === seen) return;
    seen = now;
    try {
      (server as Server).setSecureContext(readCertificate(tls));
      log.info('http.certificate_renewed', { path: tls.cert_file ?? '' });
    } catch (error) {
      log.error('http.certificate_unusable', { path: tls.cert_file ?? '', error });
    }
  };
}
