/**
 * The rules in the host's data folder, a file each, which all relay processes of the host read: they outlive a restart,
 * and a database that is away. A file is replaced as a whole and changes only once, so that writers need no lock.
 */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  fsyncSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { makeFolder } from '../base/make-folder.ts';
import { readRegularText } from '../base/regular-file.ts';
import type { SuspensionRule } from '../mail/suspension.ts';
import { isRuleId, readRule, ruleText } from './rule-form.ts';

export const suspensionsDir = (dataDir: string): string => join(dataDir, 'suspensions');

const FILE = /^([0-9a-z]{1,16})\.json$/;
const MAX_FILE_BYTES = 1_048_576;
/** A folder that changed so lately may change again without a later time of change. */
const FRESH_MS = 2000;

export interface FilesRead {
  rules: SuspensionRule[];
  /** Files that are no rules, and why; the folder itself, when it cannot be read. */
  damaged: { path: string; why: string }[];
}

export class RuleFiles {
  readonly #dir: string;
  #seenMs = Number.NaN;

  /** @param dir folder of the rules; made with the first rule. */
  constructor(dir: string) {
    this.#dir = dir;
  }

  /** All rules. null: the folder is as it was when it was read last. */
  readChanged(): FilesRead | null {
    const changedMs = this.#changedMs();
    if (changedMs === this.#seenMs && Date.now() - changedMs > FRESH_MS) return null;
    const read = this.read();
    this.#seenMs = changedMs;
    return read;
  }

  read(): FilesRead {
    const found: FilesRead = { rules: [], damaged: [] };
    for (const name of this.#names(found)) {
      const path = join(this.#dir, name);
      try {
        const rule = readRule(readRegularText(path, MAX_FILE_BYTES));
        if (`${rule.id}.json` !== name) throw new Error(`its id is ${rule.id}`);
        found.rules.push(rule);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') continue;
        found.damaged.push({ path, why: (error as Error).message });
      }
    }
    return found;
  }

  #names(found: FilesRead): string[] {
    try {
      return readdirSync(this.#dir).filter((name) => FILE.test(name));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
        found.damaged.push({ path: this.#dir, why: (error as Error).message });
      return [];
    }
  }

  #changedMs(): number {
    try {
      return statSync(this.#dir).mtimeMs;
    } catch {
      return 0;
    }
  }

  /** @throws the Error of the file system; then the rule is as it was. */
  write(rules: readonly SuspensionRule[]): void {
    if (rules.length === 0) return;
    makeFolder(this.#dir, 0o700);
    for (const rule of rules) {
      const path = this.#path(rule.id);
      const fresh = `${path}.${randomBytes(4).toString('hex')}`;
      try {
        writeFileSync(fresh, ruleText(rule), { mode: 0o600, flush: true });
        renameSync(fresh, path);
      } catch (error) {
        rmSync(fresh, { force: true });
        throw error;
      }
    }
    const folder = openSync(this.#dir, 'r');
    fsyncSync(folder);
    closeSync(folder);
  }

  delete(id: string): void {
    rmSync(this.#path(id), { force: true });
  }

  /** Moves files that are no rules out of the way, as `NAME.damaged`. */
  setAside(damaged: FilesRead['damaged']): void {
    for (const { path } of damaged) renameSync(path, `${path}.damaged`);
  }

  #path(id: string): string {
    if (!isRuleId(id)) throw new Error(`${id} is no id of a rule`);
    return join(this.#dir, `${id}.json`);
  }
}
