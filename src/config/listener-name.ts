/** What a listener is called in events and by operators who select mail by it. */
import type { Config } from './schema.ts';

/** As `listeners[].name` may be. */
const MAX_LENGTH = 64;

export function listenerName({
  name,
  host,
  port,
  path,
  fd_name: fdName,
}: Config['listeners'][number]): string {
  if (name !== undefined) return name;
  if (path !== undefined) return path.slice(-MAX_LENGTH);
  if (fdName !== undefined) return fdName;
  return `${host?.includes(':') ? `[${host}]` : host}:${port}`.slice(-MAX_LENGTH);
}
