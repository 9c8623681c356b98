/** Relay processes that are not there: what the supervisor sent them, and a clock that the test moves. */
import type { ForkEvents, Forked } from '../../src/supervisor/child.ts';
import type { FromProcess, ToProcess } from '../../src/supervisor/messages.ts';

export class FakeClock {
  nowMs = 1_000_000;
  readonly #timers: { atMs: number; fire: () => void }[] = [];

  readonly now = (): number => this.nowMs;

  readonly setTimer = (ms: number, fire: () => void): { cancel(): void } => {
    const timer = { atMs: this.nowMs + ms, fire };
    this.#timers.push(timer);
    return {
      cancel: () => {
        const at = this.#timers.indexOf(timer);
        if (at >= 0) this.#timers.splice(at, 1);
      },
    };
  };

  /** Fires what falls due, in order of time. */
  advance(ms: number): void {
    const endMs = this.nowMs + ms;
    for (;;) {
      const next = this.#timers.toSorted((a, b) => a.atMs - b.atMs)[0];
      if (next === undefined || next.atMs > endMs) break;
      this.#timers.splice(this.#timers.indexOf(next), 1);
      this.nowMs = next.atMs;
      next.fire();
    }
    this.nowMs = endMs;
  }
}

/** One life of a process. */
export class FakeProcess implements Forked {
  readonly pid: number;
  readonly fds: readonly number[];
  readonly sent: ToProcess[] = [];
  killed: string | null = null;
  /** Pings are answered by themselves. */
  answersPings = true;
  readonly #events: ForkEvents;

  constructor(pid: number, fds: readonly number[], events: ForkEvents) {
    this.pid = pid;
    this.fds = fds;
    this.#events = events;
  }

  send(message: ToProcess): void {
    if (message.type !== 'ping') this.sent.push(message);
    else if (this.answersPings) this.says({ type: 'pong', connections: 3, rssBytes: 50 << 20 });
  }

  kill(signal: NodeJS.Signals): void {
    this.killed = signal;
    this.exits(null, signal);
  }

  says(message: FromProcess): void {
    this.#events.message(message);
  }

  boots(): this {
    this.says({ type: 'booted' });
    this.says({ type: 'ready', addresses: [] });
    return this;
  }

  exits(code: number | null, signal: string | null = null): void {
    this.#events.exit(code, signal);
  }

  /** Answers the newest question of this kind. */
  answers(question: string, value: unknown): void {
    const asked = this.sent.findLast((message) => message.type === 'ask' && message.question === question);
    if (asked?.type !== 'ask') throw new Error(`${question} was not asked`);
    this.says({ type: 'answer', id: asked.id, value });
  }

  types(): string[] {
    return this.sent.map((message) => (message.type === 'ask' ? message.question : message.type));
  }
}
