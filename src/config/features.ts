/** What this version can do, read from the choices that the schema offers; for --version. */
import { configSchema } from './schema.ts';
import { inner, schemaAt } from './shape.ts';

const CHOICES = {
  database: ['database', 'driver'],
  storage: ['storage', 'provider'],
  scheduler: ['scheduler', 'engine'],
  ack: ['inbound_ack_mode'],
} as const;

export function features(): Record<string, string[]> {
  const result: Record<string, string[]> = {};
  for (const [name, path] of Object.entries(CHOICES)) {
    const schema = schemaAt(configSchema, path);
    const { entries } = (schema === null ? {} : inner(schema).def) as { entries?: Record<string, string> };
    result[name] = Object.values(entries ?? {});
  }
  return result;
}
