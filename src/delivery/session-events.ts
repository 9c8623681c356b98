/** Hands events of the reactor to the session that they belong to. */
import { EVENT } from '../native.ts';
import { readTlsFacts } from '../protocol/tls-facts.ts';
import type { ClientSession } from './client/session.ts';

/** In the text of an opened connection: listener, remote IP and port, local IP and port. */
const LOCAL_IP = 3;

/** Names of reactor events, for the log of faults. */
export const EVENT_NAMES: Readonly<Record<number, string>> = Object.fromEntries(
  Object.entries(EVENT).map(([name, number]) => [number, name]),
);

/** All but `closed`, which concerns more than the session. */
export function sessionEvent(
  session: ClientSession,
  kind: number,
  flags: number,
  a: number,
  b: number,
  text: Buffer,
): void {
  switch (kind) {
    case EVENT.line:
      session.line(text, a, b, flags);
      break;
    case EVENT.sent:
      session.sent();
      break;
    case EVENT.opened:
      session.opened(text.toString('latin1', a, a + b).split(' ')[LOCAL_IP] ?? '');
      break;
    case EVENT.timeout:
      session.timedOut();
      break;
    case EVENT.secured:
      session.secured(readTlsFacts(text.toString('latin1', a, a + b)));
      break;
    case EVENT.notSecured:
      session.notSecured(text.toString('latin1', a, a + b));
      break;
  }
}
