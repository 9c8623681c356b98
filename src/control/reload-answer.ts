/** What became of a reload in the words of docs/words.md, as `reload --json` prints it. */
import type { ReloadAnswer } from './protocol.ts';

/** The lists have keys of the config; with problems nothing changed. */
export const reloadAnswer = ({
  problems,
  applied,
  needsRestart,
}: ReloadAnswer): { problems: string[]; applied: string[]; needs_restart: string[] } => ({
  problems,
  applied,
  needs_restart: needsRestart,
});
