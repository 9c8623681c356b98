/** Lines of a CSV file as entries of the suppression list. */
import type { CsvRecord } from '../base/csv.ts';
import { printable } from '../base/printable.ts';
import { timeIn } from '../base/time-text.ts';
import { isAttributeText } from '../mail/attributes.ts';
import {
  MAX_DETAIL_LENGTH,
  SCOPE_ALL,
  SUPPRESSION_SOURCES,
  type Suppression,
  type SuppressionSource,
  suppressionTarget,
} from '../mail/suppression.ts';

export interface LineDefaults {
  tenant: string;
  reason: string;
  /** null: lines that name no end hold for ever. */
  durationMs: number | null;
  nowMs: number;
}

const REASON = /^[a-z][a-z0-9_]{0,63}$/;
/** What other senders call these columns. */
const ALIASES: Readonly<Record<string, string>> = {
  email: 'address',
  recipient: 'address',
  created: 'created_at',
};

export class SuppressionLines {
  readonly #defaults: LineDefaults;
  /** Places of the columns; null before the first line. */
  #columns: Map<string, number> | null = null;

  constructor(defaults: LineDefaults) {
    this.#defaults = defaults;
  }

  /** @returns what is wrong with the line; null: it names the columns. */
  read({ fields }: CsvRecord): Suppression | string | null {
    if (fields === null) return 'it is no CSV, or too long';
    if (this.#columns === null) {
      const names = fields.map((field) =>
        field
          .replace(/^\uFEFF/, '')
          .trim()
          .toLowerCase(),
      );
      const known = names.map((name) => ALIASES[name] ?? name);
      if (known.includes('address')) {
        this.#columns = new Map(known.map((name, i) => [name, i]));
        return null;
      }
      this.#columns = new Map([['address', 0]]);
    }
    return this.#entry(fields);
  }

  #entry(fields: readonly string[]): Suppression | string {
    const columns = this.#columns as Map<string, number>;
    const of = (name: string): string => fields[columns.get(name) ?? -1] ?? '';
    const { nowMs, durationMs } = this.#defaults;
    const written = of('address');
    const target = suppressionTarget(written.trim());
    if (target === null) return `${JSON.stringify(written.slice(0, 100))} is no address, and no domain`;
    // The usual file has addresses only.
    const isPlain = columns.size === 1;
    const reason = isPlain ? '' : of('reason').trim().toLowerCase().replace(/[ -]/g, '_');
    if (reason !== '' && !REASON.test(reason)) return `${JSON.stringify(reason.slice(0, 100))} is no reason`;
    const created = isPlain ? '' : of('created_at');
    const ends = isPlain ? '' : of('ends_at');
    const tenant = isPlain ? '' : of('tenant').trim();
    if (tenant !== '' && !isAttributeText(tenant))
      return `${JSON.stringify(tenant.slice(0, 100))} is no tenant`;
    const createdAtMs = created === '' ? nowMs : timeIn(created);
    const expiresAtMs = ends === '' ? (durationMs === null ? null : nowMs + durationMs) : timeIn(ends);
    if (Number.isNaN(createdAtMs)) return `${JSON.stringify(created.slice(0, 100))} is no time`;
    if (Number.isNaN(expiresAtMs)) return `${JSON.stringify(ends.slice(0, 100))} is no time`;
    return {
      tenant: tenant === '' ? this.#defaults.tenant : tenant,
      target,
      scope: SCOPE_ALL,
      reason: reason === '' ? this.#defaults.reason : reason,
      source: isPlain ? 'import' : sourceOf(of('source')),
      detail: isPlain ? '' : printable(of('detail').slice(0, MAX_DETAIL_LENGTH)),
      createdAtMs,
      expiresAtMs,
    };
  }
}

const sourceOf = (text: string): SuppressionSource =>
  SUPPRESSION_SOURCES.find((source) => source === text) ?? 'import';
