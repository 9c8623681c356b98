/**
 * Entry of the HTTP plane's process. It serves until its keeper says otherwise or is gone; signals from the terminal are for
 * the keeper.
 */
import type { AddressInfo } from 'node:net';
import { crashOnFaults } from '../base/crash.ts';
import { RelayError, startFault } from '../base/errors.ts';
import { EXIT, EXIT_OF_ERROR } from '../base/exit-codes.ts';
import { PinoLog } from '../base/pino-log.ts';
import { steadyMs } from '../base/steady.ts';
import { isLoopback } from '../config/http-rules.ts';
import type { Config } from '../config/schema.ts';
import { controlPathIn } from '../control/socket-path.ts';
import { readCertificate, watchCertificate } from '../http/certificate.ts';
import { createPlane, type Plane } from '../http/server.ts';
import { TokenBook } from '../http/token-file.ts';
import type { FromPlane, ToPlane } from './plane-messages.ts';

/** A token that was revoked is refused from then on, at most. */
const TOKENS_MS = 1000;
/** Requests under way have this long to end. */
const STOP_MS = 5000;

class PlaneProcess {
  readonly #config: Config;
  readonly #log: PinoLog;
  readonly #timers: NodeJS.Timeout[] = [];
  #plane: Plane | null = null;

  constructor(config: Config) {
    this.#config = config;
    this.#log = new PinoLog({ ...config.log, thread: 'http' });
    crashOnFaults(this.#log);
  }

  async run(): Promise<void> {
    try {
      await this.#open();
    } catch (error) {
      await this.#failed(error);
    }
  }

  async #open(): Promise<void> {
    const { http, tls, data_dir: dataDir } = this.#config;
    const tokens = new TokenBook(http.tokens_file);
    tokens.refresh();
    if (tokens.size === 0 && !isLoopback(http.host) && !http.behind_proxy) throw noTokens(http);
    const certificate = http.tls.cert_file === undefined ? null : readCertificate(http.tls);
    const plane = createPlane({
      config: this.#config,
      certificate,
      log: this.#log,
      tokens,
      controlPath: controlPathIn(dataDir),
      now: Date.now,
      steadyMs,
    });
    this.#plane = plane;
    await plane.app.listen({ host: http.host, port: http.port }).catch((error: Error) => {
      const text = `http cannot listen on ${http.host} port ${http.port}: ${error.message}`;
      throw new RelayError('listen_failed', text, error);
    });
    const { port } = plane.app.server.address() as AddressInfo;
    const host = http.host.includes(':') ? `[${http.host}]` : http.host;
    const address = `${certificate === null ? 'http' : 'https'}://${host}:${port}`;
    this.#every(TOKENS_MS, () => this.#refresh(tokens));
    if (certificate !== null && tls.watch_interval_ms > 0)
      this.#every(tls.watch_interval_ms, watchCertificate(http.tls, plane.app.server, this.#log));
    this.#log.info('http.ready', { address });
    send({ type: 'ready', address });
  }

  #every(ms: number, work: () => void): void {
    this.#timers.push(setInterval(work, ms));
  }

  #refresh(tokens: TokenBook): void {
    try {
      tokens.refresh();
    } catch (error) {
      this.#log.error('http.tokens_unreadable', { path: this.#config.http.tokens_file, error });
    }
  }

  reopenLog(): void {
    this.#log.reopen();
  }

  async stop(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    setTimeout(() => process.exit(EXIT.ok), STOP_MS).unref();
    await this.#plane?.close().catch((error: unknown) => this.#log.error('http.failed', { error }));
    this.#log.close();
    process.exit(EXIT.ok);
  }

  async #failed(error: unknown): Promise<never> {
    const fault = startFault(error);
    this.#log.error('http.start_failed', { error: fault ?? error });
    const code = fault?.code ?? 'internal';
    const message = fault?.message ?? String((error as Error)?.stack);
    await new Promise<void>((sent) => send({ type: 'failed', code, message }, sent));
    process.exit(fault === null ? EXIT.software : EXIT_OF_ERROR[fault.code]);
  }
}

function noTokens({ host, tokens_file: path }: Config['http']): RelayError {
  return new RelayError(
    'config_invalid',
    `http.host ${host} is reached from elsewhere, and there is no token in ${path}: make one with protorelay token create`,
  );
}

function send(message: FromPlane, sent: () => void = () => {}): void {
  process.send?.(message, undefined, undefined, sent);
}

let plane: PlaneProcess | null = null;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR1'] as const) process.on(signal, () => {});
// Without its keeper nobody would ever end it.
process.on('disconnect', () => process.exit(EXIT.ok));
process.on('message', (message: ToPlane) => {
  switch (message.type) {
    case 'start':
      plane = new PlaneProcess(message.config);
      void plane.run();
      break;
    case 'ping':
      send({ type: 'pong' });
      break;
    case 'reopen-log':
      plane?.reopenLog();
      break;
    case 'stop':
      if (plane === null) process.exit(EXIT.ok);
      void plane.stop();
      break;
    default:
      message satisfies never;
  }
});
send({ type: 'booted' });
