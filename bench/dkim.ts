/**
 * What DKIM signatures cost: the chain client → relay → sink unsigned, with RSA-2048 and with Ed25519, each message with a
 * body to hash, beside what bare signatures cost in the same run. Ratios are what counts on a machine that others use too.
 * Exit code 1 when a target is missed.
 */
import { execFileSync } from 'node:child_process';
import { createPrivateKey, sign } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { type MadeKey, makeKey } from '../test/native/dkim-rig.ts';
import { DnsServer } from '../test/support/dns-server.ts';
import { type ChainReport, runChain } from './lib/chain.ts';
import { readOptions } from './lib/options.ts';
import { figure, table, writeResults } from './lib/results.ts';

const options = readOptions('bench/dkim.ts', 'measures what DKIM signatures cost', {
  messages: { kind: 'number', default: 20_000, help: 'messages of each run' },
  size: { kind: 'number', default: 2048, help: 'bytes of each' },
  concurrency: { kind: 'number', default: 100, help: 'connections of the client' },
  rounds: { kind: 'number', default: 3, help: 'rounds; the medians count' },
  json: { kind: 'flag', help: 'print the report as JSON' },
  save: { kind: 'text', help: 'name of the files in bench/results; default: not written' },
});

/** Domain of the client's From. */
const DOMAIN = 'bench.test';
const CORES = Math.min(2, availableParallelism());
const dir = mkdtempSync(join(tmpdir(), 'bench-dkim-'));
const keys = { rsa: makeKey('rsa'), ed25519: makeKey('ed25519') };
for (const [name, { pem }] of Object.entries(keys)) writeFileSync(join(dir, name), pem, { mode: 0o600 });
const dns = await DnsServer.start(
  Object.fromEntries(
    Object.entries(keys).map(([name, { record }]) => [`${name}._domainkey.${DOMAIN}`, { TXT: [record] }]),
  ),
);

type Kind = 'unsigned' | keyof typeof keys;

/** @param ratePerSecond at most; 0: no limit. */
async function chain(kind: Kind, ratePerSecond = 0): Promise<ChainReport> {
  const signing = { keys: [{ domain: DOMAIN, selector: kind, file: join(dir, kind) }] };
  return runChain({
    messages: options.messages,
    sizeBytes: options.size,
    rcpts: 1,
    concurrency: options.concurrency,
    ...{ perConnection: false, pipeline: false, ratePerSecond, deliver: true, check: false },
    settings: { dns: { servers: [dns.address] }, ...(kind === 'unsigned' ? {} : { dkim: signing }) },
    deliveryTimeoutMs: 600_000,
  });
}

/** CPU of one bare signature in µs. */
function bareUs({ pem }: MadeKey, digest: string | null): number {
  const key = createPrivateKey(pem);
  const data = Buffer.alloc(500, 'x');
  const count = 2000;
  const before = process.cpuUsage();
  for (let i = 0; i < count; i++) sign(digest, data, key);
  const { user, system } = process.cpuUsage(before);
  return (user + system) / count;
}

