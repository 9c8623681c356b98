/**
 * Which events an operator asks for. Several values of one option are alternatives; several options all hold. What a
 * value says without wildcards is looked for in the text first, so that most of what is not asked for is never parsed.
 */
import { domainKey, domainOf } from '../base/domain.ts';
import { globOf, literalOf } from '../base/glob.ts';
import type { ReadEvent } from '../report/event-text.ts';

export interface EventFilterOptions {
  id?: string[];
  type?: string[];
  sender?: string[];
  recipient?: string[];
  destination?: string[];
  domain?: string[];
  status?: string[];
  /** RFC 3339, in UTC with milliseconds. */
  since?: string;
  until?: string;
}

type Test = (event: ReadEvent) => boolean;

export class EventFilter {
  readonly since: string;
  readonly until: string;
  readonly #tests: Test[] = [];
  /** Of each group one stands in every line that is asked for. */
  readonly #needles: string[][] = [];

  constructor(options: EventFilterOptions) {
    this.since = options.since ?? '';
    this.until = options.until ?? '~';
    this.#match(options.id, (event) => [event.queue_id, event.original_queue_id]);
    this.#match(options.type, (event) => [event.type]);
    this.#match(options.sender, (event) => [event.sender]);
    this.#match(options.recipient, (event) => [event.recipient]);
    this.#match(options.destination, (event) => [event.destination]);
    this.#match(options.domain?.map(domainPattern), ({ recipient }) =>
      typeof recipient === 'string' ? [domainKey(domainOf(recipient))] : [],
    );
    this.#match(options.status, (event) => [event.status]);
    this.#seek(options.id, (text) => text);
    this.#seek(options.type, (text) => `"type":"${text}"`);
    this.#seek(options.status, (text) => `"status":"${text}"`);
  }

  /** Whether lines have to be parsed to be judged. */
  get looksInside(): boolean {
    return this.#tests.length > 0;
  }

  /** Whether the text may hold a line that is asked for. */
  mayHold(text: string): boolean {
    return this.#needles.every((group) => group.some((needle) => text.includes(needle)));
  }

  isInTime(time: string): boolean {
    return time >= this.since && time <= this.until;
  }

  accepts(event: ReadEvent): boolean {
    return this.#tests.every((test) => test(event));
  }

  #match(patterns: readonly string[] | undefined, valuesOf: (event: ReadEvent) => unknown[]): void {
    if (patterns === undefined) return;
    const globs = patterns.map(globOf);
    this.#tests.push((event) =>
      valuesOf(event).some((value) => typeof value === 'string' && globs.some((matches) => matches(value))),
    );
  }

  /** These fields are in lower case and never escaped, so they stand in the file as they are asked for. */
  #seek(patterns: readonly string[] | undefined, needleOf: (text: string) => string): void {
    if (patterns === undefined) return;
    const literals = patterns.map(literalOf);
    if (literals.every((one) => one !== null)) this.#needles.push(literals.map(needleOf));
  }
}

/** A domain in any spelling; one with wildcards as it is. */
const domainPattern = (text: string): string => (literalOf(text) === null ? text : domainKey(text));
