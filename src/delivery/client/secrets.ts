/** What a connection must not have in a reply that is kept: peers quote what they did not expect, decoded or as it came. */

/** Of a secret that was cut off at the end of a line so much gives it away. */
const HEAD = 8;

export class Secrets {
  #texts: string[] = [];
  #any: RegExp | null = null;

  /** A password or token: as it is, and in Base64. */
  add(secret: string): void {
    this.addText(secret);
    this.addText(Buffer.from(secret).toString('base64'));
  }

  /** A text as it is. */
  addText(text: string): void {
    if (text === '' || this.#texts.includes(text)) return;
    // The longest first: one may be part of another.
    this.#texts = [...this.#texts, text].sort((a, b) => b.length - a.length);
    const literals = this.#texts.map((one) => one.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&'));
    this.#any = new RegExp(literals.join('|'), 'gi');
  }

  /** One line of the peer, with '…' for each secret in it. */
  hide(line: string): string {
    if (this.#any === null) return line;
    let shown = line.replace(this.#any, '…');
    for (const text of this.#texts) {
      if (text.length <= HEAD) continue;
      const at = shown.lastIndexOf(text.slice(0, HEAD));
      if (at >= 0 && text.startsWith(shown.slice(at))) shown = `${shown.slice(0, at)}…`;
    }
    return shown;
  }
}
