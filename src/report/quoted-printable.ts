/** Quoted-printable of RFC 2045 §6.7, for text whose lines end in CRLF. */

const LINE = 76;
const HEX = '0123456789ABCDEF';

export function isAscii(bytes: Uint8Array): boolean {
  for (let i = 0; i < bytes.length; i++) if ((bytes[i] as number) > 127) return false;
  return true;
}

/** Octets of a line without its end (RFC 5321 §4.5.3.1.6, RFC 5322 §2.1.1). */
const MAX_LINE = 998;

/** Whether a 7bit part may hold the bytes (RFC 2045 §2.7): ASCII without NUL, CR and LF only together, no line too long. */
export function isSevenBitText(bytes: Uint8Array): boolean {
  let column = 0;
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i] as number;
    if (byte === 0 || byte > 127 || byte === 0x0a) return false;
    if (byte === 0x0d) {
      if (bytes[++i] !== 0x0a) return false;
      column = 0;
    } else if (++column > MAX_LINE) return false;
  }
  return true;
}

/**
 * Encodes bytes: CRLF stays a line end, and every other octet that is not plain text becomes =XX. Lines have at most
 * 76 characters.
 */
export function quotedPrintable(bytes: Uint8Array): string {
  let text = '';
  let column = 0;
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i] as number;
    if (byte === 0x0d && bytes[i + 1] === 0x0a) {
      text += '\r\n';
      column = 0;
      i++;
      continue;
    }
    const endsLine = i + 1 === bytes.length || (bytes[i + 1] === 0x0d && bytes[i + 2] === 0x0a);
    const space = byte === 0x20 || byte === 0x09;
    const plain = space ? !endsLine : byte > 0x20 && byte < 0x7f && byte !== 0x3d;
    const width = plain ? 1 : 3;
    // The last place of a line belongs to the '=' that breaks it, except before a real line end.
    if (column + width > (endsLine ? LINE : LINE - 1)) {
      text += '=\r\n';
      column = 0;
    }
    text += plain ? String.fromCharCode(byte) : `=${HEX[byte >> 4]}${HEX[byte & 15]}`;
    column += width;
  }
  return text;
}
