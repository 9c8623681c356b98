/** A real relay with a resolver nobody here wrote (unbound) that validates a zone signed by ldns: DANE and TLS reports. */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createHash, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { makeSelfSigned } from '../../src/native.ts';
import type { TlsReport } from '../../src/report/tls-rpt.ts';
import { filesBelow } from '../storage/providers.ts';
import { fate } from '../support/fates.ts';
import { freeUdpPort } from '../support/free-port.ts';
import { programPath, skipWithout } from '../support/programs.ts';
import { RelayFixture } from '../support/relay-fixture.ts';
import { ScriptedSink } from '../support/scripted-sink.ts';
import { Talk } from '../support/talk.ts';
import { eventually } from '../support/wait.ts';

const skip = skipWithout('unbound', 'ldns-keygen', 'ldns-signzone');
const folder = mkdtempSync(join(tmpdir(), 'dane-'));
const identity = makeSelfSigned(['elsewhere.test'], 5, 'ecdsa');
const GOOD = createHash('sha256')
  .update(new X509Certificate(identity.certificate).publicKey.export({ type: 'spki', format: 'der' }))
  .digest('hex');
const SIGNED = 'cc'.repeat(32);
const FORGED = 'cd'.repeat(32);
let unbound: ChildProcess;
let sink: ScriptedSink;
let relay: RelayFixture;

/** Hosts of signed.test: one each for a record that matches, one that does not, one forged after signing, and none. */
function zone(origin: string, port: number): string {
  const hosts = Object.entries({ good: GOOD, wrong: 'ab'.repeat(32), forged: SIGNED, none: null }).flatMap(
    ([name, hex]) => [
      `${name} IN MX 10 mx.${name}`,
      `mx.${name} IN A 127.0.0.1`,
      `_smtp._tls.${name} IN TXT "v=TLSRPTv1; rua=mailto:tls@${name}.test"`,
      ...(hex === null ? [] : [`_${port}._tcp.mx.${name} IN TLSA 3 1 1 ${hex}`]),
    ],
  );
  const soa = '@ IN SOA ns hostmaster 1 3600 600 86400 60\n@ IN NS ns\nns IN A 127.0.0.1';
  return `$ORIGIN ${origin}.\n$TTL 60\n${soa}\n${hosts.join('\n')}\n`;
}

function sign(port: number): void {
  const program = (name: string, ...args: string[]): string =>
    execFileSync(programPath(name) as string, args, { cwd: folder, encoding: 'utf8' }).trim();
  writeFileSync(join(folder, 'signed.zone'), zone('signed.test', port));
  writeFileSync(join(folder, 'plain.zone'), zone('plain.test', port));
  const key = program('ldns-keygen', '-a', 'ECDSAP256SHA256', '-k', 'signed.test');
  program('ldns-signzone', '-f', 'signed.out', 'signed.zone', key);
  const file = join(folder, 'signed.out');
  const text = readFileSync(file, 'utf8');
  assert.ok(text.includes(SIGNED));
  writeFileSync(file, text.replaceAll(SIGNED, FORGED));
  writeFileSync(join(folder, 'anchor'), readFileSync(join(folder, `${key}.key`)));
}