/** Signatures a second that `openssl speed` makes on all cores that the targets speak of; null without the program. */
function opensslPerSecond(): number | null {
  try {
    const args = ['speed', '-seconds', '2', '-multi', String(CORES), 'rsa2048'];
    const said = execFileSync('openssl', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    return Number(/^rsa\s+2048 bits\s+\S+\s+\S+\s+([\d.]+)/m.exec(said)?.[1] ?? Number.NaN);
  } catch {
    return null;
  }
}

const median = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

interface Round {
  delivered: Record<Kind, number>;
  cpuUs: Record<Kind, number>;
  /** Unsigned at the rate of the RSA run: a relay with less to do at once does less of it together. */
  pacedUs: number;
  peakMb: Record<Kind, number>;
  bareUs: { rsa: number; ed25519: number };
  openssl: number | null;
}

async function round(): Promise<Round> {
  const before = opensslPerSecond();
  const reports = {
    unsigned: await chain('unsigned'),
    rsa: await chain('rsa'),
    ed25519: await chain('ed25519'),
  };
  const paced = await chain('unsigned', Math.max(1, Math.round(reports.rsa.acceptedPerSecond)));
  const after = opensslPerSecond();
  const each = (value: (report: ChainReport) => number): Record<Kind, number> => ({
    unsigned: value(reports.unsigned),
    rsa: value(reports.rsa),
    ed25519: value(reports.ed25519),
  });
  return {
    delivered: each(({ deliveredPerSecond }) => deliveredPerSecond ?? Number.NaN),
    cpuUs: each(({ relay }) => relay.cpuUsPerMessage),
    pacedUs: paced.relay.cpuUsPerMessage,
    peakMb: each(({ relay }) => relay.peakMb),
    bareUs: { rsa: bareUs(keys.rsa, 'sha256'), ed25519: bareUs(keys.ed25519, null) },
    openssl: before === null || after === null ? null : (before + after) / 2,
  };
}

try {
  const rounds: Round[] = [];
  for (let i = 0; i < options.rounds; i++) rounds.push(await round());
  const of = (value: (one: Round) => number): number => median(rounds.map(value));
  const rows: { what: string; value: number; target: string; holds: boolean }[] = [];
  const row = (what: string, value: number, target = '', holds = true): void =>
    void rows.push({ what, value, target, holds });
  for (const kind of ['unsigned', 'rsa', 'ed25519'] as const) {
    row(
      `${kind}: delivered/s`,
      of(({ delivered }) => delivered[kind]),
    );
    row(
      `${kind}: CPU µs a message`,
      of(({ cpuUs }) => cpuUs[kind]),
    );
    row(
      `${kind}: peak MB`,
      of(({ peakMb }) => peakMb[kind]),
    );
  }
  row(
    'bare RSA-2048 signature: CPU µs',
    of(({ bareUs: { rsa } }) => rsa),
  );
  row(
    'bare Ed25519 signature: CPU µs',
    of(({ bareUs: { ed25519 } }) => ed25519),
  );
  row(
    'unsigned at the rate of RSA: CPU µs a message',
    of(({ pacedUs }) => pacedUs),
  );
  const added = of(({ cpuUs, pacedUs }) => cpuUs.rsa - pacedUs);
  row('RSA adds: CPU µs a message', added, '≤ 600', added <= 600);
  const ratio = of(({ cpuUs, pacedUs, bareUs: { rsa } }) => (cpuUs.rsa - pacedUs) / rsa);
  row('RSA adds / bare signature', ratio, '≤ 1.3', ratio <= 1.3);
  row(
    'Ed25519 adds: CPU µs a message',
    of(({ cpuUs }) => cpuUs.ed25519 - cpuUs.unsigned),
  );
  const rsa = of(({ delivered }) => delivered.rsa);
  row('RSA: delivered/s', rsa, '≥ 1,500', rsa >= 1500);
  const ed25519 = of(({ delivered }) => delivered.ed25519);
  row('Ed25519: delivered/s', ed25519, '≥ 3,000', ed25519 >= 3000);
  if (rounds.every(({ openssl }) => openssl !== null)) {
    row(
      `openssl speed -multi ${CORES}: RSA-2048/s`,
      of(({ openssl }) => openssl ?? Number.NaN),
    );
    const share = of(({ delivered, openssl }) => delivered.rsa / (openssl ?? Number.NaN));
    row('RSA delivered / openssl speed', share, '≥ 0.6', share >= 0.6);
  }
  const markdown = table(
    ['figure', 'median', 'target', ''],
    rows.map(({ what, value, target, holds }) => [
      what,
      value < 10 ? value.toFixed(2) : figure(value),
      target,
      target === '' ? '' : holds ? 'met' : 'missed',
    ]),
  );
  process.stdout.write(options.json ? `${JSON.stringify(rounds)}\n` : markdown);
  if (options.save !== '')
    process.stderr.write(
      `written: ${writeResults(options.save, 'fsync before 250 (after_persist)', rounds, markdown)}\n`,
    );
  if (rows.some(({ holds }) => !holds)) process.exitCode = 1;
} finally {
  await dns.stop();
  rmSync(dir, { recursive: true });
}
