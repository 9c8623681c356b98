/** What relay processes have learned of peers, as `shaping show` prints it: read from their files, so whether they run or not. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { keyOf } from '../shaping/adaptive/keys.ts';
import { LEARNED_FILE, readLearned } from '../shaping/adaptive/learned-file.ts';
import { RateControl } from '../shaping/adaptive/rate-control.ts';
import type { AdaptiveSettings } from '../shaping/adaptive/settings.ts';

export interface ShownLearned {
  scope: string;
  value: string;
  /** `climbing`, `probing` (one message is tried now and then), `blocked`, `doubling`, `free`. */
  phase: string;
  /** Null: no limit. */
  messages_per_s: number | null;
  connections: number | null;
  /** Nothing goes before; null: it is open. */
  closed_until: string | null;
  /** The last refusal. */
  reply: string;
  /** The folder of the relay process. */
  folder: string;
}

/** The data folder of a host, and those of its other relay processes. */
export function processFolders(dataDir: string): string[] {
  let names: string[] = [];
  try {
    names = readdirSync(dataDir).filter((name) => /^process-\d+$/.test(name));
  } catch {
    // A relay that never ran has no folder, and nothing to show.
  }
  return [dataDir, ...names.map((name) => join(dataDir, name))];
}

/** By site. */
export function learnedBySite(
  dataDir: string,
  settings: AdaptiveSettings,
  nowMs: number,
): Map<string, ShownLearned[]> {
  const bySite = new Map<string, ShownLearned[]>();
  for (const folder of processFolders(dataDir))
    for (const { key: text, rate, connections, reply } of readLearned(join(folder, LEARNED_FILE)).records) {
      const key = keyOf(text);
      if (key === null) continue;
      const control = new RateControl(settings, () => settings.bounds(key.site), nowMs);
      if (rate !== null) control.restore(rate, 0, nowMs);
      const { phase, closedUntilMs } = control.limit();
      const shown = {
        scope: key.scope,
        value: key.value,
        phase,
        messages_per_s: Number.isFinite(control.perS) ? Math.round(control.perS * 1000) / 1000 : null,
        connections,
        closed_until: closedUntilMs > nowMs ? new Date(closedUntilMs).toISOString() : null,
        reply,
        folder,
      };
      bySite.set(key.site, [...(bySite.get(key.site) ?? []), shown]);
    }
  return bySite;
}

/** A line for each. */
export function learnedLines(learned: readonly ShownLearned[]): string[] {
  return learned.map(({ scope, value, phase, messages_per_s, connections, closed_until, reply }) => {
    const rate = messages_per_s === null ? [] : [`${messages_per_s} messages/s`];
    const most = connections === null ? [] : [`${connections} connections`];
    const closed = closed_until === null ? [] : [`closed until ${closed_until}`];
    return `  learned: ${scope} ${value === '' ? '(default)' : value} ${phase}: ${[...rate, ...most, ...closed].join(', ')} (${reply})`;
  });
}
