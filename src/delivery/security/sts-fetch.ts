/** Fetches policies of MTA-STS over HTTPS, and says in the words of RFC 8460 why that failed. */
import { isIP } from 'node:net';
import { nodeHttps } from '../../base/node-http.ts';
import type { TlsFailure } from '../../mail/tls-session.ts';
import type { Dns } from '../names/dns.ts';

/** Fetches the text of a domain's policy; rejects when that fails. */
export type FetchPolicy = (domain: string) => Promise<string>;

const MAX_POLICY_BYTES = 65_536;
/** Codes of Node and OpenSSL for a certificate that is not valid for the name. */
const WEBPKI =
  /CERT|CRL|SELF_SIGNED|UNABLE_TO_(?:GET|VERIFY|DECRYPT|DECODE)|INVALID_(?:CA|PURPOSE)|PATH_LENGTH|HOSTNAME/;

/** The result type for a failed fetch (RFC 8460 §4.3.2.2). @param error what the fetch rejected with. */
export function fetchFailure(error: unknown): TlsFailure {
  const code = String((error as NodeJS.ErrnoException).code ?? '');
  return WEBPKI.test(code) ? 'sts-webpki-invalid' : 'sts-policy-fetch-error';
}

export interface StsFetchOptions {
  timeoutMs: number;
  dns: Pick<Dns, 'addresses'>;
  /** Trusted issuers, PEM; default: Node's. */
  ca?: string | undefined;
  /** For tests. */
  port?: number;
}

/**
 * Makes the function that fetches policies as RFC 8461 §3.3 wants: verified, no redirect, text/plain, bounded in size
 * and time.
 */
export function stsFetcher({ timeoutMs, dns, ca, port = 443 }: StsFetchOptions): FetchPolicy {
  return async (domain) => {
    const host = `mta-sts.${domain}`;
    const address = await addressOf(host, dns);
    return new Promise((resolve, reject) => {
      const signal = AbortSignal.timeout(timeoutMs);
      const trust = ca === undefined ? {} : { ca };
      const headers = { host };
      const at = { host: address, port, servername: host, path: '/.well-known/mta-sts.txt' };
      const options = { ...at, ...trust, headers, signal, agent: false };
      const request = nodeHttps().get(options, (response) => {
        const type = response.headers['content-type'] ?? '';
        if (response.statusCode !== 200 || !/^text\/plain\b/i.test(type)) {
          request.destroy(new Error(`answered ${response.statusCode} ${type}`));
          return;
        }
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (part: string) => {
          text += part;
          if (text.length > MAX_POLICY_BYTES) request.destroy(new Error('a policy longer than 64 KiB'));
        });
        response.on('end', () => resolve(text));
        response.on('error', reject);
      });
      request.on('error', reject);
    });
  };
}

async function addressOf(host: string, dns: StsFetchOptions['dns']): Promise<string> {
  for (const family of [4, 6] as const) {
    const answer = await dns.addresses(host, family);
    const address = answer.kind === 'found' ? answer.records[0] : undefined;
    if (address !== undefined && isIP(address) !== 0) return address;
  }
  throw new Error(`${host} has no address`);
}
