/**
 * A Postfix of a test's own, with Cyrus SASL and TLS: Debian's programs on free loopback ports, everything it writes in a
 * temporary folder, stopped by its process group. It relays what authenticated users send to another port of this
 * machine. Nothing of the system's Postfix, if there is one, is touched.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Identity } from '../support/authority.ts';
import { freePort } from '../support/free-port.ts';
import { programPath, skipUnlessRoot, skipWithout } from '../support/programs.ts';

const START_MS = 30_000;
/** User and group every Debian has: Postfix runs as the one, programs that submit mail would have the other. */
const OWNER = 'daemon';
const OWNER_UID = 1;
const GROUP = 'mail';
export const HOSTNAME = 'postfix.test';

/** Where a package lies: on the system, or where test/setup/debian.sh unpacked it. */
function roots(): string[] {
  const program = programPath('smtp-source');
  return program === null ? ['/'] : ['/', join(dirname(program), '..')];
}

function folderWith(path: string, file: string): string | null {
  return (
    roots()
      .map((root) => join(root, path))
      .find((folder) => existsSync(join(folder, file))) ?? null
  );
}

const daemons = (): string | null => folderWith('usr/lib/postfix/sbin', 'smtpd');

function saslPlugins(): string | null {
  const machine = process.arch === 'arm64' ? 'aarch64' : 'x86_64';
  return folderWith(`usr/lib/${machine}-linux-gnu/sasl2`, 'libscram.so');
}

/** The reason why no such server can be started, else false. */
export function skipWithoutPostfix(): string | false {
  const missing = skipUnlessRoot() || skipWithout('smtp-source', 'saslpasswd2');
  if (missing !== false) return missing;
  if (daemons() === null) return 'the daemons of postfix are missing';
  return saslPlugins() === null ? 'the mechanisms of Cyrus SASL are missing (libsasl2-modules)' : false;
}

export interface PostfixOptions {
  /** Each is the only mechanism on a port of its own. */
  mechanisms: readonly string[];
  user: string;
  password: string;
  identity: Identity;
  /** Where its mail goes. */
  relayPort: number;
}

export class Postfix {
  readonly folder = mkdtempSync(join(tmpdir(), 'postfix-'));
  /** By mechanism. */
  readonly ports = new Map<string, number>();
  #master: ChildProcess | null = null;
  #said = '';

  static async start(options: PostfixOptions): Promise<Postfix> {
    const server = new Postfix();
    try {
      for (const mechanism of options.mechanisms) server.ports.set(mechanism, await freePort());
      server.#writeConfig(options);
      await server.#launch();
      return server;
    } catch (error) {
      await server.close();
      throw error;
    }
  }

  get log(): string {
    const path = join(this.folder, 'postfix.log');
    return existsSync(path) ? readFileSync(path, 'utf8') : '';
  }

