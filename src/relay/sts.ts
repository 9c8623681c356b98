/** The part of the composition root that keeps the host's MTA-STS policies fresh. */

import { dirname, join } from 'node:path';
import type { Aside } from '../base/aside.ts';
import type { Log } from '../base/log.ts';
import { steadyMs } from '../base/steady.ts';
import type { Config } from '../config/schema.ts';
import { stsFetcher } from '../delivery/security/sts-fetch.ts';
import { stsFacts } from '../delivery/security/sts-policy.ts';
import { StsRefresh } from '../delivery/security/sts-refresh.ts';
import { StsStore } from '../delivery/security/sts-store.ts';
import type { TlsSession } from '../mail/tls-session.ts';
import { currentDns } from './current-dns.ts';
import type { ProcessPlace } from './place.ts';

/** Policies of all processes of the host lie in one folder, beside the events. */
export const stsDir = ({ eventsDir }: ProcessPlace): string => join(dirname(eventsDir), 'mta-sts');

export interface StsRefreshSetup {
  place: ProcessPlace;
  log: Log;
  aside: Aside;
  /** The config as of the last reload. */
  current(): Config;
  /** Tells the TLS reports about a session. */
  tlsSession(session: TlsSession): void;
}

/** One for a host, in its process 0; null in others, and where no policies are asked for. */
export function openStsRefresh({
  place,
  log,
  aside,
  current,
  tlsSession,
}: StsRefreshSetup): StsRefresh | null {
  const { delivery } = current();
  if (!delivery.mta_sts.enabled || place.process !== 0) return null;
  const dns = currentDns(current);
  return new StsRefresh({
    store: new StsStore({
      dir: stsDir(place),
      maxDomains: delivery.mta_sts.max_domains,
      writer: '0',
      warn: log.warn.bind(log),
      now: Date.now,
    }),
    dns,
    fetch: (domain) => stsFetcher({ timeoutMs: current().delivery.mta_sts.fetch_timeout_ms, dns })(domain),
    aside,
    rules: () => current().delivery.mta_sts,
    now: Date.now,
    steady: steadyMs,
    random: Math.random,
    failed(domain, kept, { result, detail }) {
      log.warn('mta_sts.not_refreshed', { domain, result, detail });
      tlsSession({ policy: stsFacts(domain, kept), result, mx: '', address: '', detail });
    },
  });
}
