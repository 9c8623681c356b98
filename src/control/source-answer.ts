/** A source in the words of docs/words.md, as `source list --json` prints it. */
import type { SourceReport } from '../egress/source-report.ts';
import { textOrNull, timeOf } from './words.ts';

export interface SourceAnswer {
  name: string;
  /** null: the one the system chooses. */
  address: string | null;
  /** null: that of `delivery.ehlo_name`. */
  ehlo_name: string | null;
  proxy: string | null;
  state: SourceReport['state'];
  reason: string | null;
  pools: string[];
  /** null: not checked yet. */
  checked_at: string | null;
  /** `ok` is null where DNS gave no answer. */
  checks: { check: string; ok: boolean | null; detail: string | null }[];
}

export const sourceAnswer = (report: SourceReport): SourceAnswer => ({
  name: report.name,
  address: textOrNull(report.address),
  ehlo_name: textOrNull(report.ehloName),
  proxy: textOrNull(report.proxy),
  state: report.state,
  reason: textOrNull(report.reason),
  pools: report.pools,
  checked_at: report.checkedAtMs === 0 ? null : timeOf(report.checkedAtMs),
  checks: report.findings.map(({ check, ok, detail }) => ({ check, ok, detail: textOrNull(detail) })),
});
