/** Sets of recipient numbers as runs: '0-9999', '0,2,5-7'. 10,000 recipients of one domain are one run. */

export type Run = [first: number, last: number];

/** Runs of consecutive numbers, ascending; duplicates are dropped. */
export function runsOf(seqs: readonly number[]): Run[] {
  if (seqs.length === 1) return [[seqs[0] as number, seqs[0] as number]];
  const sorted = isAscending(seqs) ? seqs : [...seqs].sort((a, b) => a - b);
  const runs: Run[] = [];
  let run: Run | null = null;
  for (const seq of sorted) {
    if (run !== null && seq <= run[1] + 1) run[1] = Math.max(run[1], seq);
    else {
      run = [seq, seq];
      runs.push(run);
    }
  }
  return runs;
}

function isAscending(seqs: readonly number[]): boolean {
  for (let i = 1; i < seqs.length; i++) if ((seqs[i] as number) < (seqs[i - 1] as number)) return false;
  return true;
}

export function runsText(runs: readonly Run[]): string {
  let text = '';
  for (const [first, last] of runs) {
    if (text !== '') text += ',';
    text += first === last ? `${first}` : `${first}-${last}`;
  }
  return text;
}

export function seqsText(seqs: readonly number[]): string {
  return seqs.length === 1 ? String(seqs[0]) : runsText(runsOf(seqs));
}

export function parseRuns(text: string): Run[] {
  if (text === '') return [];
  return text.split(',').map((part) => {
    const dash = part.indexOf('-');
    if (dash < 0) return [Number(part), Number(part)];
    return [Number(part.slice(0, dash)), Number(part.slice(dash + 1))];
  });
}

/** All numbers of the runs, ascending. */
export function seqsOf(runs: readonly Run[]): number[] {
  const seqs: number[] = [];
  for (const [first, last] of runs) for (let seq = first; seq <= last; seq++) seqs.push(seq);
  return seqs;
}
