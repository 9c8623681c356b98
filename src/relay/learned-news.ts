/**
 * Carries what this process learned of limits to the other processes of the host, by way of their supervisor, and with Redis to all
 * nodes; and what they learned back. Nothing waits for it: what is lost on the way is told again with the next change, and all of it when Redis
 * is back or a process joins. Part of the composition root.
 */
import type { SharedNews } from '../scheduler/shared-news.ts';
import { type KeyNews, newsIn } from '../shaping/adaptive/news.ts';

export interface LearnedNewsPorts {
  /** Other processes of the host; null: there are none. */
  host: { tell(lines: readonly string[]): void } | null;
  /** null: nothing is shared with other nodes. */
  nodes: SharedNews | null;
  hear(news: KeyNews): void;
  /** Somebody has just come and knows nothing. */
  tellAll(): void;
  /** Whether a line is of those that somebody else says. */
  other(line: string): boolean;
  /** Other nodes are not heard any more. */
  alone(): void;
}

const HEAR_MS = 200;
/** Said by whoever comes. */
const HELLO = 'hello';

export class LearnedNews {
  readonly #ports: LearnedNewsPorts;
  #lines: string[] = [];
  #timer: NodeJS.Timeout | null = null;
  #wasUp = false;
  #hearing = false;

  constructor(ports: LearnedNewsPorts) {
    this.#ports = ports;
  }

  /** Whether anybody hears it. */
  get isShared(): boolean {
    return this.#ports.host !== null || this.#ports.nodes !== null;
  }

  start(): void {
    if (!this.isShared) return;
    this.say(HELLO);
    if (this.#ports.nodes !== null) this.#timer = setInterval(() => void this.#hear(), HEAR_MS).unref();
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }

  tell(news: KeyNews): void {
    this.say(JSON.stringify(news));
  }

  /** What others said. */
  take(lines: readonly string[]): void {
    for (const line of lines) {
      if (line === HELLO) {
        this.#ports.tellAll();
        continue;
      }
      if (this.#ports.other(line)) continue;
      const news = newsIn(line);
      if (news !== null) this.#ports.hear(news);
    }
  }

  /** Says a line to all others. */
  say(line: string): void {
    if (this.#lines.push(line) === 1) setImmediate(() => this.#flush());
  }

  #flush(): void {
    const lines = this.#lines;
    this.#lines = [];
    const { host, nodes } = this.#ports;
    host?.tell(lines);
    // What Redis does not take is told when it is back.
    if (nodes?.up === true) void nodes.tell(lines).catch(() => {});
  }

  async #hear(): Promise<void> {
    const { nodes, tellAll } = this.#ports;
    if (nodes === null || this.#hearing) return;
    if (!nodes.up) {
      if (this.#wasUp) this.#ports.alone();
      this.#wasUp = false;
      return;
    }
    this.#hearing = true;
    try {
      const isBack = !this.#wasUp;
      this.take(await nodes.hear());
      this.#wasUp = true;
      if (isBack) {
        this.say(HELLO);
        tellAll();
      }
    } catch {
      // The agenda has logged the fault; the next look tries again.
    }
    this.#hearing = false;
  }
}
