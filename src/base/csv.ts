/** CSV as RFC 4180 has it, read and written as a stream. What is not quoted may end with LF alone. */

/** Characters of one record, so that a quote that is never closed does not gather a whole file. */
const MAX_RECORD = 65_536;

export interface CsvRecord {
  /** Of its first line, from 1. */
  line: number;
  /** Null: it is too long, or its quotes make no sense. */
  fields: string[] | null;
}

/** Blank lines are counted and passed over. */
export async function* csvRecords(input: AsyncIterable<Buffer | string>): AsyncGenerator<CsvRecord[]> {
  const decoder = new TextDecoder();
  let text = '';
  let line = 1;
  /** Of a record that is too long the rest of its line is passed over. */
  let skips = false;
  const recordsOf = (more: string, isLast: boolean): CsvRecord[] => {
    const records: CsvRecord[] = [];
    text = text === '' ? more : text + more;
    const ends = new RecordEnds(text);
    let from = 0;
    while (from < text.length) {
      const end = skips ? lineEnd(text, from) : ends.of(from);
      if (end < 0 && !isLast) {
        if (text.length - from <= MAX_RECORD) break;
        if (!skips) records.push({ line, fields: null });
        skips = true;
        from = Math.max(from, text.lastIndexOf('\n') + 1);
        if (!text.includes('\n', from)) from = text.length;
        break;
      }
      const stop = end < 0 ? text.length : end;
      const record = text.slice(from, text.charCodeAt(stop - 1) === CR && stop > from ? stop - 1 : stop);
      if (!skips && record !== '')
        records.push({ line, fields: record.length > MAX_RECORD ? null : fieldsOf(record) });
      skips = false;
      line += newlines(text, from, stop) + 1;
      from = stop + 1;
    }
    text = text.slice(from);
    return records;
  };
  for await (const chunk of input) {
    const more = typeof chunk === 'string' ? chunk : decoder.decode(chunk, { stream: true });
    yield recordsOf(more, false);
  }
  yield recordsOf(decoder.decode(), true);
}

const CR = 13;
const QUOTE = 34;

const lineEnd = (text: string, from: number): number => text.indexOf('\n', from);

/**
 * Finds the ends of records. Remembers where the next quote is: most files have none, and looking for it behind each record would
 * read the rest of the text each time.
 */
class RecordEnds {
  readonly #text: string;
  #quoteAt: number;

  constructor(text: string) {
    this.#text = text;
    this.#quoteAt = text.indexOf('"');
  }

  /** Index of the line feed that ends the record; -1: it is not there yet. */
  of(from: number): number {
    let isQuoted = false;
    for (let at = from; ; ) {
      const end = this.#text.indexOf('\n', at);
      for (let quote = this.#quoteFrom(at); quote >= 0 && (end < 0 || quote < end); ) {
        isQuoted = !isQuoted;
        quote = this.#quoteFrom(quote + 1);
      }
      if (end < 0 || !isQuoted) return end;
      at = end + 1;
    }
  }

  #quoteFrom(from: number): number {
    if (this.#quoteAt >= 0 && this.#quoteAt < from) this.#quoteAt = this.#text.indexOf('"', from);
    return this.#quoteAt;
  }
}

function newlines(text: string, from: number, to: number): number {
  let count = 0;
  for (let at = text.indexOf('\n', from); at >= 0 && at < to; at = text.indexOf('\n', at + 1)) count++;
  return count;
}

/** null: a quote within an unquoted field, or text behind a quoted one. */
function fieldsOf(record: string): string[] | null {
  if (!record.includes('"')) return record.split(',');
  const fields: string[] = [];
  for (let at = 0; ; at++) {
    if (record.charCodeAt(at) !== QUOTE) {
      const comma = record.indexOf(',', at);
      const field = record.slice(at, comma < 0 ? undefined : comma);
      if (field.includes('"')) return null;
      fields.push(field);
      if (comma < 0) return fields;
      at = comma;
      continue;
    }
    let close = record.indexOf('"', at + 1);
    while (close >= 0 && record.charCodeAt(close + 1) === QUOTE) close = record.indexOf('"', close + 2);
    if (close < 0) return null;
    fields.push(record.slice(at + 1, close).replaceAll('""', '"'));
    at = close + 1;
    if (at === record.length) return fields;
    if (record[at] !== ',') return null;
  }
}

/** One record with its line end. */
export const csvLine = (fields: readonly string[]): string =>
  `${fields.map((field) => (/[",\r\n]/.test(field) ? `"${field.replaceAll('"', '""')}"` : field)).join(',')}\r\n`;
