/**
 * Time that only goes forward, at the pace of a clock, whatever becomes of the time of day: for durations, pauses, time
 * limits. Milliseconds since some moment of the past, the same for all threads and processes of the machine.
 */
const OFFSET_MS = Number(process.hrtime.bigint()) / 1e6 - performance.now();

export const steadyMs = (): number => Math.floor(OFFSET_MS + performance.now());

/** The time of day at a moment of steady time, as far as clocks say now: to be shown. */
export const timeOfDayMs = (atMs: number): number => Math.round(Date.now() + atMs - steadyMs());
