/** Rules of operators as the control socket offers them, and the command line where no relay runs. */
import { steadyMs } from '../base/steady.ts';
import type { Config } from '../config/schema.ts';
import type { SuspensionRule } from '../mail/suspension.ts';
import { OrderBook } from '../suspensions/order-book.ts';
import { RuleFiles, suspensionsDir } from '../suspensions/rule-files.ts';

/** @param tell tells the relay processes of the host. @returns who could not be told. */
export const openBook = (config: Config, tell: (rules: SuspensionRule[]) => Promise<string[]>): OrderBook =>
  new OrderBook({
    files: new RuleFiles(suspensionsDir(config.data_dir)),
    clocks: { now: Date.now, steady: steadyMs },
    node: config.node_id,
    tell,
  });

/** The caller holds the lock of the data folder when it changes rules. */
export const openStoppedBook = async (config: Config): Promise<OrderBook> => openBook(config, async () => []);
