/** A file of rules as it was read. It crosses between threads; who compiles it is in compiled-rules.ts. */
import { join } from 'node:path';
import { RelayError } from '../base/errors.ts';
import { readRegularText } from '../base/regular-file.ts';

/** Those of the installation. */
export const SHIPPED_RULES = join(import.meta.dirname, '../../config/replies.json');

const MAX_FILE_BYTES = 4_194_304;

export interface RulesText {
  file: string;
  text: string;
  /** Whether an operator wrote it: then its rules may bounce a 4xx. */
  isOwn: boolean;
}

/** @throws RelayError config_invalid when it cannot be read. */
export function readRulesText(file: string): RulesText {
  try {
    return { file, text: readRegularText(file, MAX_FILE_BYTES), isOwn: file !== SHIPPED_RULES };
  } catch (error) {
    throw new RelayError('config_invalid', `${file}: cannot be read: ${(error as Error).message}`);
  }
}

/** The operator's rules, if there are any ('' for none), and those of the installation. @throws RelayError config_invalid */
export const readRulesTexts = (own: string): RulesText[] =>
  (own === '' ? [SHIPPED_RULES] : [own, SHIPPED_RULES]).map(readRulesText);
