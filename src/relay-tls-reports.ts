/** The part of the composition root that puts TLS reports together with DNS. */
import { dirname, join } from 'node:path';
import type { Log } from './base/log.ts';
import type { Config } from './config/schema.ts';
import { Dns } from './delivery/dns.ts';
import type { ProcessPlace } from './process-place.ts';
import { TlsReports } from './report/tls-rpt.ts';

/** Reports of all processes of the host lie in one folder, beside the events. */
export function openTlsReports(config: Config, { eventsDir, process }: ProcessPlace, log: Log): TlsReports {
  const dns = new Dns(config.dns);
  const txt = async (name: string): Promise<string[]> => {
    const answer = await dns.txt(name);
    return answer.kind === 'found' ? answer.records : [];
  };
  return new TlsReports({ dir: join(dirname(eventsDir), 'tls-rpt'), process, config, log, txt });
}
