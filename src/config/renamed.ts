/** Keys and values of an earlier release: the start stops at the old one and says the new one. */
const RENAMED: Readonly<Record<string, string>> = {
  'delivery.max_handoff_mails': 'max_handoff_messages',
  'queue.keep_sent_ms': 'keep_delivered_ms',
  'queue.keep_dead_ms': 'keep_failed_ms',
};
/** Keys that are gone, and what to write instead. */
const GONE: Readonly<Record<string, string>> = {
  'events.keep_files': 'write "keep_days" and "max_total_mb"',
};

/** What to write for a value that was right in an earlier release; null when it never was. @param key as keyPath writes it. */
export function valueNow(key: string, value: unknown): string | null {
  if (key === 'log.transcripts' && typeof value === 'boolean') return `write { "inbound": ${value} }`;
  if (key === 'log.level' && value === 'trace') return 'write "debug": trace wrote no more';
  return null;
}

/** @param at key of the section, as keyPath writes it. @returns the key's name now; null when it never had another. */
export function nameNow(at: string, key: string): string | null {
  return own(RENAMED, `${at}.${key}`);
}

/** @param at key of the section, as keyPath writes it. @returns what to write instead; null when there never was such a key. */
export function insteadOf(at: string, key: string): string | null {
  return own(GONE, `${at}.${key}`);
}

const own = (table: Readonly<Record<string, string>>, key: string): string | null =>
  Object.hasOwn(table, key) ? (table[key] as string) : null;
