/**
 * Secrets that must not stand in replies that are kept: peers quote what they did not expect, decoded or as it came.
 */

/** So many characters of its beginning are enough to recognize a secret that was cut off. */
const RECOGNIZED_LENGTH = 8;

export class Secrets {
  #texts: string[] = [];
  /** Those of them in Base64, each with a pattern of its beginning: nothing else begins like one. */
  #encoded: [text: string, head: RegExp][] = [];
  #any: RegExp | null = null;

  /** Adds a password or token: as it is, and in Base64. */
  add(secret: string): void {
    this.addText(secret);
    this.addBase64(Buffer.from(secret).toString('base64'));
  }

  /** A text in Base64: the beginning of it is hidden wherever it stands, since peers cut it short and leave its '=' out. */
  addBase64(text: string): void {
    this.addText(text);
    if (text.length > RECOGNIZED_LENGTH)
      this.#encoded.push([text, new RegExp(literal(text.slice(0, RECOGNIZED_LENGTH)), 'gi')]);
  }

  /** Adds a text as it is. */
  addText(text: string): void {
    if (text === '' || this.#texts.includes(text)) return;
    // The longest first, because one may be part of another.
    this.#texts = [...this.#texts, text].sort((a, b) => b.length - a.length);
    this.#any = new RegExp(this.#texts.map(literal).join('|'), 'gi');
  }

  /** A line of the peer, with '…' in place of each secret. */
  hide(line: string): string {
    if (this.#any === null) return line;
    let shown = line.replace(this.#any, '…');
    for (const [text, head] of this.#encoded) shown = withoutBeginning(shown, text, head);
    for (const text of this.#texts) {
      if (text.length <= RECOGNIZED_LENGTH) continue;
      const at = shown.lastIndexOf(text.slice(0, RECOGNIZED_LENGTH));
      if (at >= 0 && text.startsWith(shown.slice(at))) shown = `${shown.slice(0, at)}…`;
    }
    return shown;
  }
}

/** A pattern that only the text itself matches. */
function literal(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&');
}

/** The line with '…' wherever the text begins, as far as it goes. */
function withoutBeginning(line: string, text: string, head: RegExp): string {
  let shown = '';
  let from = 0;
  for (const { index } of line.matchAll(head)) {
    if (index < from) continue;
    let length = RECOGNIZED_LENGTH;
    while (length < text.length && line[index + length]?.toLowerCase() === text[length]?.toLowerCase())
      length++;
    shown += `${line.slice(from, index)}…`;
    from = index + length;
  }
  return from === 0 ? line : shown + line.slice(from);
}
