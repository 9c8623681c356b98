/** The bans of a relay that is not running: its file, changed in place. The caller holds the lock of the data folder. */
import { dirname } from 'node:path';
import { formatNetwork } from '../base/ip.ts';
import { makeFolder } from '../base/make-folder.ts';
import { readBans, writeBansSync } from './ban-file.ts';
import type { Ban } from './ban-table.ts';
import { bansPath, networkOf, operatorBan } from './keeper.ts';

export class StoppedBans {
  readonly #path: string;
  readonly #now: () => number;

  constructor(dataDir: string, now: () => number) {
    this.#path = bansPath(dataDir);
    this.#now = now;
  }

  list(): Ban[] {
    return readBans(this.#path).records.filter(({ untilMs }) => untilMs > this.#now());
  }

  /** @throws RelayError when the text is no address or network. */
  add(text: string, durationMs: number | null): Ban {
    const ban = operatorBan(text, durationMs, this.#now());
    makeFolder(dirname(this.#path), 0o700);
    writeBansSync(this.#path, [...this.#others(ban.network), ban]);
    return ban;
  }

  delete(text: string): boolean {
    const network = formatNetwork(networkOf(text));
    const held = this.list().some((ban) => ban.network === network);
    if (held) writeBansSync(this.#path, this.#others(network));
    return held;
  }

  #others(network: string): Ban[] {
    return readBans(this.#path).records.filter((ban) => ban.network !== network);
  }
}
