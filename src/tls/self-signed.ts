/** `protorelay tls self-signed`: a certificate for trying TLS, and how to use it. */
import { existsSync, writeFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { join, resolve } from 'node:path';
import { isDomainForm } from '../base/domain.ts';
import { RelayError } from '../base/errors.ts';
import { makeFolder } from '../base/make-folder.ts';
import { makeSelfSigned } from '../native.ts';

export interface SelfSignedOptions {
  /** Host names and addresses that it is for. */
  names: readonly string[];
  days: number;
  keyType: 'ecdsa' | 'rsa';
  /** Folder for server.crt and server.key. */
  folder: string;
  /** Replace what is there. */
  force: boolean;
}

/** A host name in A-labels, whose first label may be '*', or an address. */
export function isCertificateName(name: string): boolean {
  return isIP(name) !== 0 || isDomainForm(name.replace(/^\*\.(?=.)/, '').toLowerCase());
}

/** Writes both files; returns what to tell the operator. @throws RelayError when they exist already or cannot be written. */
export function writeSelfSigned({ names, days, keyType, folder, force }: SelfSignedOptions): string {
  const certFile = resolve(folder, 'server.crt');
  const keyFile = resolve(folder, 'server.key');
  for (const file of [certFile, keyFile])
    if (!force && existsSync(file))
      throw new RelayError('data_dir_unusable', `${file} is there already; --force replaces it`);
  const { certificate, key } = makeSelfSigned(names, days, keyType);
  try {
    makeFolder(folder);
    // The key first, for its owner only: a certificate without its key is of no use.
    writeFileSync(keyFile, key, { mode: 0o600 });
    writeFileSync(certFile, certificate);
  } catch (error) {
    throw new RelayError(
      'data_dir_unusable',
      `the certificate cannot be written to ${folder}: ${(error as Error).message}`,
      error,
    );
  }
  const config = JSON.stringify({ cert_file: certFile, key_file: keyFile });
  return (
    `${certFile} and ${join(folder, 'server.key')}: for ${names.join(', ')}, ${days} days\n` +
    `Nobody vouches for it: for trying only. In the config: "tls": ${config}\n`
  );
}
