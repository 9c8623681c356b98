/** Where to go on in each of several parts that are gone through side by side, as one text. */
export class PartCursor {
  /** null: all parts are at their beginning. */
  readonly #places: Record<string, unknown> | null;

  /** @param text from `nextOf`; '' to begin. @throws SyntaxError */
  constructor(text: string) {
    this.#places = text === '' ? null : { ...(JSON.parse(text) as object) };
  }

  /** Where to go on in a part: '' at its beginning; null: the part is done. */
  of(part: number): string | null {
    if (this.#places === null) return '';
    const place = Object.hasOwn(this.#places, part) ? this.#places[part] : null;
    return typeof place === 'string' ? place : null;
  }
}

/** The cursor from where each part is to go on; null when all are done. */
export function nextOf(places: readonly (readonly [part: number, next: string | null])[]): string | null {
  const rest = places.filter(([, next]) => next !== null);
  return rest.length === 0 ? null : JSON.stringify(Object.fromEntries(rest));
}
