/**
 * Secrets that must not stand in replies that are kept: peers quote what they did not expect, decoded or as it came.
 */

/** At the end of a line this many characters of a secret are recognized as its beginning, cut off. */
const CUT_OFF_LENGTH = 8;

export class Secrets {
  #texts: string[] = [];
  #any: RegExp | null = null;

  /** Adds a password or token: as it is, and in Base64. */
  add(secret: string): void {
    this.addText(secret);
    this.addText(Buffer.from(secret).toString('base64'));
  }

  /** Adds a text as it is. */
  addText(text: string): void {
    if (text === '' || this.#texts.includes(text)) return;
    // The longest first, because one may be part of another.
    this.#texts = [...this.#texts, text].sort((a, b) => b.length - a.length);
    const literals = this.#texts.map((one) => one.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&'));
    this.#any = new RegExp(literals.join('|'), 'gi');
  }

  /** A line of the peer, with '…' in place of each secret. */
  hide(line: string): string {
    if (this.#any === null) return line;
    let shown = line.replace(this.#any, '…');
    for (const text of this.#texts) {
      if (text.length <= CUT_OFF_LENGTH) continue;
      const at = shown.lastIndexOf(text.slice(0, CUT_OFF_LENGTH));
      if (at >= 0 && text.startsWith(shown.slice(at))) shown = `${shown.slice(0, at)}…`;
    }
    return shown;
  }
}
