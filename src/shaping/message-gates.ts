/**
 * Limits of mail that is told apart by more than source and site: the block of addresses it leaves from, who signs it, the domain of its
 * reverse-path, its tenant, its campaign. Main sets them for all delivery threads; each thread has its part of a rate. Asked once for a
 * message, when it comes to its lane: one that may not go yet waits in the queue. Without any gate this costs a comparison, and who
 * signs a message is looked at only where a gate is about that.
 */
import { domainOf } from '../base/domain.ts';
import { MAX_PRIORITY_HINT } from '../mail/attributes.ts';
import type { Job } from '../mail/job.ts';

export type GateKind =
  | 'provider'
  | 'source'
  | 'netblock'
  | 'dkim_domain'
  | 'return_path_domain'
  | 'tenant'
  | 'campaign';

export interface Gate {
  kind: GateKind;
  value: string;
  site: string;
  /** Of one delivery thread; 0: only closed. */
  messagesPerS: number;
  /** Steady time; 0: it is open. */
  closedUntilMs: number;
  /** Who set it, in `queue why` and the reason of a deferral. */
  by: string;
  /** Its mail fails, and this is why; absent: it waits. */
  bounces?: string;
  /** Mail with a priority hint waits for its turn between these steady times, the highest for the first. */
  turns?: { fromMs: number; toMs: number };
}

interface Known extends Gate {
  /** No message before; steady time. */
  nextMs: number;
}

export interface GatedMail {
  job: Pick<Job, 'reversePath' | 'attributes'>;
  /** Domains that sign it; null: nobody has looked yet. */
  dkimDomains: readonly string[] | null;
}

/** What mail leaves from. */
export interface GatedFrom {
  name: string;
  /** '' where its address is not known. */
  netblock: string;
}

/** Its mail fails: the answer of `take` beside times. */
export const BOUNCES = -1;

export const domainIn = (address: string): string => domainOf(address);

const VALUES: Record<GateKind, (mail: GatedMail, from: GatedFrom) => string | readonly string[]> = {
  // All that goes to the site.
  provider: () => '',
  source: (_mail, { name }) => name,
  netblock: (_mail, { netblock }) => netblock,
  dkim_domain: ({ dkimDomains }) => dkimDomains ?? [],
  return_path_domain: ({ job }) => domainIn(job.reversePath),
  tenant: ({ job }) => job.attributes?.tenant ?? '',
  campaign: ({ job }) => job.attributes?.campaign ?? '',
};

/** Whether a gate is about this mail. */
export function isAbout(
  { kind, value }: Pick<Gate, 'kind' | 'value'>,
  mail: GatedMail,
  from: GatedFrom,
): boolean {
  const found = VALUES[kind](mail, from);
  return typeof found === 'string' ? found === value : found.includes(value);
}

function turnOf({ turns }: Gate, { job }: GatedMail): number {
  const hint = job.attributes?.priorityHint;
  if (turns === undefined || hint === undefined) return 0;
  return turns.fromMs + (turns.toMs - turns.fromMs) * (1 - hint / MAX_PRIORITY_HINT);
}

/** Gates of a site: by kind, then by value, of which there may be tens of thousands. */
type AtSite = Map<GateKind, Map<string, Known[]>>;

/** @template M what `take` is asked about. */
export class MessageGates<M extends GatedMail> {
  readonly #signers: (mail: M) => readonly string[];
  #sites = new Map<string, AtSite>();
  #taken: Known[] = [];
  /** What refused last. */
  refusedBy = '';

  /** @param signers domains that sign a message, asked once for each that comes to a site with gates of that kind. */
  constructor(signers: (mail: M) => readonly string[]) {
    this.#signers = signers;
  }

  /** Takes all gates there are, in place of those before. */
  set(gates: readonly Gate[]): void {
    const before = this.#sites;
    this.#sites = new Map();
    for (const gate of gates) {
      const { site, kind, value, by } = gate;
      const same = before
        .get(site)
        ?.get(kind)
        ?.get(value)
        ?.find((one) => one.by === by);
      const known = { ...gate, nextMs: same?.nextMs ?? 0 };
      const here: AtSite = this.#sites.get(site) ?? new Map();
      const ofKind = here.get(kind) ?? new Map<string, Known[]>();
      const others = ofKind.get(value);
      if (others === undefined) ofKind.set(value, [known]);
      else others.push(known);
      here.set(kind, ofKind);
      this.#sites.set(site, here);
    }
  }

  /** @returns 0: it may go. BOUNCES: it fails, `refusedBy` says why. Else when to come again, in steady time. */
  take(site: string, mail: M, from: GatedFrom, nowMs: number): number {
    if (this.#sites.size === 0) return 0;
    const here = this.#sites.get(site);
    if (here === undefined) return 0;
    this.#taken = [];
    for (const [kind, gates] of here) {
      if (kind === 'dkim_domain') mail.dkimDomains ??= this.#signers(mail);
      const found = VALUES[kind](mail, from);
      if (typeof found === 'string') {
        const atMs = this.#ask(gates.get(found), mail, nowMs);
        if (atMs !== 0) return atMs;
        continue;
      }
      for (const value of found) {
        const atMs = this.#ask(gates.get(value), mail, nowMs);
        if (atMs !== 0) return atMs;
      }
    }
    for (const gate of this.#taken) gate.nextMs = Math.max(nowMs, gate.nextMs) + 1000 / gate.messagesPerS;
    return 0;
  }

  #ask(gates: readonly Known[] | undefined, mail: M, nowMs: number): number {
    if (gates === undefined) return 0;
    for (const gate of gates) {
      if (gate.bounces !== undefined) {
        this.refusedBy = gate.bounces;
        return BOUNCES;
      }
      const atMs = Math.max(gate.closedUntilMs, gate.nextMs, turnOf(gate, mail));
      if (atMs > nowMs) {
        this.refusedBy = `${gate.by} (${gate.kind} ${gate.value} at ${gate.site})`;
        return Math.ceil(atMs);
      }
      if (gate.messagesPerS > 0) this.#taken.push(gate);
    }
    return 0;
  }
}
