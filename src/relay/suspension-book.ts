/** Rules of operators as the control socket offers them, and the command line where no relay runs. */
import { silentLog } from '../base/log.ts';
import { steadyMs } from '../base/steady.ts';
import type { Config } from '../config/schema.ts';
import type { SuspensionRule } from '../mail/suspension.ts';
import { OrderBook } from '../suspensions/order-book.ts';
import { RuleFiles, suspensionsDir } from '../suspensions/rule-files.ts';
import { Suspensions } from '../suspensions/suspensions.ts';
import { openStoppedServers } from './database.ts';
import { shardRules } from './suspensions.ts';

/** @param tell tells the relay processes of the host. @returns who could not be told. */
export const openBook = (config: Config, tell: (rules: SuspensionRule[]) => Promise<string[]>): OrderBook =>
  new OrderBook({
    files: new RuleFiles(suspensionsDir(config.data_dir)),
    clocks: { now: Date.now, steady: steadyMs },
    node: config.node_id,
    tell,
  });

interface StoppedBook {
  book: OrderBook;
  close(): Promise<void>;
}

/** Where no relay runs. The caller holds the lock of the data folder when it changes rules. */
export async function openStoppedBook(config: Config): Promise<StoppedBook> {
  if (config.database.driver === 'sqlite')
    return { book: openBook(config, async () => []), async close() {} };
  const servers = openStoppedServers(config);
  const rules = new Suspensions({
    files: new RuleFiles(suspensionsDir(config.data_dir)),
    shards: shardRules(servers, silentLog),
    clocks: { now: Date.now, steady: steadyMs },
    log: silentLog,
    async changed() {},
  });
  await rules.load();
  return {
    book: openBook(config, (news) => rules.take(news)),
    async close() {
      rules.stop();
      await servers.close();
    },
  };
}
