/**
 * What a refusal means. The text is searched once for the tokens of all rules; of the rules that match, the first one
 * counts. What was asked before is remembered. No rule as shipped bounces a 4xx; what no rule knows goes by its first
 * digit.
 */
import type { Verdict } from '../mail/verdict.ts';
import type { ReplyRule, ReplyRules } from './compiled-rules.ts';
import { enhancedNumber, within } from './conditions.ts';
import type { Expression, Pattern } from './pattern.ts';
import { MAX_TEXT, squashed } from './reply-text.ts';
import { TokenFinder } from './token-finder.ts';

const REMEMBERED = 4096;
/** Kinds of replies that are remembered. */
const MAX_KINDS = 512;
/** Numbers of enhanced codes are below. */
const ENHANCED_END = 10_000_000;

export interface Refusal {
  /** 400…599 */
  code: number;
  /** '5.1.1', or '' where the peer gave none. */
  enhanced: string;
  /** All lines, without the codes. */
  text: string;
}

/** What a rule says of a 4xx and of a 5xx. */
type Verdicts = readonly [temporary: Verdict, permanent: Verdict];

const UNKNOWN: Verdicts = [
  { class: 'unknown', scope: 'message', move: 'retry_later', rule: null },
  { class: 'unknown', scope: 'message', move: 'bounce', rule: null },
];

/** Replies with one provider, code and enhanced code. */
interface Kind {
  /** 1 for each rule that they may match. */
  admitted: Uint8Array;
  /** The first of them that asks for no text. */
  always: number;
}

/** What a token in the text says: its rule matches, or one of the sets of an expression is in the text. */
interface Hint {
  token: string;
  rule: number;
  tried: Tried | null;
  /** Which of its sets. */
  set: number;
  /** See TokenSet. */
  maxGap: number;
}

/** An expression, and how many of its sets of tokens were found so far, one behind the other. */
interface Tried {
  rule: number;
  compiled: Expression['compiled'];
  sets: number;
  found: number;
  /** Where one of each set ended last. */
  ends: Int32Array;
  textNumber: number;
}

export class ReplyClassifier {
  readonly #rules: readonly ReplyRule[];
  readonly #verdicts: readonly Verdicts[];
  readonly #providers: ReadonlyMap<string, string>;
  readonly #known: ReadonlySet<string>;
  readonly #finder: TokenFinder;
  readonly #hints: readonly Hint[];
  /** The rule of each. */
  readonly #ruleOf: Uint16Array;
  /** Rules without pattern, in order. */
  readonly #always: readonly number[];
  readonly #providerNumbers = new Map<string, number>();
  readonly #kinds = new Map<number, Kind>();
  /** Verdicts by reply, and those of before: what was asked since stays when the older half goes. */
  #recent = new Map<string, Verdict>();
  #older = new Map<string, Verdict>();

  // The reply being judged: fields, so that nothing is made for each token that is found.
  #text = '';
  #texts = 0;
  #first = 0;
  /** Most octets that a character has. */
  #octetsOfOne = 1;
  /** Expressions that may match. */
  readonly #candidates: Tried[] = [];

  constructor({ rules, providers }: ReplyRules) {
    this.#rules = rules;
    this.#providers = providers;
    this.#known = new Set([...providers.values(), ...rules.map(({ provider }) => provider)]);
    this.#verdicts = rules.map(verdictsOf);
    const hints = rules.flatMap(({ pattern }, rule) => hintsOf(pattern, rule));
    this.#finder = new TokenFinder(
      hints.map(({ token }) => token),
      2 * MAX_TEXT,
    );
    this.#hints = hints;
    this.#ruleOf = Uint16Array.from(hints, ({ rule }) => rule);
    for (const { provider } of rules)
      if (provider !== '' && !this.#providerNumbers.has(provider))
        this.#providerNumbers.set(provider, this.#providerNumbers.size + 1);
    this.#always = rules.flatMap(({ pattern }, i) => (pattern === null ? [i] : []));
  }

  /** The provider that a host belongs to by the end of its name; '' where none is known. */
  providerOf(mxHost: string): string {
    let name = mxHost.toLowerCase();
    if (name.endsWith('.')) name = name.slice(0, -1);
    for (;;) {
      const provider = this.#providers.get(name);
      if (provider !== undefined) return provider;
      const dot = name.indexOf('.');
      if (dot < 0) return '';
      name = name.slice(dot + 1);
    }
  }

  /** @param named what the shaping data call the provider of the host. It counts where rules know that name; else the end of the host's. */
  providerFor(named: string, mxHost: string): string {
    return this.knows(named) ? named : this.providerOf(mxHost);
  }

  /** Whether a host or a rule is said to be this provider's. */
  knows(provider: string): boolean {
    return provider !== '' && this.#known.has(provider);
  }

  /** @param provider '' where it is not known. */
  classify(refusal: Refusal, provider: string): Verdict {
    const text = squashed(refusal.text);
    const key = `${provider} ${refusal.code} ${refusal.enhanced}${text}`;
    const recent = this.#recent.get(key);
    if (recent !== undefined) return recent;
    const verdict =
      this.#older.get(key) ?? this.#verdictsOn(refusal, text, provider)[refusal.code < 500 ? 0 : 1];
    if (this.#recent.size >= REMEMBERED / 2) {
      this.#older = this.#recent;
      this.#recent = new Map();
    }
    this.#recent.set(key, verdict);
    return verdict;
  }

