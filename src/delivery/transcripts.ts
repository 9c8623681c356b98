/** Which dialogs with hosts stand in the log (log.transcripts.outbound), and how many lines of them a second. */
import { CalmLog } from '../base/calm-log.ts';
import { globOf } from '../base/glob.ts';
import { type Log, writeLine } from '../base/log.ts';
import type { Config } from '../config/schema.ts';
import type { DialogReader } from './client/transcript.ts';

/** Of each delivery thread. */
const LINES_PER_SECOND = 1000;

export class Transcripts {
  readonly #thread: string;
  readonly #log: Log;
  #patterns: ((destination: string) => boolean)[] = [];

  /** @param thread its name, unique on the host. */
  constructor(thread: string, log: Log, config: Config) {
    this.#thread = thread;
    this.#log = new CalmLog(log, [
      { event: 'delivery.transcript', linesPerSecond: LINES_PER_SECOND, kind: 'direction' },
    ]);
    this.reconfigure(config);
  }

  /** Connections that are open keep what they have; a reload ends them when they are free. */
  reconfigure({ log: { transcripts } }: Config): void {
    this.#patterns = transcripts.outbound.map(globOf);
  }

  /** Who reads the dialog of a connection to this destination; null: nobody. */
  of(connection: number, destination: string): DialogReader | null {
    if (!this.#patterns.some((matches) => matches(destination))) return null;
    return {
      sessionId: sessionIdOf(this.#thread, connection),
      destination,
      take: (line) => writeLine(this.#log, line),
    };
  }
}

/** How lines of the log name a connection to a peer. */
export const sessionIdOf = (thread: string, connection: number): string =>
  `d${thread}-${connection.toString(36)}`;
