/** Base64 of RFC 4648 §4 as SASL exchanges over SMTP use it (RFC 4954 §4): strict, because a lenient decoder hides faults. */

/** Longest line of an authentication exchange, its CRLF included (RFC 4954 §4.3). */
export const MAX_EXCHANGE_LINE_BYTES = 12_288;

const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

/** The octets, or null when the text is not Base64. '' is no octets. */
export function decodeBase64(text: string): Buffer | null {
  return BASE64.test(text) ? Buffer.from(text, 'base64') : null;
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** The text, or null when the octets are not UTF-8. */
export function utf8Text(octets: Uint8Array): string | null {
  try {
    return UTF8.decode(octets);
  } catch {
    return null;
  }
}
