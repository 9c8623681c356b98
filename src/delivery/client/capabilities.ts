/** What a peer offers in its EHLO reply (RFC 5321 §4.1.1.1). */

export interface Capabilities {
  /** false after HELO: no parameters may be sent at all. */
  esmtp: boolean;
  pipelining: boolean;
  /** Longest message in bytes that the peer takes; 0: no limit was offered. */
  maxSizeBytes: number;
  size: boolean;
  eightBitMime: boolean;
  smtpUtf8: boolean;
  dsn: boolean;
  chunking: boolean;
  binaryMime: boolean;
  startTls: boolean;
  /** SASL mechanisms, in upper case. */
  auth: readonly string[];
}

export const HELO_CAPABILITIES: Capabilities = Object.freeze({
  esmtp: false,
  pipelining: false,
  maxSizeBytes: 0,
  size: false,
  eightBitMime: false,
  smtpUtf8: false,
  dsn: false,
  chunking: false,
  binaryMime: false,
  startTls: false,
  auth: [],
});

/** @param lines of the EHLO reply without codes; the first is the peer's greeting, and is not looked at. */
export function parseCapabilities(lines: readonly string[]): Capabilities {
  const offered: Capabilities = { ...HELO_CAPABILITIES, esmtp: true };
  for (const line of lines.slice(1)) {
    // Old servers write AUTH=, and some send both forms.
    const [keyword, parameter, ...more] = line
      .trim()
      .toUpperCase()
      .replace(/^AUTH=/, 'AUTH ')
      .split(/ +/);
    switch (keyword) {
      case 'PIPELINING':
        offered.pipelining = true;
        break;
      case 'SIZE':
        offered.size = true;
        if (parameter !== undefined && /^\d{1,15}$/.test(parameter)) offered.maxSizeBytes = Number(parameter);
        break;
      case '8BITMIME':
        offered.eightBitMime = true;
        break;
      case 'SMTPUTF8':
        offered.smtpUtf8 = true;
        break;
      case 'DSN':
        offered.dsn = true;
        break;
      case 'CHUNKING':
        offered.chunking = true;
        break;
      case 'STARTTLS':
        offered.startTls = true;
        break;
      case 'AUTH':
        offered.auth = [...offered.auth, ...(parameter === undefined ? [] : [parameter]), ...more];
        break;
      case 'BINARYMIME':
        offered.binaryMime = true;
        break;
    }
  }
  return offered;
}
