/**
 * What a delivery thread knows of replies: the rules, made ready when the first refusal comes (that takes some tens of
 * milliseconds, and many a thread meets none), and the refusals that no rule knows, counted. The texts were checked before.
 * Should they be wrong nevertheless, the rules before stay, else those of the installation, and that is said.
 */
import type { PeerReply } from '../mail/outcome.ts';
import type { UnknownReply } from '../mail/unknown-reply.ts';
import type { Verdict } from '../mail/verdict.ts';
import { ReplyClassifier } from './classifier.ts';
import { compileRules } from './compiled-rules.ts';
import type { RulesText } from './rules-text.ts';
import { UnknownReplies } from './unknown-replies.ts';

export class ThreadReplies {
  #texts: readonly RulesText[];
  #classifier: ReplyClassifier | null = null;
  /** Whether rules came since it was made. */
  #isStale = true;
  readonly #failed: (error: unknown) => void;
  readonly #providerOf: (host: string) => string;
  readonly #unknown: UnknownReplies;
  readonly #counted = new WeakSet<PeerReply>();

  /**
   * @param failed is told when the rules are wrong.
   * @param providerOf what the shaping data call the provider of a host; '' for none.
   */
  constructor(
    texts: readonly RulesText[],
    kept: number,
    failed: (error: unknown) => void,
    providerOf: (host: string) => string = () => '',
  ) {
    this.#providerOf = providerOf;
    this.#texts = texts;
    this.#failed = failed;
    this.#unknown = new UnknownReplies(kept);
  }

  /** Takes the rules of a reload. @param texts null: those before stay. */
  reconfigure(texts: readonly RulesText[] | null, kept: number): void {
    this.#unknown.keep(kept);
    if (texts === null) return;
    this.#texts = texts;
    this.#isStale = true;
  }

  /** What a 4xx or 5xx of a host means. */
  classify(reply: PeerReply): Verdict {
    const classifier = this.#current();
    const { host } = reply.peer;
    const provider = classifier.providerFor(this.#providerOf(host), host);
    const verdict = classifier.classify(reply, provider);
    // A session may ask of one reply several times.
    if (verdict.class === 'unknown' && !this.#counted.has(reply)) {
      this.#counted.add(reply);
      this.#unknown.add(reply, provider);
    }
    return verdict;
  }

  unknown(): UnknownReply[] {
    return this.#unknown.list();
  }

  #current(): ReplyClassifier {
    if (this.#isStale || this.#classifier === null) {
      this.#isStale = false;
      this.#classifier = this.#made(this.#texts) ?? this.#classifier ?? this.#withoutOwn();
    }
    return this.#classifier;
  }

  #withoutOwn(): ReplyClassifier {
    const shipped = this.#texts.filter(({ isOwn }) => !isOwn);
    const isLess = shipped.length < this.#texts.length;
    return (isLess ? this.#made(shipped) : null) ?? new ReplyClassifier({ providers: new Map(), rules: [] });
  }

  /** null: they are wrong. */
  #made(texts: readonly RulesText[]): ReplyClassifier | null {
    try {
      return new ReplyClassifier(compileRules(texts));
    } catch (error) {
      this.#failed(error);
      return null;
    }
  }
}
