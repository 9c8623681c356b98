/** When the certificates of the config end, by their files: each is read when it changed. */
import { X509Certificate } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { readRegular } from '../../base/regular-file.ts';
import type { Config } from '../../config/schema.ts';
import type { Samples } from './exposition.ts';

interface Read {
  stamp: string;
  /** null: it cannot be used. */
  endsAtMs: number | null;
}

export class CertificateFigures {
  /** By the key of the config. */
  readonly #files: ReadonlyMap<string, string>;
  readonly #read = new Map<string, Read>();

  constructor(config: Config) {
    this.#files = new Map(certificateFiles(config));
  }

  async add(samples: Samples, nowMs: number): Promise<void> {
    for (const [certificate, path] of this.#files) {
      const endsAtMs = await this.#endOf(path);
      if (endsAtMs !== null)
        samples.add('protorelay_certificate_expiry_seconds', (endsAtMs - nowMs) / 1000, { certificate });
    }
  }

  async #endOf(path: string): Promise<number | null> {
    try {
      const { mtimeMs, ino, size } = await stat(path);
      const stamp = `${mtimeMs} ${ino} ${size}`;
      let read = this.#read.get(path);
      if (read?.stamp !== stamp) {
        read = { stamp, endsAtMs: endIn(readRegular(path)) };
        this.#read.set(path, read);
      }
      return read.endsAtMs;
    } catch {
      return null; // The relay itself tells what is wrong with the file.
    }
  }
}

/** That of the first certificate, which is ours. */
function endIn(pem: Buffer): number | null {
  try {
    return new X509Certificate(pem).validToDate.getTime();
  } catch {
    return null;
  }
}

function* certificateFiles({ tls, delivery, http }: Config): Generator<[key: string, path: string]> {
  if (tls.cert_file !== undefined) yield ['tls.cert_file', tls.cert_file];
  for (const [i, { cert_file: path }] of tls.certificates.entries()) yield [`tls.certificates[${i}]`, path];
  if (delivery.tls.cert_file !== undefined) yield ['delivery.tls.cert_file', delivery.tls.cert_file];
  if (http.tls.cert_file !== undefined) yield ['http.tls.cert_file', http.tls.cert_file];
}
