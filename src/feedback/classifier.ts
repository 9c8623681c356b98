/**
 * What a refusal means. The text is searched once for the tokens of all rules; of the rules that match, the first one
 * counts. What was asked before is remembered. No rule as shipped bounces a 4xx; what no rule knows goes by its first
 * digit.
 */
import type { Verdict } from '../mail/verdict.ts';
import type { ReplyRule, ReplyRules } from './compiled-rules.ts';
import { enhancedNumber, within } from './conditions.ts';
import type { Expression, Pattern } from './pattern.ts';
import { squashed } from './reply-text.ts';
import { TokenFinder } from './token-finder.ts';

const REMEMBERED = 4096;

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

/** What a token in the text says: its rule matches, or one of the sets of an expression is in the text. */
interface Hint {
  token: string;
  rule: number;
  tried: Tried | null;
  set: number;
}

/** An expression, and which of its sets of tokens were found. */
interface Tried {
  rule: number;
  compiled: Expression['compiled'];
  /** A bit for each set; all of them, and those found in the text of this number. */
  all: number;
  found: number;
  textNumber: number;
}

export class ReplyClassifier {
  readonly #rules: readonly ReplyRule[];
  readonly #verdicts: readonly Verdicts[];
  readonly #providers: ReadonlyMap<string, string>;
  readonly #known: ReadonlySet<string>;
  readonly #finder: TokenFinder;
  readonly #hints: readonly Hint[];
  /** Rules without pattern, in order. */
  readonly #always: readonly number[];
  /** Verdicts by reply, and those of before: what was asked since stays when the older half goes. */
  #recent = new Map<string, Verdict>();
  #older = new Map<string, Verdict>();

  // The reply being judged: fields, so that nothing is made for each token that is found.
  #text = '';
  #texts = 0;
  #code = 0;
  #enhanced = 0;
  #provider = '';
  #first = 0;
  /** Expressions that may match. */
  readonly #candidates: Tried[] = [];

  constructor({ rules, providers }: ReplyRules) {
    this.#rules = rules;
    this.#providers = providers;
    this.#known = new Set([...providers.values(), ...rules.map(({ provider }) => provider)]);
    this.#verdicts = rules.map(verdictsOf);
    const hints = rules.flatMap(({ pattern }, rule) => hintsOf(pattern, rule));
    this.#finder = new TokenFinder(hints.map(({ token }) => token));
    this.#hints = hints;
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
    this.#text = text;
    this.#texts++;
    this.#code = code;
    this.#enhanced = numberOf(enhanced) || numberWithin(text, code);
    this.#provider = provider;
    this.#first = this.#rules.length;
    this.#candidates.length = 0;
    this.#finder.find(text, this.#consider);
    this.#tryCandidates();
    for (const rule of this.#always) {
      if (rule >= this.#first) break;
      if (this.#admits(rule)) this.#first = rule;
    }
    return this.#verdicts[this.#first] ?? UNKNOWN;
  }

  readonly #consider = (token: number): void => {
    const { rule, tried, set } = this.#hints[token] as Hint;
    if (rule >= this.#first || !this.#admits(rule)) return;
    if (tried !== null) {
      if (tried.textNumber !== this.#texts) {
        tried.textNumber = this.#texts;
        tried.found = 0;
      }
      // The last of its sets to be found makes it a candidate, once.
      const before = tried.found;
      tried.found |= set;
      if (tried.found === tried.all && before !== tried.all) this.#candidates.push(tried);
      return;
    }
    this.#first = rule;
  };

  /** An expression is dear: of those that could match, the first in the order of rules goes first, and may be the last. */
  #tryCandidates(): void {
    const candidates = this.#candidates;
    if (candidates.length > 1) candidates.sort(byRule);
    for (const { rule, compiled } of candidates) {
      if (rule >= this.#first) return;
      if (compiled.test(this.#text)) this.#first = rule;
    }
  }

  #admits(index: number): boolean {
    const { provider, codes, enhanced } = this.#rules[index] as ReplyRule;
    return (
      (provider === '' || provider === this.#provider) &&
      within(codes, this.#code) &&
      within(enhanced, this.#enhanced)
    );
  }
}

const byRule = (a: Tried, b: Tried): number => a.rule - b.rule;

function hintsOf(pattern: Pattern | null, rule: number): Hint[] {
  if (pattern === null) return [];
  const plain = pattern.plain.map((token) => ({ token, rule, tried: null, set: 0 }));
  const tried = pattern.expressions.flatMap(({ tokens, compiled }) => {
    const one: Tried = { rule, compiled, all: 2 ** tokens.length - 1, found: 0, textNumber: 0 };
    return tokens.flatMap((set, i) => set.map((token) => ({ token, rule, tried: one, set: 2 ** i })));
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
