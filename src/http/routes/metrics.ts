/** GET /metrics: what Prometheus scrapes. A relay that does not answer is told by protorelay_up, not by an error. */
import type { FastifyInstance } from 'fastify';
import { RelayError } from '../../base/errors.ts';
import { NetworkSet } from '../../base/ip.ts';
import { turnS } from '../../base/turn.ts';
import type { Config } from '../../config/schema.ts';
import type { HostStatus } from '../../control/status.ts';
import type { SourceReport } from '../../egress/source-report.ts';
import { CertificateFigures } from '../metrics/certificate-figures.ts';
import { CONTENT_TYPES, formatFor, Samples } from '../metrics/exposition.ts';
import { processFigures } from '../metrics/process-figures.ts';
import { relayFigures, sourceFigures } from '../metrics/relay-figures.ts';
import type { RelayLink } from '../relay-link.ts';

/** Less than a scrape waits. */
const PATIENCE_MS = 5000;

interface Told {
  status: HostStatus;
  sources: SourceReport[];
}

export function metricsRoutes(
  app: FastifyInstance,
  config: Config,
  link: RelayLink,
  now: () => number,
): void {
  const certificates = new CertificateFigures(config);
  const anonymous = new NetworkSet(config.metrics.anonymous_networks);
  app.get('/metrics', { config: { needs: { role: 'viewer', anonymous } } }, async (request, reply) => {
    const samples = new Samples();
    const [told, lagS] = await Promise.all([tell(link), turnS()]);
    samples.add('protorelay_up', told === null ? 0 : 1, {});
    const pids = new Map([['http', process.pid]]);
    if (told !== null) {
      relayFigures(samples, told.status, now());
      sourceFigures(samples, told.sources);
      for (const [name, pid] of pidsOf(told.status)) pids.set(name, pid);
    }
    await certificates.add(samples, now());
    for (const [name, pid] of pids) await processFigures(samples, pid, name);
    samples.add('nodejs_eventloop_lag_seconds', lagS, { process: 'http' });
    const format = formatFor(request.headers.accept ?? '');
    return reply.type(CONTENT_TYPES[format]).header('Vary', 'Accept').send(samples.text(format));
  });
}

/** null: it does not answer. */
async function tell(link: RelayLink): Promise<Told | null> {
  try {
    return await link.ask(async (client) => {
      const status = await client.status();
      return { status, sources: await client.sources() };
    }, PATIENCE_MS);
  } catch (error) {
    if (!(error instanceof RelayError)) throw error;
    return null;
  }
}

/** With one relay process there is no supervisor. */
function* pidsOf({ pid, processes }: HostStatus): Generator<[name: string, pid: number]> {
  yield [processes.length === 0 ? '0' : 'supervisor', pid];
  for (const one of processes) if (one.pid !== null) yield [`${one.process}`, one.pid];
}
