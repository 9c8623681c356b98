/**
 * Tells the controller what came of attempts: for each source and site how many messages were answered, gathered over a batch,
 * and each refusal by rate with the key that it is about. Attempts to hosts that belong to no site are passed over.
 */
import type { AttemptResult } from '../../mail/job.ts';
import type { Outcome, PeerReply } from '../../mail/outcome.ts';
import type { Verdict } from '../../mail/verdict.ts';
import type { AdaptiveController, RateClass } from './controller.ts';
import type { LimitKey } from './keys.ts';
import { keyOfRefusal, narrowKeys } from './scopes.ts';

export interface FeedPorts {
  /** Steady time. */
  now(): number;
  /** Connections that are open, and how many may be at most. */
  connections(key: LimitKey): { open: number; most: number };
  /** The block of addresses that a source is in, '' where that is not known, and the sources in a block. */
  netblockOf(source: string): string;
  sourcesIn(netblock: string): readonly string[];
}

const RATE_CLASSES: Readonly<Record<string, RateClass>> = {
  rate_limit: 'rate_limit',
  connection_limit: 'connection_limit',
  reputation_block: 'reputation_block',
  dnsbl_block: 'dnsbl_block',
};
/** Of a reply in events and log. */
const MAX_REPLY = 300;

interface Refused {
  class: RateClass;
  verdict: Verdict;
  reply: PeerReply;
}

/** Answers of one source at one site, within a batch. */
interface Answered {
  key: LimitKey;
  messages: number;
  accepted: number;
  sentMs: number;
}

export class AdaptiveFeed {
  readonly #controller: AdaptiveController;
  readonly #ports: FeedPorts;
  #gathered: Answered | null = null;

  constructor(controller: AdaptiveController, ports: FeedPorts) {
    this.#controller = controller;
    this.#ports = ports;
  }

  take(results: readonly AttemptResult[]): void {
    const nowMs = this.#ports.now();
    for (const result of results) this.#one(result, nowMs);
    this.#flush(nowMs);
  }

  #one(result: AttemptResult, nowMs: number): void {
    const { site, source = '' } = result;
    if (site === undefined) return;
    let [isAnswered, isAccepted] = [false, false];
    let refused: Refused | null = null;
    for (const { outcome } of result.groups) {
      if (outcome.kind === 'delivered') isAnswered = isAccepted = true;
      else if (outcome.reply !== undefined) {
        isAnswered = true;
        refused ??= refusedBy(outcome, outcome.reply);
      }
    }
    if (!isAnswered) return;
    const { transferMs, connectMs } = result.times;
    const sentMs = nowMs - Math.ceil(transferMs > 0 ? transferMs : connectMs);
    if (refused !== null)
      this.#refused(refused, result, { scope: 'source', value: source, site }, sentMs, nowMs);
    else this.#answered(source, site, result, isAccepted, sentMs, nowMs);
  }

  #answered(
    source: string,
    site: string,
    result: AttemptResult,
    isAccepted: boolean,
    sentMs: number,
    nowMs: number,
  ): void {
    let gathered = this.#gathered;
    if (gathered === null || gathered.key.site !== site || gathered.key.value !== source) {
      this.#flush(nowMs);
      gathered = this.#gathered = {
        key: { scope: 'source', value: source, site },
        messages: 0,
        accepted: 0,
        sentMs: 0,
      };
    }
    gathered.messages++;
    if (isAccepted) {
      gathered.accepted++;
      gathered.sentMs = Math.max(gathered.sentMs, sentMs);
    }
    if (this.#controller.hasNarrow)
      for (const key of narrowKeys(result, this.#ports.netblockOf(source), site))
        this.#controller.answered(key, 1, isAccepted ? 1 : 0, sentMs, Number.POSITIVE_INFINITY, nowMs);
  }

  #flush(nowMs: number): void {
    const gathered = this.#gathered;
    if (gathered === null) return;
    this.#gathered = null;
    const { key, messages, accepted, sentMs } = gathered;
    // How many connections there may be is asked only where they are limited.
    const ceiling = this.#controller.limitsConnections(key)
      ? this.#ports.connections(key).most
      : Number.POSITIVE_INFINITY;
    this.#controller.answered(key, messages, accepted, sentMs, ceiling, nowMs);
  }

  #refused(refused: Refused, result: AttemptResult, source: LimitKey, sentMs: number, nowMs: number): void {
    const { class: kind, verdict, reply } = refused;
    const enhanced = reply.enhanced === '' ? '' : ` ${reply.enhanced}`;
    const text = `${reply.code}${enhanced} ${reply.text.replaceAll('\n', ' ')}`.slice(0, MAX_REPLY);
    const netblock = this.#ports.netblockOf(source.value);
    const key = keyOfRefusal(verdict, kind, result, source, netblock, reply.text);
    if (key === null) return;
    // What was gathered came before, and is what the first cut goes by.
    this.#flush(nowMs);
    const openConnections = kind === 'connection_limit' ? this.#ports.connections(source).open : 0;
    const sources = key.scope === 'netblock' ? this.#ports.sourcesIn(key.value) : [source.value];
    const within = sources.map((value): LimitKey => ({ ...source, value }));
    this.#controller.refused(key, { class: kind, reply: text, sentMs, openConnections, within }, nowMs);
  }
}

function refusedBy(outcome: Exclude<Outcome, { kind: 'delivered' }>, reply: PeerReply): Refused | null {
  const { verdict } = outcome;
  const kind = verdict === undefined ? undefined : RATE_CLASSES[verdict.class];
  return kind === undefined ? null : { class: kind, verdict: verdict as Verdict, reply };
}
