/**
 * Patterns of operators: `*` stands for any text, `?` for one character, and what follows a backslash for itself. They
 * match a whole text, and letters in either case.
 */

/** A character, or what stands for several. */
type Token = { is: string } | '*' | '?';

function tokensOf(pattern: string): Token[] {
  const tokens: Token[] = [];
  let escaped = false;
  for (const char of pattern.toLowerCase()) {
    if (!escaped && char === '\\') escaped = true;
    else {
      tokens.push(!escaped && (char === '*' || char === '?') ? char : { is: char });
      escaped = false;
    }
  }
  if (escaped) tokens.push({ is: '\\' });
  return tokens;
}

/** The only text that the pattern matches, in lower case; null when it has wildcards. */
export function literalOf(pattern: string): string | null {
  let text = '';
  for (const token of tokensOf(pattern)) {
    if (typeof token === 'string') return null;
    text += token.is;
  }
  return text;
}

/** The pattern as operand of SQL's `LIKE … ESCAPE '!'`, for text in lower case. */
export function likeOf(pattern: string): string {
  return tokensOf(pattern)
    .map((token) =>
      token === '*' ? '%' : token === '?' ? '_' : token.is.replace(/[%_!]/, (char) => `!${char}`),
    )
    .join('');
}

/** The pattern as a function. Takes time in proportion to the lengths of pattern and text multiplied, at most. */
export function globOf(pattern: string): (text: string) => boolean {
  const tokens = tokensOf(pattern);
  return (text) => {
    const chars = [...text.toLowerCase()];
    let [at, token] = [0, 0];
    /** Where to go on when what follows the last `*` does not match here. */
    let [backAt, backToken] = [0, -1];
    while (at < chars.length) {
      const now = tokens[token];
      if (now === '*') [backAt, backToken] = [at, ++token];
      else if (now === '?' || (now !== undefined && now.is === chars[at])) {
        at++;
        token++;
      } else if (backToken === -1) return false;
      else [at, token] = [++backAt, backToken];
    }
    return tokens.slice(token).every((rest) => rest === '*');
  };
}

/** Whether one of the patterns matches; those without wildcards cost one look-up together. */
export function anyGlobOf(patterns: readonly string[]): (text: string) => boolean {
  const literals = new Set(patterns.map(literalOf));
  const globs = patterns.filter((pattern) => literalOf(pattern) === null).map(globOf);
  return (text) => literals.has(text.toLowerCase()) || globs.some((matches) => matches(text));
}
