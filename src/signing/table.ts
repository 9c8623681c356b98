/** Which keys sign what, as the main thread tells it to delivery threads: plain data. */

export interface SigningTable {
  /** Every domain that has keys in the config, in A-labels. */
  domains: Map<string, DomainKeys>;
  /** Domains that sign all mail besides. */
  alsoSign: readonly string[];
  signHeaders: readonly string[];
  oversignHeaders: readonly string[];
  /** 0: signatures have no end. */
  expireS: number;
  onError: 'defer' | 'send' | 'bounce';
}

export interface DomainKeys {
  /** Slots of the keys that sign now: one RSA, one Ed25519. */
  slots: number[];
  /** Why there are none; '' when there are. */
  fault: string;
}

export interface ChosenKeys {
  slots: number[];
  /** Why a signature that belongs there is missing; '' when none is. */
  fault: string;
}

/**
 * The keys for a message: those of each domain of its author, or of the nearest parent that has keys, and those that sign
 * all mail. Mail of domains without keys is nobody's to sign.
 */
export function chooseKeys({ domains, alsoSign }: SigningTable, authors: readonly string[]): ChosenKeys {
  const signing = new Set<string>();
  for (const author of authors) {
    const domain = nearestWithKeys(domains, author);
    if (domain !== null) signing.add(domain);
  }
  for (const domain of alsoSign) signing.add(domain);
  const chosen: ChosenKeys = { slots: [], fault: '' };
  for (const domain of signing) {
    const { slots, fault } = domains.get(domain) ?? { slots: [], fault: `${domain} has no key` };
    chosen.slots.push(...slots);
    chosen.fault ||= fault;
  }
  return chosen;
}

function nearestWithKeys(domains: SigningTable['domains'], author: string): string | null {
  for (let domain = author; ; domain = domain.slice(domain.indexOf('.') + 1)) {
    if (domains.has(domain)) return domain;
    if (!domain.includes('.')) return null;
  }
}
