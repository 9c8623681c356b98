/**
 * The servers of a comparison, each started on a free loopback port and a folder of its own on the same disk, and
 * ended by pid: Postfix's smtp-sink, a tuned Postfix, our relay, our sink. Programs that are not installed are
 * named by `missing`.
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { freePort } from '../../test/support/free-port.ts';
import { programPath } from '../../test/support/programs.ts';
import { RelayFixture, type Settings } from '../../test/support/relay-fixture.ts';
import { Child, type Ended } from './child.ts';
import { memoryBytes, treeCpuSeconds } from './proc.ts';

const ROOT = resolve(import.meta.dirname, '../..');

export interface Server {
  name: string;
  port: number;
  /** Root of the server's process tree. */
  pid: number;
  cpuSeconds(): number;
  peakBytes(): number;
  stop(): Promise<void>;
}

/** Resolves when something accepts on the port. */
export async function accepting(port: number, timeoutMs = 10_000): Promise<void> {
  const until = performance.now() + timeoutMs;
  for (;;) {
    const answered = await new Promise<boolean>((settle) => {
      const socket = connect(port, '127.0.0.1');
      socket.once('connect', () => {
        socket.destroy();
        settle(true);
      });
      socket.once('error', () => settle(false));
    });
    if (answered) return;
    if (performance.now() > until) throw new Error(`nothing listens on port ${port} after ${timeoutMs} ms`);
    await new Promise((settle) => setTimeout(settle, 20));
  }
}

export interface SmtpSink extends Server {
  /** Resolves when the sink ended by itself after `messages`. */
  ended: Promise<Ended>;
}

/** Postfix's smtp-sink. @param messages end by itself after so many; 0: run on. */
export async function startSmtpSink(messages = 0): Promise<SmtpSink> {
  const port = await freePort();
  const limit = messages > 0 ? ['-M', String(messages)] : [];
  const user = process.getuid?.() === 0 ? ['-u', 'nobody'] : [];
  const child = new Child(programPath('smtp-sink') ?? 'smtp-sink', [
    ...user,
    ...limit,
    `127.0.0.1:${port}`,
    '1024',
  ]);
  await accepting(port);
  return { ...serverOf('smtp-sink', port, child), ended: child.ended };
}

/** Our own sink. */
export async function startOurSink(...args: string[]): Promise<{ server: Server; child: Child }> {
  const child = new Child(process.execPath, [join(ROOT, 'bench/sink.ts'), '--port', '0', ...args]);
  const ready = await child.json('sink.ready', 20_000);
  return { server: serverOf('bench/sink.ts', ready.port as number, child), child };
}

/** Our protocol path alone. */
export async function startReactor(): Promise<Server> {
  const port = await freePort();
  const child = new Child(process.execPath, [join(ROOT, 'bench/reactor.ts'), '--port', String(port)]);
  await accepting(port);
  return serverOf('bench/reactor.ts', port, child);
}

/** Our relay. */
export async function startRelay(
  settings: Settings,
  dir?: string,
): Promise<Server & { fixture: RelayFixture }> {
  const fixture = new RelayFixture(settings, { ...(dir === undefined ? {} : { dir }), readyMs: 120_000 });
  await fixture.start();
  fixture.events.close();
  const { pid } = fixture;
  return {
    name: 'ProtoRelay',
    port: fixture.port,
    pid,
    fixture,
    cpuSeconds: () => treeCpuSeconds(pid),
    peakBytes: () => memoryBytes(pid, 'VmHWM'),
    stop: async () => {
      await fixture.kill();
      if (dir === undefined) rmSync(fixture.dir, { recursive: true, force: true });
    },
  };
}

/**
 * A Postfix tuned for throughput: no DNS, no anvil limits, no flow delay, many servers, no syslog to wait for.
 * @param nextHopPort relay everything there; null: everything is put on hold (accepting alone is measured).
 */
