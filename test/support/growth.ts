/** How the time of a function grows with its input: what tells linear from quadratic on a machine that does other things. */

/** Best of several, in ms: what else the machine does only adds. */
function best(run: () => void, times: number): number {
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < times; i++) {
    const began = process.cpuUsage();
    run();
    const { user, system } = process.cpuUsage(began);
    least = Math.min(least, (user + system) / 1000);
  }
  return least;
}

/** Below it no input of the sizes here is quadratic, and the clock says nothing. */
const NOTHING_MS = 2;

/**
 * Time at 2n octets over time at n; 0 when it is too short to tell, which nothing quadratic is from n = 8000 on (0.1 ns
 * per pair of octets are 25 ms).
 */
export function growth(run: (octets: number) => () => void, octets: number): number {
  const whole = run(2 * octets);
  // By the clock, which costs nothing to read; a run that was interrupted is looked at closer.
  const begin = performance.now();
  whole();
  if (performance.now() - begin < NOTHING_MS) return 0;
  // What is quadratic is so at every length; collection of garbage and compilation pass.
  let ratio = Number.POSITIVE_INFINITY;
  let half = run(octets);
  let twice = whole;
  for (let tries = 0, n = octets; tries < 3 && ratio >= 3; tries++) {
    ratio = Math.min(ratio, best(twice, 3) / Math.max(best(half, 3), NOTHING_MS / 4));
    half = twice;
    n *= 2;
    twice = run(2 * n);
  }
  return ratio;
}
