/** DMARC policies and organizational domains, by the tree walk of RFC 9989 §4.10. */
import type { LookUp } from './look-up.ts';

export interface DmarcPolicy {
  /** Where the record stands. */
  domain: string;
  /** p of the domain itself, sp of those below it. */
  policy: string;
  /** Of domains below. */
  subdomains: string;
  strictDkim: boolean;
  strictSpf: boolean;
  hasReports: boolean;
  /** 'y', 'n' or '' (u). */
  publicSuffix: string;
}

export interface DmarcFacts {
  /** What receivers act by; null: there is none. */
  policy: DmarcPolicy | null;
  organization: string;
  /** Names with several records, which count as none. */
  ambiguous: string[];
}

/** Most labels of a name that the walk asks about, besides the name itself. */
const MAX_LABELS = 8;

/** @throws Error when DNS does not answer. */
export async function dmarcOf(dns: LookUp, domain: string): Promise<DmarcFacts> {
  const found: DmarcPolicy[] = [];
  const ambiguous: string[] = [];
  for (const name of walkFrom(domain)) {
    const records = (await dns.txt(`_dmarc.${name}`)).filter((text) => /^v *= *DMARC1 *(?:;|$)/.test(text));
    if (records.length > 1) ambiguous.push(name);
    if (records.length !== 1) continue;
    const policy = policyOf(name, records[0] as string);
    found.push(policy);
    if (policy.publicSuffix !== '') break;
  }
  const organization = organizationOf(domain, found);
  const own = found.find((one) => one.domain === domain);
  const above =
    found.find((one) => one.domain === organization) ?? found.find((one) => one.publicSuffix === 'y');
  return { policy: own ?? above ?? null, organization, ambiguous };
}

/** The names asked about, from the domain to the single label: of a long one, after itself only the last seven labels. */
export function walkFrom(domain: string): string[] {
  const labels = domain.split('.');
  const names = [domain];
  for (let left = Math.min(labels.length - 1, MAX_LABELS - 1); left > 0; left--)
    names.push(labels.slice(-left).join('.'));
  return names;
}

/** @param found from the longest name to the shortest. */
function organizationOf(domain: string, found: readonly DmarcPolicy[]): string {
  for (const { domain: name, publicSuffix } of found) {
    if (publicSuffix === 'n') return name;
    if (publicSuffix === 'y' && name !== domain)
      return domain
        .split('.')
        .slice(-name.split('.').length - 1)
        .join('.');
  }
  return found.at(-1)?.domain ?? domain;
}

function policyOf(domain: string, record: string): DmarcPolicy {
  const tags = new Map<string, string>();
  for (const tag of record.split(';')) {
    const at = tag.indexOf('=');
    if (at > 0) tags.set(tag.slice(0, at).trim().toLowerCase(), tag.slice(at + 1).trim());
  }
  const known = (value: string | undefined): string | null => {
    const policy = value?.toLowerCase() ?? '';
    return ['none', 'quarantine', 'reject'].includes(policy) ? policy : null;
  };
  const policy = known(tags.get('p')) ?? 'none';
  return {
    domain,
    policy,
    subdomains: known(tags.get('sp')) ?? policy,
    strictDkim: tags.get('adkim')?.toLowerCase() === 's',
    strictSpf: tags.get('aspf')?.toLowerCase() === 's',
    hasReports: tags.has('rua'),
    publicSuffix: /^[yn]$/i.exec(tags.get('psd') ?? '')?.[0]?.toLowerCase() ?? '',
  };
}

/** Whether a domain that SPF or DKIM vouches for stands for the author's. @throws Error when DNS does not answer. */
export async function isAligned(
  dns: LookUp,
  author: string,
  vouched: string,
  strict: boolean,
): Promise<boolean> {
  if (author === vouched) return true;
  if (strict) return false;
  const [one, other] = await Promise.all([dmarcOf(dns, author), dmarcOf(dns, vouched)]);
  return one.organization === other.organization;
}
