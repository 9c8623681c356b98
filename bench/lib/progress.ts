/** One line that rewrites itself on a terminal; silent elsewhere, so that logs and pipes stay clean. */
export class Progress {
  readonly #timer: NodeJS.Timeout | null;
  #last = { at: performance.now(), done: 0 };

  /** @param total 0 when unknown. */
  constructor(
    total: number,
    state: () => { done: number; failed: number },
    enabled = process.stderr.isTTY === true,
  ) {
    this.#timer = enabled ? setInterval(() => this.#draw(total, state()), 200) : null;
  }

  end(): void {
    if (this.#timer === null) return;
    clearInterval(this.#timer);
    process.stderr.write('\r\x1b[K');
  }

  #draw(total: number, { done, failed }: { done: number; failed: number }): void {
    const at = performance.now();
    const rate = Math.round(((done - this.#last.done) * 1000) / (at - this.#last.at));
    this.#last = { at, done };
    const share = total > 0 && Number.isFinite(total) ? Math.min(1, (done + failed) / total) : 0;
    const bar = `${'█'.repeat(Math.round(share * 30))}${'░'.repeat(30 - Math.round(share * 30))}`;
    const count = total > 0 && Number.isFinite(total) ? `${done} of ${total}` : `${done}`;
    process.stderr.write(`\r${bar} ${count} accepted, ${failed} failed, ${rate} msg/s\x1b[K`);
  }
}
