/** A failure that a report tells of, and how what hosts said is taken apart. Pure. */

const MAX_ADDRESSES = 10;
const MAX_TEXT_LENGTH = 1000;

export interface Failure {
  /** Whom it is about: the address as it was first known, then what others made of it. */
  addresses: string[];
  /** 400…599 */
  code: number;
  /** Enhanced status; '' for none. */
  enhanced: string;
  /** What the host said, or the program that wrote the report. */
  text: string;
  /** Who said it; '' where that is not known. */
  host: string;
}

/** Code, enhanced code and text of what a host said. @param status what the report says besides. */
export function refusalIn(said: string, status: string): Pick<Failure, 'code' | 'enhanced' | 'text'> {
  const [start = '', code, inText] =
    /^[^0-9]{0,40}\b([45]\d\d)[ -](?:([45]\.\d{1,3}\.\d{1,3})[ -]?)?/.exec(said) ?? [];
  const enhanced = inText ?? /\b[45]\.\d{1,3}\.\d{1,3}\b/.exec(said.slice(0, MAX_TEXT_LENGTH))?.[0] ?? status;
  return {
    code: code === undefined ? (enhanced.startsWith('4') ? 450 : 550) : Number(code),
    enhanced,
    text: said.slice(start.length).trim().slice(0, MAX_TEXT_LENGTH),
  };
}

/** The first addresses in a text. */
export function addressesIn(text: string): string[] {
  const found = new Set<string>();
  for (const [address] of text.slice(0, 16_384).matchAll(/[^\s<>,;:"()]{1,64}@[^\s<>,;:"()@]{1,255}/g)) {
    found.add(address);
    if (found.size >= MAX_ADDRESSES) break;
  }
  return [...found];
}
