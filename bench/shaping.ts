/**
 * What limits of sites cost a message: the chain client → relay → sink by MX records, with limits of every kind, the adaptive
 * control and a rule on replies, beside the same mail over a static route, where nothing of it is asked. In turn, and the least
 * of each counts, as others may use the machine too; beside the whole process the two threads that the limits are asked in. Exit code
 * 1 when it is more than the target.
 */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DnsServer } from '../test/support/dns-server.ts';
import { type ChainReport, runChain } from './lib/chain.ts';
import { readOptions } from './lib/options.ts';
import { figure, table, writeResults } from './lib/results.ts';

const TARGET_US = 10;
/** Of the client's recipients. */
const DOMAIN = 'example.test';

const options = readOptions('bench/shaping.ts', 'measures what limits of sites cost a message', {
  messages: { kind: 'number', default: 30_000, help: 'messages of each run' },
  size: { kind: 'number', default: 1024, help: 'bytes of each' },
  concurrency: { kind: 'number', default: 100, help: 'connections of the client' },
  rate: { kind: 'number', default: 0, help: 'messages a second at most; 0: no limit' },
  rounds: { kind: 'number', default: 5, help: 'rounds; the least CPU of each counts' },
  json: { kind: 'flag', help: 'print the report as JSON' },
  save: { kind: 'text', help: 'name of the files in bench/results; default: not written' },
});

const dir = mkdtempSync(join(tmpdir(), 'bench-shaping-'));
const overrides = join(dir, 'own.json');
// High enough to hold nothing back, and as many messages over a connection as without limits.
const limits = {
  max_connections: 20,
  connections_per_min: 100_000,
  messages_per_connection: 1000,
  messages_per_s: 1_000_000,
  messages_per_h: 500_000_000,
  messages_per_day: 500_000_000,
  total_messages_per_s: 1_000_000,
  total_max_connections: 20,
};
writeFileSync(overrides, JSON.stringify({ default: limits }));
const dns = await DnsServer.start({
  [DOMAIN]: { MX: [[10, `mx.${DOMAIN}`]] },
  [`mx.${DOMAIN}`]: { A: ['127.0.0.1'] },
});

type Kind = 'route' | 'limits';

function chain(kind: Kind, ratePerSecond: number): Promise<ChainReport> {
  const rule = {
    name: 'bench',
    match: { classes: ['content_spam'] },
    threshold: { count: 1000 },
    action: 'pause',
    target: 'source',
    for_ms: 60_000,
  };
  return runChain({
    messages: options.messages,
    sizeBytes: options.size,
    rcpts: 1,
    concurrency: options.concurrency,
    ...{ perConnection: false, pipeline: false, ratePerSecond, deliver: true, check: false },
    ...(kind === 'route' ? { routeOnly: DOMAIN } : { byMx: true }),
    settings: {
      dns: { servers: [dns.address] },
      delivery: { ip_family: 'ipv4', refuse_loopback_mx: false },
      ...(kind === 'route'
        ? { adaptive: { mode: 'off' } }
        : { shaping: { overrides_file: overrides }, rules: [rule] }),
    },
    deliveryTimeoutMs: 600_000,
  });
}

try {
  const { rate } = options;
  const rounds: Record<Kind, number>[] = [];
  const inThreads: Record<Kind, number>[] = [];
  for (let i = 0; i < options.rounds; i++) {
    const order: Kind[] = i % 2 === 0 ? ['route', 'limits'] : ['limits', 'route'];
    const cpuUs: Record<Kind, number> = { route: 0, limits: 0 };
    const ofThreads: Record<Kind, number> = { route: 0, limits: 0 };
    for (const kind of order) {
      const { cpuUsPerMessage, threads } = (await chain(kind, rate)).relay;
      cpuUs[kind] = cpuUsPerMessage;
      for (const { name, seconds } of threads)
        if (/^(?:MainThread|delivery-)/.test(name)) ofThreads[kind] += (seconds * 1e6) / options.messages;
    }
    rounds.push(cpuUs);
    inThreads.push(ofThreads);
    process.stderr.write(`route ${figure(cpuUs.route)} µs, limits ${figure(cpuUs.limits)} µs\n`);
  }
  const least = (kind: Kind, of = rounds): number => Math.min(...of.map((cpuUs) => cpuUs[kind]));
  const added = least('limits') - least('route');
  const rows = [
    ['static route: CPU µs a message', figure(least('route')), ''],
    ['by MX, with limits: CPU µs a message', figure(least('limits')), ''],
    ['more', added.toFixed(1), `≤ ${TARGET_US}`],
    ['main and delivery threads, static route', figure(least('route', inThreads)), ''],
    ['main and delivery threads, with limits', figure(least('limits', inThreads)), ''],
  ];
  const markdown = table(['figure', 'least', 'target'], rows);
  process.stdout.write(options.json ? `${JSON.stringify(rounds)}\n` : markdown);
  if (options.save !== '')
    process.stderr.write(
      `written: ${writeResults(options.save, 'fsync before 250 (after_persist)', rounds, markdown)}\n`,
    );
  if (added > TARGET_US) process.exitCode = 1;
} finally {
  await dns.stop();
  rmSync(dir, { recursive: true });
}
