/** What changes about sources, for the event log: told once, and again when it is otherwise. */
import type { SourceFinding, SourceStanding } from './source-checks.ts';

export interface SourceChange {
  source: string;
  state: 'usable' | 'suspended';
  /** What was found out, and whether it is as it should be. */
  check: SourceFinding['check'];
  ok: boolean;
  detail: string;
}

export class SourceChanges {
  /** By source: what each check came to when it was last known. What was never known was good. */
  readonly #known = new Map<string, Map<SourceFinding['check'], boolean>>();

  /** Forgets sources that the config does not have any more. */
  keep(sources: Iterable<string>): void {
    const names = new Set(sources);
    for (const name of this.#known.keys()) if (!names.has(name)) this.#known.delete(name);
  }

  of({ source, present, findings }: SourceStanding): SourceChange[] {
    const known = this.#known.get(source) ?? new Map<SourceFinding['check'], boolean>();
    this.#known.set(source, known);
    const state = present ? 'usable' : 'suspended';
    const detail = present ? '' : (findings.find(({ check }) => check === 'address')?.detail ?? '');
    const all = [
      { check: 'address' as const, ok: present, detail },
      ...findings.filter(({ check }) => check !== 'address'),
    ];
    return all.flatMap((finding): SourceChange[] => {
      const { check, ok } = finding;
      if (ok === null || (known.get(check) ?? true) === ok) return [];
      known.set(check, ok);
      return [{ source, state, check, ok, detail: finding.detail }];
    });
  }
}