async function startUnbound(port: number): Promise<void> {
  const part = (name: string, file: string): string =>
    `auth-zone:\n  name: "${name}"\n  zonefile: "${join(folder, file)}"\n  for-downstream: no\n  for-upstream: yes\n`;
  writeFileSync(
    join(folder, 'unbound.conf'),
    `server:\n  directory: "${folder}"\n  chroot: ""\n  username: ""\n  pidfile: ""\n  use-syslog: no\n  logfile: ""\n` +
      `  do-daemonize: no\n  interface: 127.0.0.1\n  port: ${port}\n  do-ip6: no\n  num-threads: 1\n  verbosity: 1\n` +
      `  module-config: "validator iterator"\n  trust-anchor-file: "${join(folder, 'anchor')}"\n` +
      `  local-zone: "test." nodefault\nremote-control:\n  control-enable: no\n` +
      part('signed.test', 'signed.out') +
      part('plain.test', 'plain.zone'),
  );
  unbound = spawn(programPath('unbound') as string, ['-d', '-c', join(folder, 'unbound.conf')], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const lines: string[] = [];
  for await (const line of createInterface({ input: unbound.stderr as NodeJS.ReadableStream })) {
    lines.push(line);
    if (line.includes('start of service')) {
      (unbound.stderr as NodeJS.ReadableStream).resume();
      return;
    }
  }
  throw new Error(`unbound did not start: ${lines.join('\n')}`);
}

/** A port that is free for UDP may be somebody's for TCP. */
async function unboundPort(): Promise<number> {
  for (let tries = 1; ; tries++) {
    const port = await freeUdpPort();
    try {
      await startUnbound(port);
      return port;
    } catch (error) {
      if (tries === 10 || !String(error).includes('Address already in use')) throw error;
    }
  }
}

before(async () => {
  if (skip !== false) return;
  sink = await ScriptedSink.start({ tls: { cert: identity.certificate, key: identity.key } });
  sign(sink.port);
  const port = await unboundPort();
  relay = await RelayFixture.start({
    delivery: {
      mx_port: sink.port,
      ip_family: 'ipv4',
      dane: { mode: 'opportunistic' },
      routes: Object.fromEntries(
        ['good', 'wrong', 'forged', 'none'].map((name) => [
          `${name}.routed.test`,
          { host: `mx.${name}.signed.test`, port: sink.port },
        ]),
      ),
      tls_rpt: { enabled: true, write_interval_ms: 100 },
    },
    dns: { servers: [`127.0.0.1:${port}`], timeout_ms: 2000, tries: 1 },
    retry: { initial_delay_ms: 600_000, max_delay_ms: 600_000 },
  });
});

after(async () => {
  await relay?.destroy();
  await sink?.stop();
  if (unbound?.exitCode === null) {
    unbound.kill();
    await once(unbound, 'exit');
  }
  rmSync(folder, { recursive: true });
});

async function submit(domain: string, type: 'delivered' | 'deferred') {
  const talk = await Talk.hello({ port: relay.port, host: '127.0.0.1' });
  await talk.accepted({ to: [`a@${domain}`] });
  await talk.quit();
  return fate(relay.events, `a@${domain}`, type);
}

test('a zone that is signed: what its TLSA records say is what counts', {
  skip,
  timeout: 60_000,
}, async () => {
  const good = await submit('good.signed.test', 'delivered');
  assert.equal(good.tls_verified, true);
  const wrong = await submit('wrong.signed.test', 'deferred');
  assert.equal(wrong.reason, 'tls_failed');
  const forged = await submit('forged.signed.test', 'deferred');
  assert.equal(forged.reason, 'dns_temporary', 'the resolver calls it bogus');
  const none = await submit('none.signed.test', 'delivered');
  assert.equal(none.tls_verified, false);
});

test('a static route to a host of a signed zone: the same', { skip, timeout: 60_000 }, async () => {
  assert.equal((await submit('good.routed.test', 'delivered')).tls_verified, true);
  assert.equal((await submit('wrong.routed.test', 'deferred')).reason, 'tls_failed');
  assert.equal((await submit('forged.routed.test', 'deferred')).reason, 'dns_temporary');
  assert.equal((await submit('none.routed.test', 'delivered')).tls_verified, false);
});

test('a zone that is not: its TLSA records are nobody’s word', { skip, timeout: 60_000 }, async () => {
  const wrong = await submit('wrong.plain.test', 'delivered');
  assert.equal(wrong.tls_verified, false);
});

test('reports of the day lie in data_dir, with the address the domain wants them at', {
  skip,
  timeout: 60_000,
}, async () => {
  const root = join(relay.dataDir, 'tls-rpt');
  // The address is asked of DNS; a relay that stops does not wait for it.
  await eventually(() => {
    const files = filesBelow(root).map((file) => readFileSync(join(root, file), 'utf8'));
    assert.equal(files.filter((text) => text.includes('mailto:')).length, 5);
  });
  await relay.stop();
  const [day = ''] = readdirSync(root);
  assert.match(day, /^\d{4}-\d\d-\d\d$/);
  const counted = readdirSync(join(root, day))
    .sort()
    .map((file) => {
      const report = JSON.parse(readFileSync(join(root, day, file), 'utf8')) as TlsReport;
      const [{ policy, summary, 'failure-details': details } = assert.fail('no policy')] = report.policies;
      return [
        file.replace('.json', ''),
        policy['policy-type'],
        summary['total-successful-session-count'],
        summary['total-failure-session-count'],
        details.map((one) => one['result-type']).join(),
        report.rua.join(),
      ];
    });
  assert.deepEqual(counted, [
    ['forged.signed.test', 'tlsa', 0, 1, 'dnssec-invalid', 'mailto:tls@forged.test'],
    ['good.signed.test', 'tlsa', 1, 0, '', 'mailto:tls@good.test'],
    ['none.signed.test', 'no-policy-found', 1, 0, '', 'mailto:tls@none.test'],
    ['wrong.plain.test', 'no-policy-found', 1, 0, '', 'mailto:tls@wrong.test'],
    ['wrong.signed.test', 'tlsa', 0, 1, 'tlsa-invalid', 'mailto:tls@wrong.test'],
  ]);
});
