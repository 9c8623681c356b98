/** Events of the past as facts for rules and the adaptive control: one for each attempt, however many recipients share it. */
import type { ReplyClassifier } from '../feedback/classifier.ts';
import { CLASSES, type Verdict } from '../mail/verdict.ts';
import { timeOf } from '../report/event-reader.ts';
import { Providers } from '../shaping/providers.ts';
import type { Fact } from '../shaping/rules/matcher.ts';
import type { ShapingData } from '../shaping/shaping-data.ts';

const REPLY = /^([245]\d\d) (?:([245]\.\d{1,3}\.\d{1,3}) )?([\s\S]*)$/;
/** The only types that tell of an attempt. */
const ATTEMPT = /^\{"type":"(?:delivered|deferred|bounced|expired)"/;

/** What events say by address and host, and rules by name. */
export interface ReplayedNames {
  sources: readonly { name: string; address?: string | undefined }[];
  providers: ShapingData['providers'];
}

export class FactReader {
  damaged = 0;
  firstMs: number | null = null;
  lastMs: number | null = null;
  readonly #classifier: ReplyClassifier;
  readonly #providers: Providers;
  readonly #sources: ReadonlyMap<string, string>;
  readonly #since: string;
  readonly #until: string;
  #last = '';

  private constructor(classifier: ReplyClassifier, names: ReplayedNames, since = '', until = '~') {
    this.#classifier = classifier;
    this.#providers = new Providers(names.providers);
    this.#sources = new Map(names.sources.map(({ name, address = '' }) => [address, name]));
    this.#since = since;
    this.#until = until;
  }

  static async open(
    names: ReplayedNames,
    since: string | undefined,
    until: string | undefined,
  ): Promise<FactReader> {
    const { ReplyClassifier } = await import('../feedback/classifier.ts');
    const { compileRules } = await import('../feedback/compiled-rules.ts');
    const { readRulesTexts } = await import('../feedback/rules-text.ts');
    const classifier = new ReplyClassifier(compileRules(readRulesTexts('')));
    return new FactReader(classifier, names, since, until);
  }

  /** @returns null for lines that tell of no attempt, or of one that was told already. */
  read(line: string): { fact: Fact; sentMs: number } | null {
    if (!ATTEMPT.test(line)) {
      if (line !== '' && !line.startsWith('{"type":"')) this.damaged++;
      return null;
    }
    const time = timeOf(line);
    if (time < this.#since || time > this.#until) return null;
    let event: Record<string, unknown>;
    try {
      event = JSON.parse(line);
    } catch {
      this.damaged++;
      return null;
    }
    const atMs = Date.parse(time);
    if (Number.isNaN(atMs)) {
      this.damaged++;
      return null;
    }
    this.firstMs ??= atMs;
    this.lastMs = atMs;
    const same = `${event.queue_id} ${event.attempt} ${event.type} ${event.destination}`;
    if (same === this.#last) return null;
    this.#last = same;
    return { fact: this.#factOf(event, atMs), sentMs: atMs - numberOf(event.transfer_ms) };
  }

  #factOf(event: Record<string, unknown>, atMs: number): Fact {
    const [, code = '0', enhanced = '', text = ''] = REPLY.exec(textOf(event.reply)) ?? [];
    const host = textOf(event.peer_host);
    const destination = textOf(event.destination);
    const provider = this.#providers.of(host === '' ? [] : [host], destination)?.name ?? '';
    const isDelivered = event.type === 'delivered';
    const verdict =
      isDelivered || code < '4'
        ? null
        : this.#verdict(event, { code: Number(code), enhanced, text }, provider);
    const sender = textOf(event.sender);
    return {
      atMs,
      isDelivered,
      code: Number(code),
      enhanced,
      reply: textOf(event.reply),
      class: verdict?.class ?? '',
      scope: verdict?.scope ?? '',
      site: provider || destination,
      source: this.#sources.get(textOf(event.source_address)) ?? '',
      tenant: textOf(event.tenant),
      campaign: textOf(event.campaign),
      fromDomain: sender.slice(sender.lastIndexOf('@') + 1).toLowerCase(),
      messages: 1,
    };
  }

  #verdict(
    event: Record<string, unknown>,
    refusal: { code: number; enhanced: string; text: string },
    provider: string,
  ): Pick<Verdict, 'class'> & { scope: string } {
    const known = textOf(event.class) as (typeof CLASSES)[number];
    if (CLASSES.includes(known)) return { class: known, scope: textOf(event.scope) };
    return this.#classifier.classify(
      refusal,
      this.#classifier.providerFor(provider, textOf(event.peer_host)),
    );
  }
}

const textOf = (value: unknown): string => (typeof value === 'string' ? value : '');
const numberOf = (value: unknown): number => (typeof value === 'number' && value >= 0 ? value : 0);
