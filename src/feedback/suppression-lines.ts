/** Lines of a CSV file as entries of the suppression list. */
import type { CsvRecord } from '../base/csv.ts';
import { printable } from '../base/printable.ts';
import { timeIn } from '../base/time-text.ts';
import { isAttributeText } from '../mail/attributes.ts';
import {
  MAX_DETAIL_LENGTH,
  SUPPRESSION_SOURCES,
  type Suppression,
  type SuppressionSource,
  writtenTarget,
} from '../mail/suppression.ts';
import { suppressionScope } from '../mail/suppression-scope.ts';

export interface LineDefaults {
  tenant: string;
  scope: string;
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

const COLUMNS = [
  'address',
  'tenant',
  'scope',
  'reason',
  'source',
  'detail',
  'created_at',
  'ends_at',
] as const;
type Column = (typeof COLUMNS)[number];

export class SuppressionLines {
  readonly #defaults: LineDefaults;
  /** Places of the columns, -1 for those that are not there; null before the first line. */
  #places: Record<Column, number> | null = null;
  /** What one line says after the other. */
  readonly #reasons = new Repeated(reasonOf);
  readonly #scopes = new Repeated(suppressionScope);

  constructor(defaults: LineDefaults) {
    this.#defaults = defaults;
  }

  /** @returns what is wrong with the line; null: it names the columns. */
  read({ fields }: CsvRecord): Suppression | string | null {
    if (fields === null) return 'it is no CSV, or too long';
    if (this.#places !== null) return this.#entry(fields, this.#places);
    const names = fields.map((field) =>
      field
        .replace(/^\uFEFF/, '')
        .trim()
        .toLowerCase(),
    );
    const known = names.map((name) => ALIASES[name] ?? name);
    const isHeader = known.includes('address');
    const columns: readonly string[] = isHeader ? known : ['address'];
    this.#places = Object.fromEntries(COLUMNS.map((name) => [name, columns.lastIndexOf(name)])) as Record<
      Column,
      number
    >;
    return isHeader ? null : this.#entry(fields, this.#places);
  }

  #entry(fields: readonly string[], places: Record<Column, number>): Suppression | string {
    const { tenant: ofTenant, scope: ofScope, reason: ofReason, nowMs, durationMs } = this.#defaults;
    const written = fields[places.address] ?? '';
    const target = writtenTarget(written.trim());
    if (target === null) return `${quoted(written)} is no address, and no domain`;
    const asked = fields[places.reason] ?? '';
    const reason = asked === '' ? '' : this.#reasons.of(asked);
    if (reason === null) return `${quoted(asked)} is no reason`;
    const tenant = (fields[places.tenant] ?? '').trim();
    if (tenant !== '' && !isAttributeText(tenant)) return `${quoted(tenant)} is no tenant`;
    const named = fields[places.scope] ?? '';
    const scope = named === '' ? ofScope : this.#scopes.of(named);
    if (scope === null) return `${quoted(named)} is no scope`;
    const created = fields[places.created_at] ?? '';
    const ends = fields[places.ends_at] ?? '';
    const createdAtMs = created === '' ? nowMs : timeIn(created);
    const expiresAtMs = ends === '' ? (durationMs === null ? null : nowMs + durationMs) : timeIn(ends);
    if (Number.isNaN(createdAtMs)) return `${quoted(created)} is no time`;
    if (Number.isNaN(expiresAtMs)) return `${quoted(ends)} is no time`;
    const source = fields[places.source] ?? '';
    const detail = fields[places.detail] ?? '';
    return {
      tenant: tenant === '' ? ofTenant : tenant,
      target,
      scope,
      reason: reason === '' ? ofReason : reason,
      source: source === '' ? 'import' : sourceOf(source),
      detail: detail === '' ? '' : printable(detail.slice(0, MAX_DETAIL_LENGTH)),
      createdAtMs,
      expiresAtMs,
    };
  }
}

/** Remembers what came of the last text. */
class Repeated {
  readonly #read: (text: string) => string | null;
  #text = '';
  #came: string | null = null;

  constructor(read: (text: string) => string | null) {
    this.#read = read;
  }

  of(text: string): string | null {
    if (text === this.#text) return this.#came;
    this.#text = text;
    this.#came = this.#read(text);
    return this.#came;
  }
}

const quoted = (text: string): string => JSON.stringify(text.slice(0, 100));

/** null: it is none. */
function reasonOf(text: string): string | null {
  const reason = text.trim().toLowerCase().replace(/[ -]/g, '_');
  return reason === '' || REASON.test(reason) ? reason : null;
}

const sourceOf = (text: string): SuppressionSource =>
  SUPPRESSION_SOURCES.find((source) => source === text) ?? 'import';
