/** What TLS protected a message on one leg of its way, for trace header and events. */
export interface TlsUse {
  /** 'TLSv1.3' */
  version: string;
  /** 'TLS_AES_256_GCM_SHA384' */
  cipher: string;
  /** Whether the other side's certificate was verified; false also when it showed none. */
  verified: boolean;
}
