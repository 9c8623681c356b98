/**
 * What operators ordered for warm-ups (`protorelay warmup set|pause`): a file in the host's data folder, one JSON object a line. Relay
 * processes look whether it is another one, so an order holds for all of them, and for one that is not running when it starts.
 */
import { statSync } from 'node:fs';
import { changeFile } from '../../base/changed-file.ts';
import { readRecordLines } from '../../base/record-lines.ts';

export const ORDERS_FILE = 'warmup-orders.jsonl';
const MAX_ORDERS = 1000;
const MAX_FILE_BYTES = 4_194_304;

export interface WarmUpOrder {
  /** Time of day; no two orders have the same. */
  at_ms: number;
  source: string;
  /** A provider or site; '*' for all of the source. */
  provider: string;
  action: 'set' | 'pause' | 'resume';
  /** For set, from 0. */
  step: number;
  /** For pause. */
  reason: string;
}

/** @returns none where there is no file; lines that are no orders are passed over. */
export const readOrders = (path: string): WarmUpOrder[] =>
  readRecordLines(path, orderIn, MAX_FILE_BYTES).records;

function orderIn(line: string): WarmUpOrder | null {
  let value: Partial<WarmUpOrder> | null;
  try {
    value = JSON.parse(line);
  } catch {
    return null;
  }
  const { at_ms, source, provider, action, step, reason } = value ?? {};
  const isOrder =
    Number.isSafeInteger(at_ms) &&
    [source, provider, reason].every((text) => typeof text === 'string') &&
    ['set', 'pause', 'resume'].includes(action as string) &&
    Number.isSafeInteger(step) &&
    (step as number) >= 0;
  return isOrder ? (value as WarmUpOrder) : null;
}

/** Adds the order. @returns it with its time. @throws as `changeFile` */
export function addOrder(path: string, order: Omit<WarmUpOrder, 'at_ms'>, nowMs: number): WarmUpOrder {
  let at_ms = nowMs;
  changeFile(path, () => {
    const before = readOrders(path);
    at_ms = Math.max(nowMs, 1 + Math.max(0, ...before.map((one) => one.at_ms)));
    const all = [...before, { ...order, at_ms }].slice(-MAX_ORDERS);
    return all.map((one) => `${JSON.stringify(one)}\n`).join('');
  });
  return { ...order, at_ms };
}

/** Says which file lies there: another text when it was replaced. */
export function ordersMark(path: string): string {
  const stats = statSync(path, { throwIfNoEntry: false });
  return stats === undefined ? '' : `${stats.ino} ${stats.mtimeMs} ${stats.size}`;
}
