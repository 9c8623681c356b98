/** The part of the composition root that has the keys of DKIM: told to the delivery threads, kept right beside the mail. */
import type { Aside } from '../base/aside.ts';
import type { Log } from '../base/log.ts';
import { steadyMs, timeOfDayMs } from '../base/steady.ts';
import { within } from '../base/within.ts';
import type { Config } from '../config/schema.ts';
import { KeyBook, WAITING_INTERVAL_MS } from '../signing/key-book.ts';
import { readShown, writeShown } from '../signing/shown-file.ts';
import type { SigningTable } from '../signing/table.ts';
import { presentTxt } from './current-dns.ts';

/** How long a start waits for DNS to show keys that it did not show before; mail of theirs waits longer. */
const FIRST_ANSWER_MS = 3000;

export interface RelaySigningSetup {
  log: Log;
  aside: Aside;
  /** The config as of the last reload. */
  current(): Config;
  /** Tells the delivery threads. */
  tell(table: SigningTable | null): void;
}

export class RelaySigning {
  readonly #setup: RelaySigningSetup;
  readonly #book: KeyBook;
  #timer: NodeJS.Timeout | null = null;

  constructor(setup: RelaySigningSetup) {
    this.#setup = setup;
    const { log, aside, current, tell } = setup;
    this.#book = new KeyBook(current().dkim, {
      log,
      tell,
      txt: presentTxt(current),
      recall: () => readShown(current().data_dir),
      remember: (shown) => aside.now('signing', () => writeShown(current().data_dir, shown)),
      now: () => timeOfDayMs(steadyMs()),
      steady: steadyMs,
    });
  }

  /** Once the delivery threads run. Asks DNS about the keys, and waits a little where none of a domain is known from before. */
  async start(): Promise<void> {
    this.#book.load();
    if (this.#book.table === null) return;
    const asked = this.#later(() => this.#book.checkAll());
    if ([...this.#book.table.domains.values()].some(({ fault }) => fault !== ''))
      await within(FIRST_ANSWER_MS, asked);
    this.#watch();
  }

  /** @returns what is wrong with keys. */
  reconfigure(): string[] {
    const problems = this.#book.reconfigure(this.#setup.current().dkim);
    if (this.#book.table !== null) void this.#later(() => this.#book.checkAll());
    this.#watch();
    return problems;
  }

  #watch(): void {
    const needed = this.#book.table !== null;
    if (needed && this.#timer === null)
      this.#timer = setInterval(() => void this.#later(() => this.#book.look()), WAITING_INTERVAL_MS).unref();
    if (needed || this.#timer === null) return;
    clearInterval(this.#timer);
    this.#timer = null;
  }

  #later(work: () => Promise<void>): Promise<void> {
    return this.#setup.aside.later('signing', work);
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }

  /** After the delivery threads have ended. */
  close(): void {
    this.#book.close();
  }
}
