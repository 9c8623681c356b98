/**
 * Limits of mail that is told apart by more than source and site: the domain of its reverse-path, its tenant, its campaign. Main sets
 * them for all delivery threads; each thread has its part of a rate. Asked once for a message, when it comes to its lane: one that may
 * not go yet waits in the queue. Without any gate this costs a comparison.
 */
import type { Job } from '../mail/job.ts';

export const GATE_KINDS = ['return_path_domain', 'tenant', 'campaign'] as const;
export type GateKind = (typeof GATE_KINDS)[number];

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
}

interface Known extends Gate {
  /** No message before; steady time. */
  nextMs: number;
}

export type GatedMail = Pick<Job, 'reversePath' | 'attributes'>;

export const domainIn = (address: string): string =>
  address.slice(address.lastIndexOf('@') + 1).toLowerCase();

const VALUES: Record<GateKind, (mail: GatedMail) => string> = {
  return_path_domain: ({ reversePath }) => domainIn(reversePath),
  tenant: ({ attributes }) => attributes?.tenant ?? '',
  campaign: ({ attributes }) => attributes?.campaign ?? '',
};

/** '' where the mail has none. */
export const gateValue = (kind: GateKind, mail: GatedMail): string => VALUES[kind](mail);

const keyOf = (kind: GateKind, value: string): string => `${kind}\t${value}`;

export class MessageGates {
  /** By site, then by kind and value: a site may have tens of thousands. */
  #gates = new Map<string, Map<string, Known[]>>();
  /** What refused last. */
  refusedBy = '';

  /** Takes all gates there are, in place of those before. */
  set(gates: readonly Gate[]): void {
    const before = this.#gates;
    this.#gates = new Map();
    for (const gate of gates) {
      const key = keyOf(gate.kind, gate.value);
      const same = before
        .get(gate.site)
        ?.get(key)
        ?.find(({ by }) => by === gate.by);
      const known = { ...gate, nextMs: same?.nextMs ?? 0 };
      let here = this.#gates.get(gate.site);
      if (here === undefined) {
        here = new Map();
        this.#gates.set(gate.site, here);
      }
      const others = here.get(key);
      if (others === undefined) here.set(key, [known]);
      else others.push(known);
    }
  }

  /** @returns 0: it may go. Else when to come again, in steady time. */
  take(site: string, mail: GatedMail, nowMs: number): number {
    if (this.#gates.size === 0) return 0;
    const here = this.#gates.get(site);
    if (here === undefined) return 0;
    const taken: Known[] = [];
    for (const kind of GATE_KINDS)
      for (const gate of here.get(keyOf(kind, VALUES[kind](mail))) ?? []) {
        const atMs = Math.max(gate.closedUntilMs, gate.nextMs);
        if (atMs > nowMs) {
          this.refusedBy = `${gate.by} (${gate.kind} ${gate.value} at ${site})`;
          return Math.ceil(atMs);
        }
        if (gate.messagesPerS > 0) taken.push(gate);
      }
    for (const gate of taken) gate.nextMs = Math.max(nowMs, gate.nextMs) + 1000 / gate.messagesPerS;
    return 0;
  }
}
