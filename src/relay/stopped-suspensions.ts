/** Rules of operators where no relay runs. The caller holds the lock of the data folder when it changes them. */
import { steadyMs } from '../base/steady.ts';
import type { Config } from '../config/schema.ts';
import { OrderBook } from '../suspensions/order-book.ts';
import { RuleFiles, suspensionsDir } from '../suspensions/rule-files.ts';

export async function openStoppedBook(config: Config): Promise<OrderBook> {
  return new OrderBook({
    files: new RuleFiles(suspensionsDir(config.data_dir)),
    clocks: { now: Date.now, steady: steadyMs },
    node: config.node_id,
    tell: async () => [],
  });
}
