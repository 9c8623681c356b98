/**
 * Looks at each source at the start, at every reload and from time to time: is its address on this host, do its names
 * in DNS agree, does a list name it. Only a missing address keeps mail from it; the rest is told. One round at a time,
 * one source after another: it is never in a hurry.
 */
import { type Ip, parseIp, reversed, reverseName } from '../base/ip.ts';
import { isLocalAddress } from '../base/local-address.ts';
import type { Config } from '../config/schema.ts';

type Source = Config['egress']['sources'][number];

export const CHECKS = ['address', 'ptr', 'ehlo_name', 'spf', 'dnsbl'] as const;

/** What one look came to. */
export interface SourceFinding {
  check: (typeof CHECKS)[number];
  /** null: DNS gave no answer, so nothing is known. */
  ok: boolean | null;
  detail: string;
}

export interface SourceStanding {
  source: string;
  /** Steady time is of no use to who reads this: time of day; 0: not checked yet. */
  checkedAtMs: number;
  /** false: its address is not on this host. */
  present: boolean;
  findings: SourceFinding[];
}

/** DNS as the checks ask it; a name without such records gives [], no answer null. */
export interface SourceDns {
  /** What SPF of the domain says of mail from the address, as `pass`, and why where it is broken; null: no answer. */
  spf(domain: string, address: string): Promise<{ result: string; fault: string } | null>;
  ptr(name: string): Promise<string[] | null>;
  addresses(name: string): Promise<string[] | null>;
}

export interface SourceChecksPorts {
  dns: SourceDns;
  /** The config as of the last reload, the name in EHLO of sources without one, and the domains that mail is sent from. */
  rules(): { egress: Config['egress']; ehloName: string; domains: readonly string[] };
  /** A round begins: what DNS said before is not believed any more. */
  began?(): void;
  now(): number;
  /** Whether connections can leave from this address; for tests. */
  isLocal?(address: string): Promise<boolean>;
  /** Something is known that was not, or changed. */
  changed(standing: SourceStanding, before: SourceStanding | undefined): void;
}

/** Lists are asked at most this often, whatever check_interval_s says. */
const DNSBL_MS = 3_600_000;
/** Of so many domains SPF is looked at in a round; and so many times in all. */
const MAX_SPF_DOMAINS = 50;
const MAX_SPF_CHECKS = 5000;

export class SourceChecks {
  readonly #ports: SourceChecksPorts;
  readonly #standings = new Map<string, SourceStanding>();
  readonly #askedLists = new Map<string, { atMs: number; finding: SourceFinding }>();
  #running: Promise<void> | null = null;
  /** In this round. */
  #spfChecks = 0;

  constructor(ports: SourceChecksPorts) {
    this.#ports = ports;
  }

  standing(source: string): SourceStanding | undefined {
    return this.#standings.get(source);
  }

