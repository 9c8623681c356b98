/** What `protorelay source list` says of a source. */
import { parseProxy } from '../config/egress-proxy.ts';
import type { Config } from '../config/schema.ts';
import type { SourceFinding, SourceStanding } from './source-checks.ts';

export interface SourceReport {
  name: string;
  /** '' for the one the system chooses. */
  address: string;
  /** '' for `delivery.ehlo_name`. */
  ehloName: string;
  /** 'socks5 192.0.2.1:1080'; '' without one. Never its password. */
  proxy: string;
  state: 'usable' | 'suspended' | 'disabled';
  /** Why it is suspended; ''. */
  reason: string;
  /** Pools that it is a member of. */
  pools: string[];
  /** Time of day; 0: not checked yet. */
  checkedAtMs: number;
  findings: SourceFinding[];
}

export function reportOf(
  { sources, pools }: Config['egress'],
  standing: (source: string) => SourceStanding | undefined,
): SourceReport[] {
  return sources.map(({ name, address = '', ehlo_name: ehloName = '', proxy: url, enabled }) => {
    const known = standing(name);
    const proxy = url === undefined ? null : parseProxy(url);
    const isMissing = known?.present === false;
    return {
      name,
      address,
      ehloName,
      proxy: proxy === null || 'wrong' in proxy ? '' : `${proxy.kind} ${proxy.address}:${proxy.port}`,
      state: !enabled ? 'disabled' : isMissing ? 'suspended' : 'usable',
      reason: enabled && isMissing ? 'address_missing' : '',
      pools: pools
        .filter(({ members }) => members.some(({ source }) => source === name))
        .map((pool) => pool.name),
      checkedAtMs: known?.checkedAtMs ?? 0,
      findings: known?.findings ?? [],
    };
  });
}

/** Those of several processes as one: DNS is asked by one of them, addresses by all. */
export function mergeReports(parts: readonly (readonly SourceReport[])[]): SourceReport[] {
  const merged = new Map<string, SourceReport>();
  for (const report of parts.flat()) {
    const known = merged.get(report.name);
    const later = known === undefined || report.checkedAtMs > known.checkedAtMs ? report : known;
    const suspended = [known, report].find((one) => one?.state === 'suspended');
    const { state, reason } = suspended ?? later;
    merged.set(report.name, { ...later, state, reason });
  }
  return [...merged.values()];
}
