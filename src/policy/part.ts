/** What every part of the policy has: a switch, a mode, and those whom it does not concern. */
import { domainKey } from '../base/domain.ts';
import { type Ip, NetworkSet } from '../base/ip.ts';
import { UNKNOWN_CLIENT } from '../mail/message.ts';

export type Mode = 'log' | 'tag' | 'defer' | 'reject';

/** What a rule found. `unknown`: DNS failed, and the rule refuses then, but only for now (4xx). */
export interface Hit {
  rule: Rule;
  mode: Mode;
  /** What exactly was found, for log, tag and reply. */
  detail: string;
  /** What the reply says in its place for run-time text; default: detail. */
  text?: string;
  unknown?: boolean;
}

export type Rule =
  | 'ban'
  | 'total'
  | 'per_ip'
  | 'per_network'
  | 'connection_rate'
  | 'message_rate'
  | 'recipient_rate'
  | 'command_rate'
  | 'reverse_dns'
  | 'helo'
  | 'dnsbl'
  | 'sender_domain'
  | 'sender_address'
  | 'recipient_address'
  | 'greylist'
  | 'early_talker'
  | 'tarpit';

export type Found = Hit | null | Promise<Hit | null>;

/** Whom a rule looks at. */
export interface Subject {
  /** null: a Unix socket, or a client its proxy does not know. */
  readonly ip: Ip | null;
  /** Address as text. */
  readonly address: string;
  /** One of relay_networks, or a Unix socket. */
  readonly mayRelay: boolean;
  /** Name of the authenticated user. */
  readonly user: string | null;
}

/** What clients without an address are counted under: all that their proxies do not know together, Unix sockets not at all. */
export function nameless({ address }: Subject): string | null {
  return address === UNKNOWN_CLIENT ? address : null;
}

interface PartConfig {
  enabled: boolean;
  mode: Mode;
  exempt: readonly string[];
}

export class Part {
  readonly enabled: boolean;
  readonly mode: Mode;
  readonly #networks: NetworkSet;
  readonly #relayNetworks: boolean;
  readonly #authenticated: boolean;
  readonly #domains: readonly string[];

  constructor({ enabled, mode, exempt }: PartConfig) {
    this.enabled = enabled;
    this.mode = mode;
    this.#relayNetworks = exempt.includes('relay_networks');
    this.#authenticated = exempt.includes('authenticated');
    this.#networks = new NetworkSet(exempt);
    this.#domains = exempt
      .filter((entry) => /[a-z]/i.test(entry) && entry.includes('.') && !entry.includes('/'))
      .map((entry) => (entry.startsWith('.') ? `.${domainKey(entry.slice(1))}` : domainKey(entry)));
  }

  /** Whether this part looks at the client. @param domain of the sender, when it is known. */
  concerns({ ip, mayRelay, user }: Subject, domain = ''): boolean {
    if (!this.enabled) return false;
    if (this.#relayNetworks && mayRelay) return false;
    if (this.#authenticated && user !== null) return false;
    if (!this.#networks.isEmpty && this.#networks.has(ip)) return false;
    return domain === '' || !this.#domains.some((entry) => isOrEndsWith(domain, entry));
  }
}

function isOrEndsWith(domain: string, entry: string): boolean {
  return entry.startsWith('.') ? domain.endsWith(entry) : domain === entry;
}
