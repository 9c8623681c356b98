/** The host that an attempt spoke with, or tried to reach. */
export interface Peer {
  /** Its name; the address where it has none. */
  host: string;
  address: string;
  port: number;
  /** Our address of the connection; '' while there was none. */
  source: string;
}

/** 'mx1.example.net [192.0.2.1]' */
export function peerText({ host, address }: Peer): string {
  return host === address ? `[${address}]` : `${host} [${address}]`;
}
