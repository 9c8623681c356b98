/** A refusal that no rule knows, as it is counted: by provider, codes and normalised text. */
export interface UnknownReply {
  provider: string;
  code: number;
  enhanced: string;
  /** As normalised: {ip}, {email}, {host}, {id}, {time}, {n}. */
  text: string;
  count: number;
  /** The last of them, as the peer wrote it. */
  example: string;
}

/** The counts of several threads or processes together, the most frequent first. @param most how many. */
export function mergeUnknown(parts: readonly (readonly UnknownReply[])[], most: number): UnknownReply[] {
  const sum = new Map<string, UnknownReply>();
  for (const one of parts.flat()) {
    const key = keyOf(one);
    const known = sum.get(key);
    if (known === undefined) sum.set(key, { ...one });
    else known.count += one.count;
  }
  return [...sum.values()].sort((a, b) => b.count - a.count).slice(0, most);
}

export const keyOf = ({ provider, code, enhanced, text }: Omit<UnknownReply, 'count' | 'example'>): string =>
  `${provider} ${code} ${enhanced} ${text}`;
