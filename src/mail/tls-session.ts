/** The result of one attempt at TLS with a domain's exchanger, as RFC 8460 counts them. */

export interface TlsPolicyFacts {
  /** The recipients' domain, A-labels in lower case. */
  domain: string;
  type: 'tlsa' | 'sts' | 'no-policy-found';
  /** The policy itself: lines of MTA-STS, or TLSA records. */
  strings: readonly string[];
  /** Exchangers that the policy names. */
  mx: readonly string[];
}

/** RFC 8460 §4.3. */
export type TlsFailure =
  | 'starttls-not-supported'
  | 'certificate-host-mismatch'
  | 'certificate-expired'
  | 'certificate-not-trusted'
  | 'validation-failure'
  | 'tlsa-invalid'
  | 'dnssec-invalid'
  | 'dane-required'
  | 'sts-policy-fetch-error'
  | 'sts-policy-invalid'
  | 'sts-webpki-invalid';

export interface TlsSession {
  policy: TlsPolicyFacts;
  result: 'success' | TlsFailure;
  /** Name and address of the host; both '' when no host was reached. */
  mx: string;
  address: string;
  detail: string;
}

/** The result type of a failed handshake. @param reason in OpenSSL's words. */
export function tlsFailure(reason: string): TlsFailure {
  if (/DANE|TLSA/.test(reason)) return 'tlsa-invalid';
  if (/has expired|not yet valid/.test(reason)) return 'certificate-expired';
  if (/mismatch/.test(reason)) return 'certificate-host-mismatch';
  if (/self.signed|unable to (get|verify)|revoked|not trusted|invalid CA|chain too long/.test(reason))
    return 'certificate-not-trusted';
  return 'validation-failure';
}

/** The result type of a certificate that was not verified. @param verifyError of OpenSSL (X509_V_ERR_…). */
export function certificateFailure(verifyError: number): TlsFailure {
  if (verifyError === 9 || verifyError === 10) return 'certificate-expired';
  if (verifyError === 62 || verifyError === 64) return 'certificate-host-mismatch';
  return 'certificate-not-trusted';
}
