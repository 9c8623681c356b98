/**
 * The adaptive control on a simulated clock, against peers that allow so many messages a second, twice or half as many from
 * one moment on, or shut a sender out for minutes that sent too many. Beside each figure stands its target.
 */
import { parseArgs } from 'node:util';
import { penaltyBox, ratios, secondsUntil, simulate, sum, tokenBucket } from './lib/limited-peer.ts';

const USAGE = `usage: ./build.sh bench adaptive [--json]
Exit code 1 when a target is missed.`;

const { values } = parseArgs({
  options: { json: { type: 'boolean', default: false }, help: { type: 'boolean', default: false } },
});
if (values.help) {
  process.stdout.write(`${USAGE}\n`);
  process.exit(0);
}

interface Figure {
  peer: string;
  figure: string;
  value: number;
  target: string;
  met: boolean;
}
const figures: Figure[] = [];
const atLeast = (peer: string, figure: string, value: number, least: number): void =>
  void figures.push({ peer, figure, value, target: `≥ ${least}`, met: value >= least });
const atMost = (peer: string, figure: string, value: number, most: number): void =>
  void figures.push({ peer, figure, value, target: `≤ ${most}`, met: value <= most });

const HOUR_S = 3600;
const changesTo = (rate: number, factor: number) => (nowMs: number) =>
  nowMs < HOUR_S * 1000 ? rate : rate * factor;

for (const rate of [5, 20, 50, 200, 500]) {
  const name = `${rate}/s`;
  const steady = simulate({ peer: tokenBucket(() => rate), forMs: 2 * HOUR_S * 1000 });
  const second = ratios(steady, HOUR_S, 2 * HOUR_S, rate);
  atLeast(name, 'used in the second hour', second.used, 0.95);
  atMost(name, 'refused in the second hour', second.refused, 0.01);
  const forMs = (HOUR_S + 600) * 1000;
  const doubled = simulate({ peer: tokenBucket(changesTo(rate, 2)), forMs, connections: 200 });
  atMost(`${name}, doubled`, 'seconds until found', secondsUntil(doubled, HOUR_S, 2 * rate * 0.95), 120);
  const halved = simulate({ peer: tokenBucket(changesTo(rate, 0.5)), forMs });
  const after = ratios(halved, HOUR_S + 10, HOUR_S + 600, rate / 2);
  if (rate >= 20) atMost(`${name}, halved`, 'refused from 10 s on', after.refused, 0.02);
  atLeast(`${name}, halved`, 'used from 10 s on', after.used, 0.9);
}
for (const minutes of [1, 2, 5, 10, 15]) {
  const name = `100/min, else ${minutes} min of refusals`;
  const day = simulate({ peer: penaltyBox(100, minutes * 60_000), forMs: 24 * HOUR_S * 1000, stepMs: 100 });
  const after = ratios(day, 6 * HOUR_S, 24 * HOUR_S, 100 / 60);
  atLeast(name, 'used after 6 h', after.used, 0.85);
  atMost(name, 'refused after 6 h', after.refused, 0.005);
  const early = sum(day, 0, 2 * HOUR_S).accepted / 12_000;
  figures.push({ peer: name, figure: 'used in the first 2 h', value: early, target: '', met: true });
}

if (values.json) process.stdout.write(`${JSON.stringify(figures)}\n`);
else
  for (const { peer, figure, value, target, met } of figures)
    process.stdout.write(
      `${peer.padEnd(36)} ${figure.padEnd(28)} ${String(Number(value.toFixed(4))).padStart(8)}  ${target.padEnd(8)}${met ? '' : ' MISSED'}\n`,
    );
process.exitCode = figures.every(({ met }) => met) ? 0 : 1;
