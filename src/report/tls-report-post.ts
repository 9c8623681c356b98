/**
 * Sends a TLS report by HTTPS (RFC 8460 §5.4): one POST, verified, without redirects, bounded in time; the answer's
 * body is not read.
 */
import { nodeHttps } from '../base/node-http.ts';

export interface PostOptions {
  timeoutMs: number;
  /** Address of a host; rejects when it has none that we may talk to. */
  addressOf(host: string): Promise<string>;
  /** Trusted issuers, PEM; default: Node's. */
  ca?: string;
  /** Ends the request at once. */
  signal: AbortSignal;
}

/**
 * Resolves when the report was accepted (2xx); rejects with the reason if not. @param report as gzipReport makes it.
 */
export async function postReport(url: string, report: Buffer, options: PostOptions): Promise<void> {
  const { protocol, hostname, host, port, pathname, search } = new URL(url);
  if (protocol !== 'https:') throw new Error('not an https address');
  const name = hostname.replace(/^\[(.*)\]$/, '$1');
  const signal = AbortSignal.any([options.signal, AbortSignal.timeout(options.timeoutMs)]);
  const address = await Promise.race([options.addressOf(name), aborted(signal)]);
  await new Promise<void>((resolve, reject) => {
    const sent = nodeHttps().request({
      host: address,
      port: port === '' ? 443 : Number(port),
      servername: name === address ? '' : name,
      path: pathname + search,
      method: 'POST',
      headers: { host, 'content-type': 'application/tlsrpt+gzip', 'content-length': report.length },
      signal,
      agent: false,
      ...(options.ca === undefined ? {} : { ca: options.ca }),
    });
    sent.on('error', reject);
    sent.on('response', ({ statusCode = 0 }) => {
      if (statusCode >= 200 && statusCode < 300) resolve();
      else reject(new Error(`answered ${statusCode}`));
      sent.destroy();
    });
    sent.end(report);
  });
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const fail = (): void => reject(signal.reason);
    if (signal.aborted) fail();
    else signal.addEventListener('abort', fail, { once: true });
  });
}
