/**
 * A certificate authority for tests, by the openssl program: issues, lets expire, revokes.
 *
 *   const authority = new Authority();
 *   const { cert, key, certFile, keyFile } = authority.issue(['localhost']);
 *   authority.revoke(certFile);
 *   authority.crl()
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface Identity {
  cert: string;
  key: string;
  certFile: string;
  keyFile: string;
}

/** Why tests with an authority are skipped, or false. */
export const lacksOpenssl: string | false =
  spawnSync('openssl', ['version']).status === 0 ? false : 'needs openssl (Debian package openssl)';

export class Authority {
  readonly folder = mkdtempSync(join(tmpdir(), 'authority-'));
  readonly caFile = join(this.folder, 'ca.crt');
  #count = 0;

  constructor(name = 'Test authority') {
    const dir = this.folder;
    writeFileSync(
      join(dir, 'ca.cnf'),
      `[ca]\ndefault_ca = test\n[test]\ndatabase = ${dir}/index\nserial = ${dir}/serial\ncrlnumber = ${dir}/crlnumber\n` +
        `new_certs_dir = ${dir}\ncertificate = ${dir}/ca.crt\nprivate_key = ${dir}/ca.key\ndefault_md = sha256\n` +
        `policy = any\ncopy_extensions = copy\ndefault_crl_days = 30\nunique_subject = no\n[any]\ncommonName = supplied\n` +
        `[req]\ndistinguished_name = name\n[name]\n`,
    );
    writeFileSync(join(dir, 'index'), '');
    writeFileSync(join(dir, 'serial'), '1000\n');
    writeFileSync(join(dir, 'crlnumber'), '01\n');
    this.#run(
      ...['req', '-x509', '-config', 'ca.cnf', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256'],
      ...['-nodes', '-subj', `/CN=${name}`, '-days', '30', '-keyout', 'ca.key', '-out', 'ca.crt'],
      ...['-addext', 'basicConstraints=critical,CA:TRUE', '-addext', 'keyUsage=keyCertSign,cRLSign'],
    );
  }

  get ca(): string {
    return readFileSync(this.caFile, 'utf8');
  }

  /** @param names host names or addresses; the first is the subject's. */
  issue(
    names: readonly string[],
    { expired = false, rsa = false }: { expired?: boolean; rsa?: boolean } = {},
  ): Identity {
    const name = `cert-${++this.#count}`;
    const alternatives = names.map((one) => (/^[\d.]+$|:/.test(one) ? `IP:${one}` : `DNS:${one}`)).join();
    const type = rsa ? ['rsa:2048'] : ['ec', '-pkeyopt', 'ec_paramgen_curve:P-256'];
    this.#run(
      ...['req', '-config', 'ca.cnf', '-newkey', ...type, '-nodes', '-subj', `/CN=${names[0]}`],
      ...['-addext', `subjectAltName=${alternatives}`, '-keyout', `${name}.key`, '-out', `${name}.csr`],
    );
    const dates = expired
      ? ['-startdate', '20200101000000Z', '-enddate', '20200201000000Z']
      : ['-days', '20'];
    this.#run(
      'ca',
      '-batch',
      '-notext',
      '-config',
      'ca.cnf',
      '-in',
      `${name}.csr`,
      '-out',
      `${name}.crt`,
      ...dates,
    );
    const certFile = join(this.folder, `${name}.crt`);
    const keyFile = join(this.folder, `${name}.key`);
    return { cert: readFileSync(certFile, 'utf8'), key: readFileSync(keyFile, 'utf8'), certFile, keyFile };
  }

  revoke(certFile: string): void {
    this.#run('ca', '-batch', '-config', 'ca.cnf', '-revoke', certFile);
  }

  /** The revocation list as of now. */
  crl(): string {
    this.#run('ca', '-gencrl', '-config', 'ca.cnf', '-out', 'ca.crl');
    return readFileSync(join(this.folder, 'ca.crl'), 'utf8');
  }

  remove(): void {
    rmSync(this.folder, { recursive: true });
  }

  #run(...args: string[]): void {
    execFileSync('openssl', args, { cwd: this.folder, stdio: 'pipe' });
  }
}
