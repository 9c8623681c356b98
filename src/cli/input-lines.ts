/** Lines of a stream, one at a time: of a line that is too long no more is kept than says so. */

export interface InputLine {
  /** From 1. */
  number: number;
  /** Null where it was too long. */
  text: string | null;
}

export const MAX_LINE = 1_048_576;

/** Blank lines are counted and passed over. */
export async function* linesOf(input: AsyncIterable<Buffer | string>): AsyncGenerator<InputLine> {
  const decoder = new TextDecoder();
  let kept = '';
  let number = 0;
  let isTooLong = false;
  for await (const chunk of input) {
    const text = typeof chunk === 'string' ? chunk : decoder.decode(chunk, { stream: true });
    let from = 0;
    for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n', from)) {
      const whole = kept + text.slice(from, end);
      from = end + 1;
      kept = '';
      number++;
      if (isTooLong || whole.length > MAX_LINE) yield { number, text: null };
      else if (whole.trim() !== '') yield { number, text: whole };
      isTooLong = false;
    }
    if (isTooLong) continue;
    kept += text.slice(from);
    isTooLong = kept.length > MAX_LINE;
    if (isTooLong) kept = '';
  }
  if (isTooLong) yield { number: number + 1, text: null };
  else if (kept.trim() !== '') yield { number: number + 1, text: kept };
}
