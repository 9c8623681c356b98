/** What a TLS handshake established, from the reactor's text (EVENT.secured, native/tls_stream.cc). Pure. */

import type { ChannelBinding } from './sasl/scram.ts';

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
  /**
   * What SCRAM can be bound to, the usual one first: tls-exporter (RFC 9266), before TLS 1.3 tls-unique (RFC 5929) and then
   * tls-exporter; [] where neither is safe, before TLS 1.3 without an extended master secret.
   */
  readonly bindings: readonly ChannelBinding[];
  /** Subject of the peer's certificate (RFC 2253); '' when it showed none. */
  readonly subject: string;
}

const orNothing = (text: string | undefined): string => (text === undefined || text === '-' ? '' : text);

function bindingsOf(text: string): ChannelBinding[] {
  const [exporter = '', unique] = text.split('/');
  const bindings = exporter === '' ? [] : [{ type: 'tls-exporter', octets: Buffer.from(exporter, 'hex') }];
  return unique === undefined
    ? bindings
    : [{ type: 'tls-unique', octets: Buffer.from(unique, 'hex') }, ...bindings];
}

export function readTlsFacts(text: string): TlsFacts {
  const [version = '', cipher = '', resumed, verify, fingerprint, binding, ...subject] = text.split(' ');
  return {
    version,
    cipher,
    resumed: resumed === '1',
    verifyError: Number(verify),
    fingerprint: orNothing(fingerprint),
    bindings: bindingsOf(orNothing(binding)),
    subject: orNothing(subject.join(' ')),
  };
}
