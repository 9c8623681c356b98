/** What the config says about TLS to a destination. */
import { domainKey } from '../../base/domain.ts';
import type { Config } from '../../config/schema.ts';
import { domainOfReport, SMARTHOST } from '../../mail/destination.ts';
import { hopOfKey, isRuleHopKey, ruleHopKey, viaKey } from '../../mail/operator-keys.ts';

type NextHop = NonNullable<Config['delivery']['smarthost']>;
export type TlsMode = Config['delivery']['tls']['mode'];

export interface TlsPolicy {
  mode: TlsMode;
  /** TLS from the first byte instead of STARTTLS. */
  implicit: boolean;
  /** The name that is sent as SNI and verified, instead of the host's name. */
  serverName: string | undefined;
  /** The operator set this for the destination itself, so the domain's own policy does not change it. */
  own: boolean;
  /** Sends without TLS rather than not at all, whatever delivery.tls says of plain retries. */
  despite?: true;
}

/**
 * The next hop that an operator gave to mail of this key; undefined when none did. One that the config names is meant with
 * the login and the TLS rules that it has there.
 */
export function reroutedHop({ smarthost, routes }: Config['delivery'], key: string): NextHop | undefined {
  const named = hopOfKey(key);
  if (named === null) return undefined;
  const same = ({ host, port }: NextHop): boolean => viaKey(`${host}:${port}`) === key;
  return [...(smarthost === undefined ? [] : [smarthost]), ...Object.values(routes)].find(same) ?? named;
}

/** The next hop that a rule of `egress.routing` has under this key; undefined when none has. */
export function ruleHop(egress: Config['egress'], key: string): NextHop | undefined {
  if (!isRuleHopKey(key)) return undefined;
  return egress.routing.find(({ next_hop: hop }) => hop !== undefined && ruleHopKey(hop) === key)?.next_hop;
}

/**
 * The destination's own rules win over those of its next hop, and these over the general ones.
 * @param ruled the next hop that a rule of `egress.routing` has under this key.
 */
export function tlsPolicyOf(delivery: Config['delivery'], key: string, ruled?: NextHop): TlsPolicy {
  if (ruled !== undefined) return policyBy(delivery, ruled, undefined);
  const destination = domainKey(key);
  const { tls, routes, smarthost } = delivery;
  const reported = domainOfReport(destination);
  if (reported !== null) {
    const policy = tlsPolicyOf(delivery, reported);
    if (Object.hasOwn(routes, reported) || smarthost !== undefined || policy.mode === 'none') return policy;
    return { ...policy, mode: 'opportunistic', own: true, despite: true };
  }
  const routed = Object.hasOwn(routes, destination) ? routes[destination] : undefined;
  const hop = reroutedHop(delivery, key) ?? routed ?? smarthost;
  const own =
    destination !== SMARTHOST && Object.hasOwn(tls.destinations, destination)
      ? tls.destinations[destination]
      : undefined;
  return policyBy(delivery, hop, own);
}

const policyBy = (
  { tls }: Config['delivery'],
  hop: NextHop | undefined,
  own: Config['delivery']['tls']['destinations'][string] | undefined,
): TlsPolicy => ({
  mode: own?.mode ?? hop?.tls?.mode ?? tls.mode,
  implicit: hop?.tls?.implicit ?? false,
  serverName: hop?.tls?.server_name,
  own: own !== undefined,
});

const STRICTER: Readonly<Record<TlsMode, number>> = { none: 0, opportunistic: 1, required: 2, verify: 3 };

/** The policy, but no laxer than this mode, unless the operator set it for the destination itself. */
export function atLeast(policy: TlsPolicy, mode: TlsMode | undefined): TlsPolicy {
  if (mode === undefined || policy.own || STRICTER[mode] <= STRICTER[policy.mode]) return policy;
  return { ...policy, mode };
}
