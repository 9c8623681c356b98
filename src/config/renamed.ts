/** Keys and values of an earlier release: the start stops at the old one and says the new one. */
const RENAMED: Readonly<Record<string, string>> = {
  'delivery.max_handoff_mails': 'max_handoff_messages',
  'queue.keep_sent_ms': 'keep_delivered_ms',
  'queue.keep_dead_ms': 'keep_failed_ms',
};

/** What to write for a value that was right in an earlier release; null when it never was. @param key as keyPath writes it. */
export function valueNow(key: string, value: unknown): string | null {
  if (key === 'log.transcripts' && typeof value === 'boolean') return `write { "inbound": ${value} }`;
  if (key === 'log.level' && value === 'trace') return 'write "debug": trace wrote no more';
  return null;
}

/** @param at key of the section, as keyPath writes it. @returns the key's name now; null when it never had another. */
export function nameNow(at: string, key: string): string | null {
  const old = `${at}.${key}`;
  return Object.hasOwn(RENAMED, old) ? (RENAMED[old] as string) : null;
}