export async function startPostfix(nextHopPort: number | null): Promise<Server> {
  const dir = mkdtempSync(join(tmpdir(), 'bench-postfix-'));
  chmodSync(dir, 0o755);
  const port = await freePort();
  const [config, queue, state] = ['etc', 'spool', 'lib'].map((name) => join(dir, name)) as [
    string,
    string,
    string,
  ];
  for (const folder of [config, queue, state]) mkdirSync(folder);
  execFileSync('chown', ['postfix:postfix', state]);
  writeFileSync(join(config, 'main.cf'), postfixMain(queue, state, nextHopPort));
  writeFileSync(join(config, 'master.cf'), postfixMaster(port));
  const postfix = programPath('postfix') ?? 'postfix';
  execFileSync(postfix, ['-c', config, 'start'], { stdio: 'pipe' });
  await accepting(port);
  const pid = Number(readFileSync(join(queue, 'pid/master.pid'), 'latin1').trim());
  const orphaned = (): void => void process.kill(pid, 'SIGTERM');
  process.once('exit', orphaned);
  return {
    name: 'Postfix',
    port,
    pid,
    cpuSeconds: () => treeCpuSeconds(pid),
    peakBytes: () => Number.NaN,
    stop: async () => {
      process.off('exit', orphaned);
      process.kill(pid, 'SIGTERM');
      while (existsSync(`/proc/${pid}`)) await new Promise((settle) => setTimeout(settle, 20));
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** Folder of Postfix's daemons as its own default configuration states it; null when not installed. */
export function postfixInstalled(): boolean {
  return programPath('postfix') !== null && programPath('postconf') !== null;
}

function postfixMain(queue: string, state: string, nextHopPort: number | null): string {
  const fate =
    nextHopPort === null
      ? 'smtpd_relay_restrictions = check_client_access static:HOLD, permit_mynetworks, reject'
      : `smtpd_relay_restrictions = permit_mynetworks, reject\nrelayhost = [127.0.0.1]:${nextHopPort}`;
  return `compatibility_level = 3.6
queue_directory = ${queue}
data_directory = ${state}
myhostname = postfix.bench.test
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = loopback-only
inet_protocols = ipv4
${fate}
default_process_limit = 120
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
smtpd_client_event_limit_exceptions = static:all
smtpd_recipient_limit = 20000
smtpd_delay_reject = yes
smtp_dns_support_level = disabled
smtp_host_lookup = native
smtp_tls_security_level = none
smtpd_tls_security_level = none
smtp_connection_cache_destinations = 127.0.0.1
default_destination_concurrency_limit = 50
initial_destination_concurrency = 50
smtp_destination_recipient_limit = 1000
in_flow_delay = 0
qmgr_message_active_limit = 40000
qmgr_message_recipient_limit = 40000
alias_maps =
alias_database =
local_recipient_maps =
message_size_limit = 104857600
mailbox_size_limit = 0
`;
}

function postfixMaster(port: number): string {
  const services = [
    `127.0.0.1:${port} inet n - n - - smtpd`,
    'pickup unix n - n 60 1 pickup',
    'cleanup unix n - n - 0 cleanup',
    'qmgr unix n - n 300 1 qmgr',
    'tlsmgr unix - - n 1000? 1 tlsmgr',
    'rewrite unix - - n - - trivial-rewrite',
    'bounce unix - - n - 0 bounce',
    'defer unix - - n - 0 bounce',
    'trace unix - - n - 0 bounce',
    'verify unix - - n - 1 verify',
    'flush unix n - n 1000? 0 flush',
    'proxymap unix - - n - - proxymap',
    'proxywrite unix - - n - 1 proxymap',
    'smtp unix - - n - - smtp',
    'relay unix - - n - - smtp',
    'showq unix n - n - - showq',
    'error unix - - n - - error',
    'retry unix - - n - - error',
    'discard unix - - n - - discard',
    'anvil unix - - n - 1 anvil',
    'scache unix - - n - 1 scache',
  ];
  return `${services.join('\n')}\n`;
}

function serverOf(name: string, port: number, child: Child): Server {
  return {
    name,
    port,
    pid: child.pid,
    cpuSeconds: () => treeCpuSeconds(child.pid),
    peakBytes: () => memoryBytes(child.pid, 'VmHWM'),
    stop: async () => {
      await child.stop('SIGKILL');
    },
  };
}
