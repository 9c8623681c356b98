/**
 * Time, chance and processes of a simulated cluster. Every timer and clock that the relay's code asks for while it
 * runs in one of these processes is the world's: `setTimeout`, `setInterval` and `Date.now` look up who is asking
 * (an AsyncLocalStorage), so a process can be killed, stopped and continued, and have a clock of its own. Nothing is
 * left to chance but what the seed says.
 */

import { AsyncLocalStorage } from 'node:async_hooks';
import { random } from '../../support/dice.ts';

export interface Timer {
  cancel(): void;
}

interface Happening {
  atMs: number;
  order: number;
  run: (() => void) | null;
}

/** Files the simulation writes are younger than the wall clock says: nothing of them counts as old. */
const EPOCH_MS = 1_700_000_000_000;

export class Clock {
  nowMs = EPOCH_MS;
  readonly next: () => number;
  /** A digest of all that happened: the same seed gives the same. */
  digest = 0;
  readonly #heap: Happening[] = [];
  #order = 0;

  constructor(seed: number) {
    this.next = random(seed);
  }

  between(low: number, high: number): number {
    return low + Math.floor(this.next() * (high - low + 1));
  }

  chance(share: number): boolean {
    return this.next() < share;
  }

  pick<T>(list: readonly T[]): T {
    return list[Math.floor(this.next() * list.length)] as T;
  }

  note(what: string): void {
    let hash = this.digest ^ (this.nowMs | 0);
    for (let i = 0; i < what.length; i++) hash = Math.imul(hash ^ what.charCodeAt(i), 0x01000193);
    this.digest = hash;
    if (process.env.SIM_TRACE !== undefined) console.log(this.nowMs - EPOCH_MS, what);
  }

  /** Milliseconds since the world began. */
  get elapsedMs(): number {
    return this.nowMs - EPOCH_MS;
  }

  later(delayMs: number, run: () => void): Timer {
    const happening = { atMs: this.nowMs + Math.max(0, Math.round(delayMs)), order: this.#order++, run };
    this.#push(happening);
    return {
      cancel: () => {
        happening.run = null as unknown as () => void;
      },
    };
  }

  /** Lets time pass until then. What one happening sets off is over before the next begins. */
  async run(untilMs: number): Promise<void> {
    await settled();
    for (;;) {
      const first = this.#heap[0];
      if (first === undefined || first.atMs > untilMs) break;
      this.#pop();
      if (first.run === null) continue;
      this.nowMs = Math.max(this.nowMs, first.atMs);
      first.run();
      await settled();
    }
    this.nowMs = Math.max(this.nowMs, untilMs);
  }

  #push(happening: Happening): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(happening);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (isBefore(heap[parent] as Happening, happening)) break;
      heap[at] = heap[parent] as Happening;
      at = parent;
    }
    heap[at] = happening;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop() as Happening;
    if (heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1] as Happening, heap[child] as Happening))
        child++;
      if (isBefore(last, heap[child] as Happening)) break;
      heap[at] = heap[child] as Happening;
      at = child;
    }
    heap[at] = last;
  }
}

const isBefore = (a: Happening, b: Happening): boolean =>
  a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);

const immediate = setImmediate;
/** Nothing but promises and microtasks is ever under way, and they are all done before an immediate. */
const settled = (): Promise<void> => new Promise((resolve) => void immediate(resolve));

const context = new AsyncLocalStorage<Actor>();

/** Who runs now. */
export function actor(): Actor {
  const found = context.getStore();
  if (found === undefined) throw new Error('no simulated process is running');
  return found;
}

/** A process, or a thread of one. */
export class Actor {
  readonly clock: Clock;
  readonly process: Actor;
  readonly skewMs: number;
  #alive = true;
  #stopped = false;
  #missed: (() => void)[] = [];

  /** @param process whose thread it is; null: a process. */
  constructor(clock: Clock, process: Actor | null, skewMs = 0) {
    this.clock = clock;
    this.process = process ?? this;
    this.skewMs = process === null ? skewMs : process.skewMs;
  }

  get alive(): boolean {
    return this.#alive && (this.process === this || this.process.alive);
  }

  get stopped(): boolean {
    return this.process.#stopped;
  }

  now(): number {
    return this.clock.nowMs + this.skewMs;
  }

  /** Runs `work` as this process. */
  enter<T>(work: () => T): T {
    return context.run(this, work);
  }

  /** Something reaches the process: it is dealt with now, when it goes on, or never. */
  reach(run: () => void): void {
    if (!this.alive) return;
    if (this.stopped) this.process.#missed.push(() => this.reach(run));
    else this.enter(run);
  }

  later(delayMs: number, run: () => void): Timer {
    return this.clock.later(delayMs, () => this.reach(run));
  }

  /** kill -9. */
  kill(): void {
    this.#alive = false;
    this.#missed = [];
  }

  /** SIGSTOP. */
  stop(): void {
    this.#stopped = true;
  }

  /** SIGCONT: timers that are late and what came meanwhile, in no certain order. */
  continue(): void {
    this.#stopped = false;
    for (const missed of this.#missed.splice(0)) this.clock.later(this.clock.between(0, 5), missed);
  }
}

const real = {
  setTimeout: globalThis.setTimeout,
  clearTimeout: globalThis.clearTimeout,
  setInterval: globalThis.setInterval,
  clearInterval: globalThis.clearInterval,
  now: Date.now,
  performance: performance.now.bind(performance),
  random: Math.random,
};

class SimulatedTimer {
  timer: Timer | null = null;

  ref(): this {
    return this;
  }

  unref(): this {
    return this;
  }

  hasRef(): boolean {
    return this.timer !== null;
  }

  cancel(): void {
    this.timer?.cancel();
    this.timer = null;
  }
}

type Fire = (...values: unknown[]) => void;

/** From now on clocks and timers are those of the process that asks; outside of any they are the real ones. */
export function takeOverTime(): void {
  const start = (fire: Fire, delayMs: number, values: unknown[], repeat: boolean): unknown => {
    const asking = context.getStore();
    if (asking === undefined)
      return repeat ? real.setInterval(fire, delayMs, ...values) : real.setTimeout(fire, delayMs, ...values);
    const handle = new SimulatedTimer();
    const arm = (): void => {
      handle.timer = asking.later(Math.max(1, delayMs ?? 1), () => {
        if (handle.timer === null) return;
        if (repeat) arm();
        else handle.timer = null;
        fire(...values);
      });
    };
    arm();
    return handle;
  };
  const end = (handle: unknown, otherwise: (handle: never) => void): void => {
    if (handle instanceof SimulatedTimer) handle.cancel();
    else otherwise(handle as never);
  };
  Object.assign(globalThis, {
    setTimeout: (fire: Fire, delayMs: number, ...values: unknown[]) => start(fire, delayMs, values, false),
    setInterval: (fire: Fire, delayMs: number, ...values: unknown[]) => start(fire, delayMs, values, true),
    clearTimeout: (handle: unknown) => end(handle, real.clearTimeout),
    clearInterval: (handle: unknown) => end(handle, real.clearInterval),
  });
  Date.now = () => context.getStore()?.now() ?? real.now();
  performance.now = () => context.getStore()?.now() ?? real.performance();
  Math.random = () => context.getStore()?.clock.next() ?? real.random();
}
