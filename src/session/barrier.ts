/**
 * The barrier around each dialog: an error that nobody caught in it is our own fault and ends that dialog (421 4.3.0),
 * not the process and the dialogs of everybody else. It is logged with its stack, a bounded number a second, and
 * counted. What all sessions share is still trusted; an error that says it is broken, BrokenInvariant, is let pass.
 */
import { GAUGE, type Gauges } from '../admission/gauges.ts';
import { BrokenInvariant } from '../base/broken-invariant.ts';
import type { Log } from '../base/log.ts';
import type { Session } from './session.ts';

export class Barrier {
  readonly #gauges: Gauges;
  readonly #log: Log;

  constructor(gauges: Gauges, log: Log) {
    this.#gauges = gauges;
    this.#log = log;
  }

  /** Runs work of this dialog. @param at what the dialog was doing, for the log: one of a few fixed words. */
  guard(session: Session, at: string, work: () => void): void {
    try {
      work();
    } catch (error) {
      this.ends(session, at, error);
    }
  }

  /** Ends the dialog that the error came from. */
  ends(session: Session, at: string, error: unknown): void {
    this.report(session.id, session.client.address, at, error);
    try {
      session.breakOff();
    } catch (second) {
      this.report(session.id, session.client.address, 'end', second);
      session.context.port.close(session.connection, true);
    }
  }

  /** Counts and logs the error, also one that has no session. @throws BrokenInvariant when the error is one. */
  report(session: string, client: string, at: string, error: unknown): void {
    if (error instanceof BrokenInvariant) throw error;
    Atomics.add(this.#gauges, GAUGE.sessionFaults, 1);
    this.#log.error('session.fault', { session_id: session, client_address: client, at, error });
  }
}
