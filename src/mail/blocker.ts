/** What keeps mail from going, as a relay process says of an entry, and the limits that hold for it: for `queue why` and `route`. */

export type BlockerKind =
  | 'adaptive'
  | 'warmup'
  | 'provider_limit'
  | 'source_paused'
  | 'campaign_paused'
  | 'tenant_limit'
  | 'sender_limit'
  | 'connection_wait';

export interface Blocker {
  kind: BlockerKind;
  /** What is used up or closed, and whose: `messages_per_h of google from news1`, `campaign spring at google`. */
  key: string;
  /** null: there is no number, it is closed. */
  limit: number | null;
  used: number | null;
  /** Times of day; null: not known. */
  sinceMs: number | null;
  untilMs: number | null;
  /** File and line, a rule, a reply, an operator. */
  setBy: string;
}

export interface EffectiveLimit {
  limit: string;
  value: unknown;
  /** Events that have not run down, open connections; null: nothing counts them. */
  used: number | null;
  sinceMs: number | null;
  /** When it ends by itself; null: it does not, or that is not known. */
  untilMs: number | null;
  setBy: string;
}

/** An entry, or one that might be. */
export interface AskedEntry {
  queueId: string;
  destination: string;
  sender: string;
  tenant: string;
  campaign: string;
  class: string;
  pool: string;
  /** Where its destination leads, for who has asked DNS; absent: as the process has found. */
  site?: { key: string; provider: string } | undefined;
}

export interface Explained {
  /** null: not known, or none: the operator chose the hosts. */
  site: string | null;
  provider: string;
  /** '' for none. */
  pool: string;
  /** '' for the default one; null: none may send. */
  source: string | null;
  /** The first is met first. */
  blockers: Blocker[];
  limits: EffectiveLimit[];
}

/** So many entries are asked about at once. */
export const MAX_ASKED = 40;

/** What several processes say of the same entries, as one. */
export function mergeExplained(parts: readonly (readonly Explained[])[]): Explained[] {
  const [first = [], ...others] = parts;
  return first.map((one, i) => {
    const all = [one, ...others.flatMap((part) => part[i] ?? [])];
    const blockers = new Map<string, Blocker>();
    for (const blocker of all.flatMap((part) => part.blockers)) {
      const name = `${blocker.kind} ${blocker.key}`;
      const known = blockers.get(name);
      if (known === undefined || (blocker.untilMs ?? 0) > (known.untilMs ?? 0)) blockers.set(name, blocker);
    }
    // The process that the mail goes through counts what is used, and may have learned more than others.
    const said = all.find(({ limits }) => limits.some(({ used }) => used !== null)) ?? one;
    const known = all.find(({ site }) => site !== null) ?? one;
    return { ...known, blockers: [...blockers.values()], limits: said.limits };
  });
}
