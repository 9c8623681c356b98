/** One POST: verified where it is https, to an address that was looked at before, without redirects, bounded in time; the answer's body is not read. */
import { nodeHttp, nodeHttps } from './node-http.ts';

export interface PostOptions {
  contentType: string;
  timeoutMs: number;
  /** Address of a host; rejects when it has none that we may talk to. */
  addressOf(host: string): Promise<string>;
  /** Trusted issuers, PEM; default: Node's. */
  ca?: string;
  /** Ends the request at once. */
  signal: AbortSignal;
}

/** Resolves when the body was accepted (2xx); rejects with the reason if not. */
export async function post(url: string, body: Uint8Array, options: PostOptions): Promise<void> {
  const { protocol, hostname, host, port, pathname, search } = new URL(url);
  const isTls = protocol === 'https:';
  const name = hostname.replace(/^\[(.*)\]$/, '$1');
  const signal = AbortSignal.any([options.signal, AbortSignal.timeout(options.timeoutMs)]);
  const address = await Promise.race([options.addressOf(name), aborted(signal)]);
  const request = isTls ? nodeHttps().request : nodeHttp().request;
  await new Promise<void>((resolve, reject) => {
    const sent = request({
      host: address,
      port: port === '' ? (isTls ? 443 : 80) : Number(port),
      path: pathname + search,
      method: 'POST',
      headers: { host, 'content-type': options.contentType, 'content-length': body.length },
      signal,
      agent: false,
      ...(isTls ? { servername: name === address ? '' : name } : {}),
      ...(options.ca === undefined ? {} : { ca: options.ca }),
    });
    sent.on('error', reject);
    sent.on('response', ({ statusCode = 0 }) => {
      if (statusCode >= 200 && statusCode < 300) resolve();
      else reject(new Error(`answered ${statusCode}`));
      sent.destroy();
    });
    sent.end(body);
  });
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const fail = (): void => reject(signal.reason);
    if (signal.aborted) fail();
    else signal.addEventListener('abort', fail, { once: true });
  });
}
