/** Sends a TLS report by HTTPS (RFC 8460 §5.4). */
import { type PostOptions, post } from '../base/web-post.ts';

/**
 * Resolves when the report was accepted (2xx); rejects with the reason if not. @param report as gzipReport makes it.
 */
export async function postReport(
  url: string,
  report: Buffer,
  options: Omit<PostOptions, 'contentType'>,
): Promise<void> {
  if (new URL(url).protocol !== 'https:') throw new Error('not an https address');
  await post(url, report, { ...options, contentType: 'application/tlsrpt+gzip' });
}
