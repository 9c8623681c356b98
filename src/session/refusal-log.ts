/** The log line of a refusal, by its weight. */
import type { Reply } from '../protocol/reply.ts';
import type { Session } from './session.ts';

export function logRefusal({ context, id, client }: Session, { reason, line, code }: Reply): void {
  const { log } = context;
  const fields = { session_id: id, client_address: client.address, reason, reply: line.trimEnd() };
  // Refusals for want of room come by the thousand when it is short, and the pressure is logged elsewhere.
  if (code >= 500 || code === 421) log.info('session.refused', fields);
  else log.debug('session.refused', fields);
}
