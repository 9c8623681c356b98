/**
 * Good clients next to hostile ones: how much of their throughput they keep. A relay with its policy on, 100 good
 * connections that send one message after another, alone and then with so many hostile connections a second beside them
 * (garbage, slow ones, early talkers, guesses of logins and recipients), in turns. The target is 80 %.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { createArena } from '../src/native.ts';
import { RelayFixture } from '../test/support/relay-fixture.ts';
import { Hostile } from './lib/hostile.ts';
import { LoadClient } from './lib/load-client.ts';
import { treeCpuSeconds } from './lib/proc.ts';
import { accepting, freePort } from './lib/servers.ts';

const USAGE = `usage: node bench/hostile.ts [--per-second N] [--rate N] [--seconds N] [--rounds N]
  --per-second N  hostile connections a second (default 1000)
  --rate N        messages a second the good clients want to send; 0: as many as they can (default 0)
  --seconds N     length of each half of a round (default 5)
  --rounds N      default 3`;

const { values } = parseArgs({
  options: {
    'per-second': { type: 'string', default: '1000' },
    rate: { type: 'string', default: '0' },
    seconds: { type: 'string', default: '5' },
    rounds: { type: 'string', default: '3' },
    hostile: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});

/** Two known ones: the good clients' address is in relay_networks and so exempt, the rest is not. */
const POLICY = {
  connections: { enabled: true, max_per_ip: 20, max_per_network: 1000 },
  rates: {
    enabled: true,
    limits: [{ count: 'connections', limit: 600, interval_ms: 60_000 }],
    exempt: ['127.0.0.1'],
  },
  bans: { enabled: true, max_failures: { protocol: 20, unknown_user: 20 } },
  early_talker: { enabled: true, greet_delay_ms: 1000 },
  tarpit: { enabled: true },
};

if (values.help) {
  process.stdout.write(`${USAGE}\n`);
} else if (values.hostile !== undefined) {
  // Beside the good clients, in a process of its own.
  const hostile = new Hostile({
    port: Number(values.hostile),
    perSecond: Number(values['per-second']),
    addresses: 2000,
    stayMs: 3000,
  });
  process.on('message', () => {
    hostile.stop();
    process.send?.({ connections: hostile.connections, turnedAway: hostile.turnedAway });
    process.disconnect();
  });
} else await main();

async function main(): Promise<void> {
  const port = await freePort();
  const relay = new RelayFixture({
    listeners: [{ host: '127.0.0.1', port }],
    relay_networks: ['127.0.0.1'],
    delivery: { enabled: false },
    smtp: { max_connections_per_ip: 10_000 },
    policy: { ...POLICY, connections: { ...POLICY.connections, exempt: ['127.0.0.1'] } },
    // To a file: read here, the lines about hostile clients would slow the good ones down.
    log: { file: 'relay.log' },
  });
  relay.launch();
  relay.events.close();
  await accepting(port);
  const ratios: number[] = [];
  try {
    for (let round = 0; round < Number(values.rounds); round++) {
      const alone = await good(port);
      const child = fork(import.meta.filename, [
        ...['--hostile', `${port}`],
        ...['--per-second', values['per-second']],
      ]);
      await new Promise((done) => setTimeout(done, 1000));
      const before = treeCpuSeconds(relay.pid);
      const beside = await good(port);
      const cpu = treeCpuSeconds(relay.pid) - before;
      const told = once(child, 'message');
      child.send('stop');
      const [hostile] = await told;
      ratios.push(beside / alone);
      process.stdout.write(
        `alone ${alone.toFixed(0)}/s, beside ${beside.toFixed(0)}/s (${((100 * beside) / alone).toFixed(0)} %); ` +
          `hostile connections ${hostile.connections}, turned away at once ${hostile.turnedAway}; CPU of the relay beside ${cpu.toFixed(1)} s\n`,
      );
    }
  } finally {
    await relay.destroy();
  }
  const median = ratios.sort((a, b) => a - b)[ratios.length >> 1] ?? 0;
  process.stdout.write(`kept: ${(100 * median).toFixed(0)} % (median)\n`);
  process.exitCode = median >= 0.8 ? 0 : 1;
}

/** Messages a second of the good clients. */
async function good(port: number): Promise<number> {
  const spillDir = mkdtempSync(join(tmpdir(), 'protorelay-hostile-'));
  const client = new LoadClient(
    {
      host: '127.0.0.1',
      port,
      messages: Number.POSITIVE_INFINITY,
      sizeBytes: 1024,
      rcpts: 1,
      concurrency: 100,
      perConnection: false,
      pipeline: false,
      ratePerSecond: Number(values.rate),
      durationMs: Number(values.seconds) * 1000,
      toDomain: 'good.test',
      from: 'sender@bench.test',
      run: '5caff01d',
      stallMs: 20_000,
      reconnectMs: 20,
      spillDir,
    },
    createArena(16 << 20, spillDir),
  );
  await client.run();
  const report = client.report();
  client.destroy();
  rmSync(spillDir, { recursive: true });
  if (report.failed > 0)
    throw new Error(`${report.failed} good messages failed: ${report.refusals.join('; ')}`);
  return report.messagesPerSecond;
}
