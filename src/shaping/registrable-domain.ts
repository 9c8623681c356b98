/**
 * The domain that its owner registered, by the public suffix list. The list is read at the first question: most relays
 * never ask, and it takes some megabytes in every thread.
 */
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
let list: typeof import('tldts') | null = null;

/** A name that has no public suffix stands for itself. */
export function registrableDomain(host: string): string {
  list ??= require('tldts') as typeof import('tldts');
  return list.getDomain(host) ?? host;
}