  #writeConfig({ user, password, identity, relayPort }: PostfixOptions): void {
    chmodSync(this.folder, 0o755);
    // Debian's Postfix looks for the rules of Cyrus SASL beside its own config, whatever cyrus_sasl_config_path says.
    for (const name of ['etc', 'etc/sasl', 'queue', 'data']) mkdirSync(join(this.folder, name));
    const queues =
      'active bounce corrupt defer deferred flush hold incoming private saved trace maildrop public pid';
    for (const name of queues.split(' ')) {
      mkdirSync(join(this.folder, 'queue', name));
      if (name !== 'pid') chownSync(join(this.folder, 'queue', name), OWNER_UID, 0);
    }
    chownSync(join(this.folder, 'data'), OWNER_UID, 0);
    const at = (name: string): string => join(this.folder, name);
    const keyFile = at('etc/server.key');
    writeFileSync(keyFile, identity.key, { mode: 0o600 });
    const certFile = at('etc/server.crt');
    writeFileSync(certFile, identity.cert);
    const environment = [
      'MAIL_CONFIG',
      'LANG=C',
      'LD_LIBRARY_PATH',
      'SASL_PATH',
      'POSTLOG_SERVICE',
      'POSTLOG_HOSTNAME',
    ];
    const settings: Record<string, string> = {
      compatibility_level: '3.6',
      maillog_file: at('postfix.log'),
      maillog_file_prefixes: this.folder,
      import_environment: environment.join(' '),
      queue_directory: at('queue'),
      data_directory: at('data'),
      daemon_directory: daemons() as string,
      command_directory: dirname(programPath('smtp-source') as string),
      shlib_directory: dirname(daemons() as string),
      meta_directory: at('etc'),
      mail_owner: OWNER,
      setgid_group: GROUP,
      myhostname: HOSTNAME,
      mydestination: '',
      alias_maps: '',
      local_recipient_maps: '',
      inet_interfaces: '127.0.0.1',
      inet_protocols: 'ipv4',
      relayhost: `[127.0.0.1]:${relayPort}`,
      smtp_tls_security_level: 'none',
      smtpd_tls_security_level: 'encrypt',
      smtpd_tls_auth_only: 'yes',
      smtpd_tls_cert_file: certFile,
      smtpd_tls_key_file: keyFile,
      smtpd_tls_received_header: 'yes',
      smtpd_sasl_auth_enable: 'yes',
      smtpd_sasl_type: 'cyrus',
      cyrus_sasl_config_path: at('etc/sasl'),
      smtpd_sasl_local_domain: HOSTNAME,
      smtpd_sasl_authenticated_header: 'yes',
      smtpd_relay_restrictions: 'permit_sasl_authenticated, reject',
      smtpd_sender_restrictions: 'reject_plaintext_session',
    };
    const lines = Object.entries(settings).map(([name, value]) => `${name} = ${value}\n`);
    writeFileSync(at('etc/main.cf'), lines.join(''));
    writeFileSync(at('etc/master.cf'), this.#services());
    const database = at('etc/sasl/users.db');
    const made = spawnSync(
      programPath('saslpasswd2') as string,
      ['-p', '-c', '-f', database, '-u', HOSTNAME, user],
      { input: password, encoding: 'utf8' },
    );
    if (made.status !== 0) throw new Error(`saslpasswd2 ended with ${made.status}: ${made.stderr}`);
    chownSync(database, OWNER_UID, 0);
    for (const mechanism of this.ports.keys())
      writeFileSync(
        at(`etc/sasl/${mechanism}.conf`),
        `pwcheck_method: auxprop\nauxprop_plugin: sasldb\nsasldb_path: ${database}\nmech_list: ${mechanism}\n`,
      );
  }

  #services(): string {
    const smtpd = [...this.ports].map(
      ([mechanism, port]) => `127.0.0.1:${port} inet n - n - - smtpd\n  -o smtpd_sasl_path=${mechanism}\n`,
    );
    const others = [
      ...[
        'postlog unix-dgram n - n - 1 postlogd',
        'cleanup unix n - n - 0 cleanup',
        'qmgr unix n - n 300 1 qmgr',
      ],
      ...[
        'rewrite unix - - n - - trivial-rewrite',
        'tlsmgr unix - - n 1000? 1 tlsmgr',
        'smtp unix - - n - - smtp',
      ],
      ...['relay unix - - n - - smtp', 'bounce unix - - n - 0 bounce', 'defer unix - - n - 0 bounce'],
      ...['trace unix - - n - 0 bounce', 'error unix - - n - - error', 'retry unix - - n - - error'],
      ...['anvil unix - - n - 1 anvil', 'proxymap unix - - n - - proxymap', 'scache unix - - n - 1 scache'],
      'flush unix n - n 1000? 0 flush',
    ];
    return `${smtpd.join('')}${others.join('\n')}\n`;
  }

  async #launch(): Promise<void> {
    const folder = daemons() as string;
    const libraries = [dirname(folder), dirname(saslPlugins() as string)].filter(
      (one) => !/^\/usr\//.test(one),
    );
    const master = spawn(join(folder, 'master'), ['-c', join(this.folder, 'etc'), '-d'], {
      detached: true,
      stdio: ['ignore', 'ignore', 'pipe'],
      env: {
        PATH: process.env.PATH,
        MAIL_CONFIG: join(this.folder, 'etc'),
        SASL_PATH: saslPlugins() as string,
        ...(libraries.length > 0 ? { LD_LIBRARY_PATH: libraries.join(':') } : {}),
      },
    });
    this.#master = master;
    master.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#said = (this.#said + text).slice(-4000);
    });
    const until = Date.now() + START_MS;
    for (const port of this.ports.values())
      while (!(await greets(port))) {
        if (master.exitCode !== null || Date.now() > until)
          throw new Error(`postfix does not answer: ${this.#said}${this.log}`);
        await sleep(50);
      }
  }

  async close(): Promise<void> {
    const master = this.#master;
    this.#master = null;
    if (master?.pid !== undefined && master.exitCode === null && master.signalCode === null) {
      const ended = once(master, 'exit');
      process.kill(-master.pid, 'SIGKILL');
      await ended;
    }
    rmSync(this.folder, { recursive: true, force: true });
  }
}

function greets(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('data', () => {
      socket.end('QUIT\r\n');
      resolve(true);
    });
    socket.once('error', () => resolve(false));
    socket.once('close', () => resolve(false));
  });
}
