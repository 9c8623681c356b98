/**
 * The rules for replies of one relay process, for its delivery threads. What an operator wrote was checked when the config
 * was loaded (load-with-files.ts): here it is read only.
 */
import { RelayError } from '../base/errors.ts';
import type { Config } from '../config/schema.ts';
import { type RulesText, readRulesTexts } from '../feedback/rules-text.ts';

export class RelayReplies {
  texts: readonly RulesText[];

  /** @throws RelayError config_invalid when a file cannot be read. */
  constructor({ replies }: Config) {
    this.texts = readRulesTexts(replies.file);
  }

  /** Reads the files again. @returns what is wrong with them: then the rules stay as they were. */
  reconfigure({ replies }: Config): string[] {
    try {
      this.texts = readRulesTexts(replies.file);
      return [];
    } catch (error) {
      if (!(error instanceof RelayError)) throw error;
      return [`replies.file: ${error.message}`];
    }
  }
}
