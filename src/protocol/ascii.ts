/** Character classes of the SMTP grammar as one table of bits, so that a scan is an index and a mask per character. */

export const CHAR = {
  /** atext of RFC 5322 §3.2.3. */
  atext: 1,
  letDig: 2,
  /** Let-dig or hyphen. */
  ldh: 4,
  /** qtextSMTP: printable or space, but no quote and no backslash. */
  qtext: 8,
  /** Printable or space: what a backslash may quote. */
  printable: 16,
  /** esmtp-value without '=': graphic characters. */
  paramValue: 32,
  /** dcontent: graphic characters except brackets and backslash. */
  dcontent: 64,
  digit: 128,
} as const;

const table = new Uint8Array(128);
for (let code = 0x20; code < 0x7f; code++) {
  const char = String.fromCharCode(code);
  const alnum = /[A-Za-z0-9]/.test(char);
  let bits: number = CHAR.printable;
  if (alnum || "!#$%&'*+-/=?^_`{|}~".includes(char)) bits |= CHAR.atext;
  if (alnum) bits |= CHAR.letDig;
  if (alnum || char === '-') bits |= CHAR.ldh;
  if (char !== '"' && char !== '\\') bits |= CHAR.qtext;
  if (char !== ' ' && char !== '=') bits |= CHAR.paramValue;
  if (!' []\\'.includes(char)) bits |= CHAR.dcontent;
  if (char >= '0' && char <= '9') bits |= CHAR.digit;
  table[code] = bits;
}

/** Whether the character belongs to the class; codes of 128 and above and NaN (past the end of a string) never do. */
export function isClass(code: number, bit: number): boolean {
  return code < 128 && ((table[code] as number) & bit) !== 0;
}
