/**
 * A campaign: recipients at many domains whose mail goes by MX to a few hosts, each a site with limits of its own, all of
 * them one sink of ours. The client merges the messages; how they are handed in is the only thing that knows of SMTP
 * (`Handed`), so that other ways can be measured beside it.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { type MadeKey, makeKey } from '../../test/native/dkim-rig.ts';
import { DnsServer } from '../../test/support/dns-server.ts';
import type { Settings } from '../../test/support/relay-fixture.ts';
import { megabytes, settled } from './chain.ts';
import { Child } from './child.ts';
import type { LoadReport } from './load-client.ts';
import { memoryBytes, treeCpuSeconds } from './proc.ts';
import { startOurSink, startRelay } from './servers.ts';
import type { SinkReport } from './sink-server.ts';

const CLIENT = resolve(import.meta.dirname, '../cl.ts');
/** Domain of the client's From. */
const SENDER = 'bench.test';
const RECIPIENTS = 'campaign.test';

export const KINDS = ['unsigned', 'ed25519', 'rsa'] as const;
export type Kind = (typeof KINDS)[number];

export interface Campaign {
  messages: number;
  sizeBytes: number;
  domains: number;
  /** MX hosts, over which the domains are spread. */
  hosts: number;
  concurrency: number;
}

type Handed = LoadReport & { clientCpuUs: number };

export interface CampaignReport {
  handed: Handed;
  sink: SinkReport;
  deliveredPerSecond: number;
  cpuUsPerMessage: number;
  peakMb: number;
  /** From the client's first connection until the first message was at the sink. */
  firstMs: number;
}

/** What every campaign of a run needs: DNS, and the keys that sign. */
export class CampaignGround {
  readonly #dns: DnsServer;
  readonly #dir: string;

  private constructor(dns: DnsServer, dir: string) {
    this.#dns = dns;
    this.#dir = dir;
  }

  static async start({ domains, hosts }: Campaign): Promise<CampaignGround> {
    const dir = mkdtempSync(join(tmpdir(), 'bench-campaign-'));
    const keys: Record<string, MadeKey> = { rsa: makeKey('rsa'), ed25519: makeKey('ed25519') };
    const dns = await DnsServer.start();
    for (const [name, { pem, record }] of Object.entries(keys)) {
      writeFileSync(join(dir, name), pem, { mode: 0o600 });
      dns.set(`${name}._domainkey.${SENDER}`, { TXT: [record] });
    }
    for (let host = 0; host < hosts; host++) dns.set(mxOf(host), { A: ['127.0.0.1'], ttl: 3600 });
    for (let domain = 0; domain < domains; domain++)
      dns.set(`d${String(domain).padStart(4, '0')}.${RECIPIENTS}`, {
        MX: [[10, mxOf(domain % hosts)]],
        ttl: 3600,
      });
    return new CampaignGround(dns, dir);
  }

