/** Where attributes of messages come from, as the config says: names of header fields, whom to believe, rules. */
import { globOf, literalOf } from '../base/glob.ts';
import { NetworkSet, parseIp } from '../base/ip.ts';
import type { Config } from '../config/schema.ts';
import type { Attributes, TextAttribute } from '../mail/attributes.ts';
import { domainPattern } from '../mail/selection.ts';

export type HeaderAttribute = TextAttribute | 'metadata' | 'deadline' | 'priority_hint';

/** Fields of other relays: name in lower case → attribute. */
const ALIASES: Record<Config['attributes']['aliases'][number], Record<string, HeaderAttribute>> = {
  powermta: { 'x-virtual-mta': 'pool', 'x-job': 'campaign' },
  kumomta: { 'x-tenant': 'tenant', 'x-campaign': 'campaign' },
};
/** Fields whose names begin so are found by the reactor while it reads the content. */
const OUR_PREFIX = 'x-protorelay-';

type Given = Omit<Attributes, 'metadata' | 'deadlineMs' | 'priorityHint'> & {
  deadline_ms?: number | undefined;
};
type Test = ((text: string) => boolean) | null;

interface Rule {
  user: Test;
  listener: Test;
  senderDomain: Test;
  fromDomain: Test;
  /** Only for clients that are believed. */
  ofTrusted: boolean;
  set: Given;
  override: boolean;
}

/** What rules know of a message. */
export interface RuleFacts {
  /** Whether what its client says is believed. */
  trusted: boolean;
  user: string | undefined;
  listener: string;
  senderDomain: string;
  /** Worked out when a rule asks for it. */
  fromDomain: () => string;
}

export class AttributeRules {
  /** Fields that are taken out of every message: name in lower case → attribute. */
  readonly fields: ReadonlyMap<string, HeaderAttribute>;
  readonly names: ReadonlySet<string>;
  /** Whether there are fields of which only a look at the header tells. */
  readonly looksAlways: boolean;
  /** Whether there is any rule, or tenant with a pool. */
  readonly anyRule: boolean;
  readonly #trustsUsers: boolean;
  readonly #trusted: NetworkSet;
  readonly #rules: Rule[];
  /** null: any name is a tenant. */
  readonly #tenants: ReadonlyMap<string, string | undefined> | null;

  constructor({ attributes, tenants }: Pick<Config, 'attributes' | 'tenants'>) {
    const { headers, aliases, trust_authenticated, trusted_networks, rules } = attributes;
    const own: [name: string, attribute: HeaderAttribute][] = [
      [headers.tenant, 'tenant'],
      [headers.campaign, 'campaign'],
      [headers.class, 'class'],
      [headers.pool, 'pool'],
      [headers.metadata, 'metadata'],
      [headers.deadline, 'deadline'],
      [headers.priority_hint, 'priority_hint'],
    ];
    const others = aliases.flatMap((alias) => Object.entries(ALIASES[alias]));
    // Of two meanings of one name the config's own holds.
    const all = [...others, ...own].filter(([name]) => name !== '');
    this.fields = new Map(all.map(([name, attribute]) => [name.toLowerCase(), attribute]));
    this.names = new Set(this.fields.keys());
    this.looksAlways = [...this.names].some((name) => !name.startsWith(OUR_PREFIX));
    this.#trustsUsers = trust_authenticated;
    this.#trusted = new NetworkSet(trusted_networks);
    this.#rules = rules.map(({ match, set, override, strangers }) => ({
      user: testOf(match.user),
      listener: testOf(match.listener),
      senderDomain: testOf(match.sender_domain, domainPattern),
      fromDomain: testOf(match.from_domain, domainPattern),
      ofTrusted: isByDomainAlone(match) && !strangers,
      set: set as Given,
      override,
    }));
    this.#tenants = tenants.length === 0 ? null : new Map(tenants.map(({ name, pool }) => [name, pool]));
    this.anyRule = rules.length > 0 || tenants.some(({ pool }) => pool !== undefined);
  }

  /** Whether what this client writes into header fields is believed. @param address 'unix' where it came by a socket. */
  trusts(isUser: boolean, address: string): boolean {
    if (address === 'unix' || (isUser && this.#trustsUsers)) return true;
    return this.#trusted.has(parseIp(address));
  }

  isTenant(name: string): boolean {
    return this.#tenants === null || this.#tenants.has(name);
  }

  /** Adds what rules and the tenant give to what header fields say. */
  complete(attributes: Attributes, facts: RuleFacts, nowMs: number): void {
    const said = { ...attributes };
    const given: Attributes = {};
    const fixed: Attributes = {};
    for (const rule of this.#rules) {
      if (!matches(rule, facts)) continue;
      const { deadline_ms, ...texts } = rule.set;
      const sets: Attributes = { ...texts, ...(deadline_ms && { deadlineMs: nowMs + deadline_ms }) };
      const into = rule.override ? fixed : given;
      Object.assign(into, { ...sets, ...into });
    }
    Object.assign(attributes, given, said, fixed);
    const { tenant } = attributes;
    const pool = tenant === undefined ? undefined : this.#tenants?.get(tenant);
    if (pool !== undefined) attributes.pool ??= pool;
  }
}

type Match = Config['attributes']['rules'][number]['match'];

/** Whether the match rests on a domain, which anybody can write. */
const isByDomainAlone = ({ user, listener, sender_domain: sender, from_domain: from }: Match): boolean =>
  user === undefined && listener === undefined && (sender !== undefined || from !== undefined);

/** null: everything fits. */
function testOf(
  written: string | string[] | undefined,
  form: (pattern: string) => string = (one) => one,
): Test {
  if (written === undefined) return null;
  const patterns = [written].flat().map(form);
  const literals = new Set(patterns.map(literalOf));
  const globs = patterns.filter((pattern) => literalOf(pattern) === null).map(globOf);
  return (text) => literals.has(text.toLowerCase()) || globs.some((fits) => fits(text));
}

const matches = (rule: Rule, { trusted, user, listener, senderDomain, fromDomain }: RuleFacts): boolean =>
  (trusted || !rule.ofTrusted) &&
  (rule.user === null || (user !== undefined && rule.user(user))) &&
  (rule.listener === null || rule.listener(listener)) &&
  (rule.senderDomain === null || rule.senderDomain(senderDomain)) &&
  (rule.fromDomain === null || rule.fromDomain(fromDomain()));
