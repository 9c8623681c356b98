/**
 * Time that only goes forward, however the time of day is set: for durations, pauses and time limits. Milliseconds since
 * some moment in the past, the same for all threads and processes of the machine.
 */
// The global of this name is a getter, which costs half as much as the clock; it is asked several times for each message.
import { performance } from 'node:perf_hooks';

const OFFSET_MS = Number(process.hrtime.bigint()) / 1e6 - performance.now();

export const steadyMs = (): number => Math.floor(OFFSET_MS + performance.now());

/** The time of day at a moment of steady time, by the clock as it is set now: to be shown. */
export const timeOfDayMs = (atMs: number): number => Math.round(Date.now() + atMs - steadyMs());
