/**
 * SASLprep (RFC 4013) for user names and passwords: the same text typed in different ways compares as equal. ASCII, the
 * usual case, passes at once; the tables of RFC 3454 are written as Unicode properties.
 */

/** Mapped to nothing (RFC 3454 table B.1): soft hyphen, joiners, variation selectors and their like. */
const NOTHING = /\u00ad|\u034f|\u1806|[\u180b-\u180d]|[\u200b-\u200d\u2060\ufeff]|[\ufe00-\ufe0f]/gu;
/** Space characters other than the ASCII one (table C.1.2). */
const SPACES = /[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]/gu;
/** Control, private use, surrogates, non-characters, not plain text, tags (tables C.2 to C.9). */
const PROHIBITED =
  /[\p{Cc}\p{Co}\p{Cs}\p{Noncharacter_Code_Point}\u06dd\u070f\u180e\u200e\u200f\u2028-\u202e\u2060-\u2063\u206a-\u206f\u2ff0-\u2ffb\ufff9-\ufffd\u{1d173}-\u{1d17a}\u{e0001}\u{e0020}-\u{e007f}]/u;
const RIGHT_TO_LEFT = /[\p{Script=Hebrew}\p{Script=Arabic}\p{Script=Syriac}\p{Script=Thaana}]/u;
const LETTER = /\p{L}/u;

/** The prepared text; null when it has characters that no name or password may have. '' stays ''. */
export function saslPrepare(text: string): string | null {
  if (/^[ -~]*$/.test(text)) return text;
  const prepared = text.replace(SPACES, ' ').replace(NOTHING, '').normalize('NFKC');
  if (PROHIBITED.test(prepared)) return null;
  return isBidirectional(prepared) ? prepared : null;
}

/** RFC 3454 §6: right-to-left text stands alone, and begins and ends with itself. */
function isBidirectional(text: string): boolean {
  if (!RIGHT_TO_LEFT.test(text)) return true;
  const characters = [...text];
  if (characters.some((one) => LETTER.test(one) && !RIGHT_TO_LEFT.test(one))) return false;
  return RIGHT_TO_LEFT.test(characters[0] as string) && RIGHT_TO_LEFT.test(characters.at(-1) as string);
}
