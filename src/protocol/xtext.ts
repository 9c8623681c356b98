/** xtext of RFC 3461 §4: graphic ASCII, where '+' and two upper-case hexadecimal digits stand for any other octet. */
const XTEXT = /^(?:[!-*,-<>-~]|\+[0-9A-F]{2})*$/;

export function isXtext(text: string): boolean {
  return XTEXT.test(text);
}

/** Decodes valid xtext; octets become characters of the same code (Latin-1). */
export function decodeXtext(text: string): string {
  return text.includes('+')
    ? text.replace(/\+([0-9A-F]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
    : text;
}
