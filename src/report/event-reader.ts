/** The lines of all relay processes in their event files, merged by time. */
import { EventSource, listEventFiles, type SourceOptions, type Start } from './event-source.ts';

const TIME = '"time":"';
const TIME_LENGTH = 24;

/** '' when it has none: such a line is damaged, and comes at once. */
export function timeOf(line: string): string {
  const at = line.indexOf(TIME);
  return at < 0 ? '' : line.slice(at + TIME.length, at + TIME.length + TIME_LENGTH);
}

export class EventReader {
  readonly #options: Omit<SourceOptions, 'process'>;
  readonly #starts: ReadonlyMap<number, Start>;
  readonly #from: Start;
  readonly #sources = new Map<number, EventSource>();

  /** @param from where reading begins. @param starts the same for processes that begin elsewhere. */
  constructor(
    options: Omit<SourceOptions, 'process'>,
    from: Start,
    starts: ReadonlyMap<number, Start> = new Map(),
  ) {
    this.#options = options;
    this.#from = from;
    this.#starts = starts;
  }

  /** Looks for processes that are new. */
  async look(): Promise<void> {
    for (const { process } of await listEventFiles(this.#options.dir)) {
      if (this.#sources.has(process)) continue;
      const start = this.#starts.get(process) ?? this.#from;
      this.#sources.set(process, new EventSource({ ...this.#options, process }, start));
    }
  }

  /** The next lines in order; null when there are none at present. */
  async lines(): Promise<string[] | null> {
    const ready: EventSource[] = [];
    for (const source of this.#sources.values()) if (await source.fill()) ready.push(source);
    const [first, ...others] = ready;
    if (first === undefined) return null;
    const lines: string[] = [];
    if (others.length === 0) {
      for (; !first.empty; first.at++) lines.push(first.lines[first.at] as string);
      return lines;
    }
    for (;;) {
      let earliest = first;
      for (const source of others) if (headOf(source) < headOf(earliest)) earliest = source;
      lines.push(earliest.lines[earliest.at++] as string);
      // What it has next may be earlier than what the others have.
      if (earliest.empty) return lines;
    }
  }

  async close(): Promise<void> {
    for (const source of this.#sources.values()) await source.close();
  }
}

const headOf = ({ lines, at }: EventSource): string => timeOf(lines[at] as string);
