/**
 * Signs messages before they are attempted, in a delivery thread: finds the author's domain and its keys, hands the work to
 * the threads of the addon, and gives back what they made, once per loop turn. Bounded by what the scheduler hands over.
 */
import { domainOf } from '../base/domain.ts';
import { NOTIFY } from '../mail/envelope.ts';
import type { Job } from '../mail/job.ts';
import { type Arena, type SignedFields, Signer, signedFields } from '../native.ts';
import { fromDomains } from './from-domains.ts';
import { headerSection } from './header-section.ts';
import { chooseKeys, type SigningTable } from './table.ts';

/** What becomes of a message: it goes out, with these header fields before it, or not. */
export type Verdict = { kind: 'go'; fields: string } | { kind: 'defer' | 'bounce'; detail: string };

/** @template A an attempt of the message. */
export interface SigningDeskPorts<A> {
  arena: Arena;
  /** The time of day. */
  now(): number;
  /** Messages that `take` kept. */
  done(signed: { attempt: A; verdict: Verdict }[]): void;
}

const UNSIGNED: Verdict = { kind: 'go', fields: '' };
/** Says that a failure is of reading: no setting makes mail go out whose content cannot be read. */
const UNREADABLE = 'the content cannot be read';

export class SigningDesk<A extends { readonly job: Job }> {
  readonly #ports: SigningDeskPorts<A>;
  #table: SigningTable | null = null;
  #fields: SignedFields | null = null;
  #signer: Signer | null = null;
  #ticket = 0;
  readonly #waiting = new Map<number, A>();

  constructor(ports: SigningDeskPorts<A>) {
    this.#ports = ports;
  }

  /** @param table null: nothing is signed. */
  use(table: SigningTable | null): void {
    this.#table = table;
    this.#fields = table === null ? null : signedFields(table.signHeaders, table.oversignHeaders);
    if (table !== null) this.#signer ??= new Signer(this.#ports.arena, (results) => this.#done(results));
  }

  /** @returns at once what becomes of the message; null: `done` says it later, after `flush`. */
  take(attempt: A): Verdict | null {
    const table = this.#table;
    if (table === null || this.#fields === null) return UNSIGNED;
    const { job } = attempt;
    // Whoever had no right to relay may name any author: we do not vouch for that.
    if (job.recipients.some(({ notify }) => (notify & NOTIFY.stranger) !== 0)) return UNSIGNED;
    let header: string;
    try {
      header = headerSection(this.#ports.arena, job);
    } catch (error) {
      return { kind: 'defer', detail: `${UNREADABLE}: ${(error as NodeJS.ErrnoException).code ?? error}` };
    }
    const from = fromDomains(header);
    // Without an author it is that of its reverse-path: mail of others is not ours to judge.
    const authors = 'fault' in from ? [domainOf(job.reversePath)] : from.domains;
    const { slots, fault } = chooseKeys(table, authors);
    if ('fault' in from) return slots.length === 0 && fault === '' ? UNSIGNED : this.#unsigned(from.fault);
    if (slots.length === 0 || (fault !== '' && table.onError !== 'send'))
      return fault === '' ? UNSIGNED : this.#unsigned(fault);
    const signedAt = Math.floor(this.#ports.now() / 1000);
    const ticket = this.#newTicket();
    const taken = this.#signer?.add({
      ticket,
      content: job.content,
      before: job.trace,
      slots,
      fields: this.#fields,
      signedAt,
      expiresAt: table.expireS === 0 ? 0 : signedAt + table.expireS,
    });
    if (taken !== true) return { kind: 'defer', detail: 'its key was taken out of the config a moment ago' };
    this.#waiting.set(ticket, attempt);
    return null;
  }

  /** Begins what was taken. */
  flush(): void {
    this.#signer?.flush();
  }

  /** Takes out messages that wait for their signature. */
  takeBack(isMeant: (job: Job) => boolean): A[] {
    const taken: A[] = [];
    for (const [ticket, attempt] of this.#waiting)
      if (isMeant(attempt.job)) {
        this.#waiting.delete(ticket);
        taken.push(attempt);
      }
    return taken;
  }

  close(): void {
    this.#signer?.close();
    this.#signer = null;
    this.#table = null;
  }

  #newTicket(): number {
    do this.#ticket = (this.#ticket + 1) >>> 0;
    while (this.#waiting.has(this.#ticket));
    return this.#ticket;
  }

  #unsigned(fault: string): Verdict {
    const onError = this.#table?.onError ?? 'defer';
    return onError === 'send' ? UNSIGNED : { kind: onError, detail: fault };
  }

  #done(results: (number | string)[]): void {
    const signed: { attempt: A; verdict: Verdict }[] = [];
    for (let i = 0; i < results.length; i += 3) {
      const ticket = results[i] as number;
      const attempt = this.#waiting.get(ticket);
      if (attempt === undefined) continue;
      this.#waiting.delete(ticket);
      const fault = results[i + 2] as string;
      const verdict: Verdict =
        fault === ''
          ? { kind: 'go', fields: results[i + 1] as string }
          : fault.startsWith(UNREADABLE)
            ? { kind: 'defer', detail: fault }
            : this.#unsigned(fault);
      signed.push({ attempt, verdict });
    }
    if (signed.length > 0) this.#ports.done(signed);
  }
}
