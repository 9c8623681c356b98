/** Child programs of a benchmark: started, listened to line by line, and ended by pid. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

export interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  /** Milliseconds from start to end. */
  elapsedMs: number;
  stdout: string;
  stderr: string;
}

export class Child {
  readonly pid: number;
  readonly ended: Promise<Ended>;
  readonly #child: ChildProcess;
  readonly #lines: string[] = [];
  readonly #waiters = new Set<(line: string) => void>();

  constructor(command: string, args: readonly string[], options: { cwd?: string; group?: boolean } = {}) {
    const startedAt = performance.now();
    this.#child = spawn(command, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      cwd: options.cwd,
      detached: options.group === true,
    });
    this.pid = this.#child.pid ?? -1;
    const orphaned = (): void => void this.#child.kill('SIGKILL');
    process.once('exit', orphaned);
    let stderr = '';
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      stderr = (stderr + text).slice(-10_000);
    });
    if (this.#child.stdout !== null) {
      createInterface({ input: this.#child.stdout }).on('line', (line) => {
        this.#lines.push(line);
        for (const waiter of [...this.#waiters]) waiter(line);
      });
    }
    this.ended = new Promise((resolve, reject) => {
      this.#child.once('error', (error) => reject(new Error(`${command}: ${error.message}`)));
      let elapsedMs = 0;
      this.#child.once('exit', () => {
        process.off('exit', orphaned);
        elapsedMs = performance.now() - startedAt;
      });
      this.#child.once('close', (code, signal) =>
        resolve({ code, signal, elapsedMs, stdout: this.#lines.join('\n'), stderr }),
      );
    });
    this.ended.catch(() => {});
  }

  /** The JSON line with this `event`, printed already or to come. Rejects when the program ends before. */
  async json(event: string, timeoutMs = 600_000): Promise<Record<string, unknown>> {
    const found = new Promise<Record<string, unknown>>((resolve) => {
      const look = (line: string): void => {
        if (!line.startsWith('{')) return;
        const value = JSON.parse(line) as Record<string, unknown>;
        if (value.event !== event) return;
        this.#waiters.delete(look);
        resolve(value);
      };
      this.#waiters.add(look);
      for (const line of this.#lines) look(line);
    });
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no ${event} within ${timeoutMs} ms`)), timeoutMs);
    });
    const gone = this.ended.then((end) => {
      throw new Error(`ended with ${end.code ?? end.signal} before ${event}: ${end.stderr}`);
    });
    return Promise.race([found, late, gone]).finally(() => clearTimeout(timer));
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<Ended> {
    this.#child.kill(signal);
    return this.ended;
  }
}