  settings(kind: Kind, mxPort: number): Settings {
    const keys = [{ domain: SENDER, selector: kind, file: join(this.#dir, kind) }];
    return {
      delivery: { mx_port: mxPort },
      dns: { servers: [this.#dns.address] },
      ...(kind === 'unsigned' ? {} : { dkim: { keys } }),
    };
  }

  async stop(): Promise<void> {
    await this.#dns.stop();
    rmSync(this.#dir, { recursive: true });
  }
}

const mxOf = (host: number): string => `mx.provider${host}.test`;

/** Hands the messages in as a client that merges them itself does. */
async function handInBySmtp(campaign: Campaign, port: number): Promise<Handed> {
  const numbers = {
    port,
    messages: campaign.messages,
    size: campaign.sizeBytes,
    domains: campaign.domains,
    concurrency: campaign.concurrency,
  };
  const flags = Object.entries(numbers).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const client = new Child(process.execPath, [CLIENT, '--json', '--to-domain', RECIPIENTS, ...flags]);
  const { stdout, stderr } = await client.ended;
  if (stdout === '') throw new Error(`the client failed: ${stderr}`);
  return JSON.parse(stdout) as Handed;
}

/** One campaign on a fresh relay, as fast as it goes. */
export async function runCampaign(
  ground: CampaignGround,
  campaign: Campaign,
  kind: Kind,
): Promise<CampaignReport> {
  const { server, child } = await startOurSink('--expect', String(campaign.messages));
  try {
    const relay = await startRelay(ground.settings(kind, server.port));
    try {
      const cpuBefore = treeCpuSeconds(relay.pid);
      const arrived = child.json('sink.expected', 3_600_000) as Promise<unknown> as Promise<SinkReport>;
      arrived.catch(() => {});
      const handed = await handInBySmtp(campaign, relay.port);
      if (handed.failed > 0) throw new Error(`${handed.failed} messages were refused: ${handed.refusals}`);
      const sink = await arrived;
      await settled(relay.pid, join(relay.fixture.dataDir, 'events'));
      const firstMs = sink.firstAtMs - handed.startedAtMs;
      return {
        handed,
        sink,
        deliveredPerSecond: (sink.messages / (firstMs + sink.elapsedMs)) * 1000,
        cpuUsPerMessage: ((treeCpuSeconds(relay.pid) - cpuBefore) * 1e6) / campaign.messages,
        peakMb: megabytes(memoryBytes(relay.pid, 'VmHWM')),
        firstMs,
      };
    } finally {
      await relay.stop();
    }
  } finally {
    await server.stop();
  }
}

export interface LimitedReport {
  /** Of what the sink allows, taken after the time for learning; and of what it was sent then, refused. */
  used: number;
  refused: number;
  /** Of the same, while it learned. */
  usedAtFirst: number;
  refusedAtFirst: number;
  /** In each second from the first message on. */
  takenBySecond: number[];
  refusedBySecond: number[];
}

/**
 * A campaign in real time, to a sink that takes `perSecond` messages and answers 421 4.7.28 above.
 * @param learnS, measureS seconds from the first message on.
 */
export async function runLimited(
  ground: CampaignGround,
  campaign: Campaign,
  perSecond: number,
  learnS: number,
  measureS: number,
): Promise<LimitedReport> {
  const { server, child } = await startOurSink('--limit', String(perSecond));
  const messages = Math.ceil(perSecond * (learnS + measureS) * 1.1);
  try {
    const relay = await startRelay(ground.settings('unsigned', server.port));
    try {
      const handed = handInBySmtp({ ...campaign, messages }, relay.port);
      handed.catch(() => {});
      await new Promise((done) => setTimeout(done, (learnS + measureS) * 1000));
      await handed;
      const report = child.json('sink.report', 10_000) as Promise<unknown> as Promise<SinkReport>;
      child.signal('SIGUSR2');
      const { takenBySecond: taken, refusedBySecond: refused } = await report;
      const first = taken.findIndex((count) => count > 0);
      const from = first + learnS;
      // The last second is not over.
      const measured = shares(taken.slice(from, -1), refused.slice(from, taken.length - 1), perSecond);
      const learning = shares(taken.slice(first, from), refused.slice(first, from), perSecond);
      return {
        ...measured,
        usedAtFirst: learning.used,
        refusedAtFirst: learning.refused,
        takenBySecond: taken.slice(first),
        refusedBySecond: refused.slice(first),
      };
    } finally {
      await relay.stop();
    }
  } finally {
    await server.stop();
  }
}

function shares(taken: number[], refused: number[], perSecond: number): { used: number; refused: number } {
  const sum = (counts: number[]): number => counts.reduce((total, count) => total + count, 0);
  const seconds = Math.max(1, taken.length);
  const [got, not] = [sum(taken), sum(refused)];
  return { used: got / (perSecond * seconds), refused: not / Math.max(1, got + not) };
}
