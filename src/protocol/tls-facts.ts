/** What a TLS handshake established, from the reactor's text (EVENT.secured, native/tls_stream.cc). Pure. */

export interface TlsFacts {
  /** 'TLSv1.3' */
  readonly version: string;
  /** 'TLS_AES_256_GCM_SHA384' */
  readonly cipher: string;
  readonly resumed: boolean;
  /** 0: the peer's certificate is verified; else an X509_V_ERR of OpenSSL. 0 too without a certificate. */
  readonly verifyError: number;
  /** SHA-256 of the peer's certificate, 64 hex digits; '' when it showed none. */
  readonly fingerprint: string;
  /** Server: the tls-exporter channel binding (RFC 9266), 64 hex digits; '' where there is none. */
  readonly binding: string;
  /** Subject of the peer's certificate (RFC 2253); '' when it showed none. */
  readonly subject: string;
}

const orNothing = (text: string | undefined): string => (text === undefined || text === '-' ? '' : text);

export function readTlsFacts(text: string): TlsFacts {
  const [version = '', cipher = '', resumed, verify, fingerprint, binding, ...subject] = text.split(' ');
  return {
    version,
    cipher,
    resumed: resumed === '1',
    verifyError: Number(verify),
    fingerprint: orNothing(fingerprint),
    binding: orNothing(binding),
    subject: orNothing(subject.join(' ')),
  };
}