  /** Whether each address lies on this host. Asks nobody, so it is done far more often than the rest. */
  async lookAtAddresses(): Promise<void> {
    const { sources } = this.#ports.rules().egress;
    const names = new Set(sources.map(({ name }) => name));
    for (const name of this.#standings.keys()) if (!names.has(name)) this.#standings.delete(name);
    for (const source of sources) {
      const present = await this.#isPresent(source);
      const before = this.#standings.get(source.name);
      if (before?.present === present) continue;
      const others = (before?.findings ?? []).filter(({ check }) => check !== 'address');
      const findings = [...addressFindings(source, present), ...others];
      this.#note({ checkedAtMs: 0, ...before, source: source.name, present, findings });
    }
  }

  async #isPresent(source: Source): Promise<boolean> {
    // What leaves from a proxy has its address there.
    if (source.address === undefined || leavesFromProxy(source)) return true;
    return (this.#ports.isLocal ?? isLocalAddress)(source.address);
  }

  /** Does all checks; one round at a time. */
  check(): Promise<void> {
    this.#running ??= this.#round().finally(() => {
      this.#running = null;
    });
    return this.#running;
  }

  async #round(): Promise<void> {
    await this.lookAtAddresses();
    this.#ports.began?.();
    const rules = this.#ports.rules();
    this.#spfChecks = 0;
    for (const source of rules.egress.sources) {
      const { present } = this.#standings.get(source.name) ?? { present: true };
      const findings = await this.#findings(source, present, rules);
      if (this.#standings.has(source.name))
        this.#note({ source: source.name, present, checkedAtMs: this.#ports.now(), findings });
    }
  }

  #note(standing: SourceStanding): void {
    const before = this.#standings.get(standing.source);
    this.#standings.set(standing.source, standing);
    this.#ports.changed(standing, before);
  }

  async #findings(
    source: Source,
    present: boolean,
    { egress: { dnsbls }, ehloName, domains }: ReturnType<SourceChecksPorts['rules']>,
  ): Promise<SourceFinding[]> {
    const { address, ehlo_name: ehlo = ehloName } = source;
    if (address === undefined) return [await this.#ehloName(ehlo, null)];
    const findings = addressFindings(source, present);
    findings.push(await this.#ptr(address), await this.#ehloName(ehlo, address));
    if (domains.length > 0) findings.push(await this.#spf(address, domains));
    if (dnsbls.length > 0) findings.push(await this.#dnsbl(address, dnsbls));
    return findings;
  }

  /** A name of the address must lead back to it; many hosts refuse mail from others. */
  async #ptr(address: string): Promise<SourceFinding> {
    const names = await this.#ports.dns.ptr(reverseName(ipOf(address)));
    if (names === null) return { check: 'ptr', ok: null, detail: 'DNS gives no answer' };
    if (names.length === 0) return { check: 'ptr', ok: false, detail: `${address} has no PTR record` };
    let known = true;
    for (const name of names) {
      const addresses = await this.#ports.dns.addresses(name);
      if (addresses?.includes(address) === true) return { check: 'ptr', ok: true, detail: name };
      known &&= addresses !== null;
    }
    if (!known) return { check: 'ptr', ok: null, detail: 'DNS gives no answer' };
    return { check: 'ptr', ok: false, detail: `${names.join(', ')} does not lead back to ${address}` };
  }

  async #ehloName(name: string, address: string | null): Promise<SourceFinding> {
    const addresses = await this.#ports.dns.addresses(name);
    const check = 'ehlo_name';
    if (addresses === null) return { check, ok: null, detail: `DNS gives no answer for ${name}` };
    if (addresses.length === 0) return { check, ok: false, detail: `${name} has no address` };
    if (address !== null && !addresses.includes(address))
      return { check, ok: false, detail: `${name} leads to ${addresses.join(', ')}, not to ${address}` };
    return { check, ok: true, detail: name };
  }

  /** SPF of each domain that mail is sent from must name the address (RFC 7208). */
  async #spf(address: string, domains: readonly string[]): Promise<SourceFinding> {
    const refused: string[] = [];
    const silent: string[] = [];
    const asked = domains.slice(0, Math.min(MAX_SPF_DOMAINS, MAX_SPF_CHECKS - this.#spfChecks));
    this.#spfChecks += asked.length;
    for (const domain of asked) {
      const said = await this.#ports.dns.spf(domain, address);
      if (said === null) silent.push(domain);
      else if (said.result !== 'pass')
        refused.push(`${domain} (${said.result}${said.fault === '' ? '' : `: ${said.fault}`})`);
    }
    const left = domains.length - asked.length;
    const rest = left === 0 ? '' : `; ${left} more domains are not looked at`;
    const check = 'spf';
    if (refused.length > 0)
      return { check, ok: false, detail: `${address} is not covered by ${refused.join(', ')}${rest}` };
    if (silent.length > 0)
      return { check, ok: null, detail: `DNS gives no answer for ${silent.join(', ')}${rest}` };
    return asked.length === 0
      ? { check, ok: null, detail: `not looked at: ${MAX_SPF_CHECKS} in a round` }
      : { check, ok: true, detail: `${asked.join(', ')}${rest}` };
  }

  async #dnsbl(address: string, lists: readonly string[]): Promise<SourceFinding> {
    const key = `${address} ${lists.join(' ')}`;
    const before = this.#askedLists.get(key);
    const now = this.#ports.now();
    if (before !== undefined && now - before.atMs < DNSBL_MS && now >= before.atMs) return before.finding;
    const listed: string[] = [];
    const silent: string[] = [];
    for (const list of lists) {
      const answers = await this.#ports.dns.addresses(`${reversed(ipOf(address))}.${list}`);
      if (answers === null) silent.push(list);
      // 127.255.255.0/24 is how lists say that they do not answer this resolver.
      else if (answers.some((answer) => answer.startsWith('127.') && !answer.startsWith('127.255.255.')))
        listed.push(list);
      else if (answers.length > 0) silent.push(list);
    }
    const finding: SourceFinding = {
      check: 'dnsbl',
      ok: listed.length > 0 ? false : silent.length > 0 ? null : true,
      detail:
        listed.length > 0
          ? `listed by ${listed.join(', ')}`
          : silent.length > 0
            ? `no answer of ${silent.join(', ')}`
            : '',
    };
    this.#askedLists.set(key, { atMs: now, finding });
    return finding;
  }
}

/** The config has been checked: it is one. */
const ipOf = (address: string): Ip => parseIp(address) as Ip;

/** What leaves from such a proxy has its address there. */
const leavesFromProxy = ({ proxy }: Source): boolean => proxy?.startsWith('haproxy:') === true;

/** None of a source whose address lies nowhere on this host. */
function addressFindings(source: Source, present: boolean): SourceFinding[] {
  if (source.address === undefined || leavesFromProxy(source)) return [];
  return [
    { check: 'address', ok: present, detail: present ? '' : `${source.address} is no address of this host` },
  ];
}