  #verdictsOn({ code, enhanced }: Refusal, text: string, provider: string): Verdicts {
    const { admitted, always } = this.#kindOf(provider, code, numberOf(enhanced) || numberWithin(text, code));
    this.#text = text;
    this.#texts++;
    this.#first = always;
    this.#candidates.length = 0;
    const found = this.#finder.find(text);
    this.#octetsOfOne = this.#finder.count === text.length ? 1 : 4;
    const { tokens, places } = this.#finder;
    const ruleOf = this.#ruleOf;
    for (let i = 0; i < found; i++) {
      const token = tokens[i] as number;
      const rule = ruleOf[token] as number;
      if (rule < this.#first && admitted[rule] === 1) this.#consider(token, places[i] as number);
    }
    this.#tryCandidates();
    return this.#verdicts[this.#first] ?? UNKNOWN;
  }

  #consider(token: number, at: number): void {
    const { tried, set, rule, maxGap, token: text } = this.#hints[token] as Hint;
    if (tried === null) {
      this.#first = rule;
      return;
    }
    if (tried.textNumber !== this.#texts) {
      tried.textNumber = this.#texts;
      tried.found = 0;
    }
    // Those before it stand before it, and not too far away.
    if (set > tried.found) return;
    if (set > 0 && at - text.length - (tried.ends[set - 1] as number) > maxGap * this.#octetsOfOne) return;
    tried.ends[set] = at;
    if (set < tried.found) return;
    tried.found++;
    if (tried.found === tried.sets) this.#candidates.push(tried);
  }

  /** An expression is dear: of those that could match, the first in the order of rules goes first, and may be the last. */
  #tryCandidates(): void {
    const candidates = this.#candidates;
    if (candidates.length > 1) candidates.sort(byRule);
    for (const { rule, compiled } of candidates) {
      if (rule >= this.#first) return;
      if (compiled.test(this.#text)) this.#first = rule;
    }
  }

  /** Which rules a reply of this kind may match. */
  #kindOf(provider: string, code: number, enhanced: number): Kind {
    const key = ((this.#providerNumbers.get(provider) ?? 0) * 1000 + code) * ENHANCED_END + enhanced;
    const known = this.#kinds.get(key);
    if (known !== undefined) return known;
    const admitted = Uint8Array.from(this.#rules, (rule) =>
      (rule.provider === '' || rule.provider === provider) &&
      within(rule.codes, code) &&
      within(rule.enhanced, enhanced)
        ? 1
        : 0,
    );
    const always = this.#always.find((rule) => admitted[rule] === 1) ?? this.#rules.length;
    if (this.#kinds.size === MAX_KINDS) this.#kinds.clear();
    const kind = { admitted, always };
    this.#kinds.set(key, kind);
    return kind;
  }
}

const byRule = (a: Tried, b: Tried): number => a.rule - b.rule;

function hintsOf(pattern: Pattern | null, rule: number): Hint[] {
  if (pattern === null) return [];
  const plain = pattern.plain.map((token) => ({ token, rule, tried: null, set: 0, maxGap: 0 }));
  const tried = pattern.expressions.flatMap(({ tokens, compiled }) => {
    const one: Tried = {
      rule,
      compiled,
      sets: tokens.length,
      found: 0,
      ends: new Int32Array(tokens.length),
      textNumber: 0,
    };
    return tokens.flatMap(({ texts, maxGap }, set) =>
      texts.map((token) => ({ token, rule, tried: one, set, maxGap })),
    );
  });
  return [...plain, ...tried];
}

function verdictsOf({
  class: replyClass,
  scope,
  move,
  isDeferred,
  bouncesTemporary,
  id,
}: ReplyRule): Verdicts {
  const common = { class: replyClass, scope, rule: id };
  const bounces = move === 'bounce';
  const deferred = bounces || move === 'slow_down' ? 'retry_later' : move;
  return [
    { ...common, move: bounces && !bouncesTemporary ? 'retry_later' : move },
    { ...common, move: isDeferred ? deferred : 'bounce' },
  ];
}

/** '5.1.1' as a number; 0: none. */
function numberOf(enhanced: string): number {
  const first = enhanced.indexOf('.');
  const second = enhanced.indexOf('.', first + 1);
  if (first !== 1 || second < 0) return 0;
  const subject = Number(enhanced.slice(2, second));
  return enhancedNumber(Number(enhanced[0]), subject, Number(enhanced.slice(second + 1))) || 0;
}

const MARKED = /#([45])\.(\d{1,3})\.(\d{1,3})\b/;

/** Some write it behind the text: (#5.1.1). It counts where it is of the class of the code. */
function numberWithin(text: string, code: number): number {
  const match = text.includes('#') ? MARKED.exec(text) : null;
  if (match === null || Number(match[1]) !== Math.floor(code / 100)) return 0;
  return enhancedNumber(Number(match[1]), Number(match[2]), Number(match[3]));
}
