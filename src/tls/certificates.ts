/**
 * Certificates from files: reads them, checks what OpenSSL would complain of in words that no operator understands, and
 * finds out which of them serve together, and under which names.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { RelayError } from '../base/errors.ts';
import { fileFault } from '../base/file-fault.ts';
import { readRegularText } from '../base/regular-file.ts';

export interface Certificate {
  /** PEM of the certificate and its chain, and PEM of its key. */
  chain: string;
  key: string;
  leaf: X509Certificate;
  /** Host names it is good for, in lower case; `*.example.com` too. */
  names: string[];
}

export interface Group {
  certificates: number[];
  names: string[];
}

/** @throws RelayError naming the key of the config, the file and what to do. */
export function readPem(file: string, key: string): string {
  try {
    return readRegularText(file);
  } catch (error) {
    throw new RelayError('config_invalid', `${key}: ${fileFault(file, error)}`, error);
  }
}

/**
 * @param keyFile absent: the key is in the certificate's file.
 * @param at key of the config with both files, 'tls' or 'tls.certificates[0]'.
 * @throws RelayError
 */
export function readCertificate(file: string, keyFile: string | undefined, at: string): Certificate {
  const chain = readPem(file, `${at}.cert_file`);
  const key = keyFile === undefined ? chain : readPem(keyFile, `${at}.key_file`);
  let leaf: X509Certificate;
  try {
    leaf = new X509Certificate(chain);
  } catch (error) {
    throw new RelayError(
      'config_invalid',
      `${at}.cert_file: ${file} holds no certificate in PEM format`,
      error,
    );
  }
  const place = keyFile === undefined ? `${at}.cert_file: ${file}` : `${at}.key_file: ${keyFile}`;
  if (!isKeyOf(leaf, key, place))
    throw new RelayError('config_invalid', `${place} holds the key of another certificate than ${file}`);
  return { chain, key, leaf, names: namesOf(leaf) };
}

function isKeyOf(leaf: X509Certificate, key: string, place: string): boolean {
  const none = `${place} holds no private key in PEM format without a password`;
  if (/-----BEGIN ENCRYPTED PRIVATE KEY-----|^Proc-Type: 4,ENCRYPTED/m.test(key))
    throw new RelayError('config_invalid', `${place} is encrypted, and nobody is there to type its password`);
  if (!/-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----/.test(key)) throw new RelayError('config_invalid', none);
  try {
    return leaf.checkPrivateKey(createPrivateKey(key));
  } catch (error) {
    throw new RelayError('config_invalid', none, error);
  }
}

/** Host names among the alternative names; the common name of a certificate without any. */
function namesOf(leaf: X509Certificate): string[] {
  const alternatives = (leaf.subjectAltName ?? '').split(', ').flatMap((name) => {
    const [, host] = /^DNS:([^"]+)$/.exec(name) ?? [];
    return host === undefined ? [] : [host.toLowerCase()];
  });
  if (leaf.subjectAltName !== undefined) return alternatives;
  const common = /^CN=(\S+)$/m.exec(leaf.subject)?.[1];
  return common === undefined ? [] : [common.toLowerCase()];
}

/**
 * Which certificates answer to which name: for each name one of each type of key, the first in the list, one with the
 * exact name before one with a wildcard. The first group has the first certificate and serves clients that name no host.
 */
export function groupByName(certificates: readonly { names: readonly string[]; keyType: string }[]): Group[] {
  const groups = new Map<string, Group>();
  const group = (members: number[], names: string[]): void => {
    const key = members.join();
    const known = groups.get(key);
    if (known === undefined) groups.set(key, { certificates: members, names });
    else known.names.push(...names);
  };
  const [first] = certificates;
  if (first !== undefined && first.names.length === 0) group([0], []);
  const all = new Set(certificates.flatMap(({ names }) => names));
  for (const name of all) {
    const wildcard = name.replace(/^[^.]+/, '*');
    const byType = new Map<string, number>();
    for (const wanted of [name, wildcard])
      for (const [i, { names, keyType }] of certificates.entries())
        if (names.includes(wanted) && !byType.has(keyType)) byType.set(keyType, i);
    group(
      [...byType.values()].sort((a, b) => a - b),
      [name],
    );
  }
  return [...groups.values()];
}
