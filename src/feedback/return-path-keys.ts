/** The keys of return paths, read from the operator's file. */
import { fileFault } from '../base/file-fault.ts';
import { readRegularText } from '../base/regular-file.ts';
import type { Say } from '../config/say.ts';
import type { Config } from '../config/schema.ts';
import type { ReturnPathKeys } from '../mail/return-path.ts';

const MAX_FILE_BYTES = 65_536;
const MAX_SECRETS = 100;
const MIN_LENGTH = 16;

/** null: return paths are not in use. A text says what is wrong with the file. */
export function readReturnPathKeys({ return_path }: Config): ReturnPathKeys | null | string {
  const { domain, secrets_file: file, complaints_at: complaintsAt } = return_path;
  if (domain === '') return null;
  let text: string;
  try {
    text = readRegularText(file, MAX_FILE_BYTES);
  } catch (error) {
    return fileFault(file, error);
  }
  const lines = text.split(/\r?\n/).map((line) => line.trim());
  const secrets = lines.filter((line) => line !== '' && !line.startsWith('#'));
  if (secrets.length === 0) return `${file} has no key: \`openssl rand -hex 32\` makes one`;
  if (secrets.length > MAX_SECRETS) return `${file} has more than ${MAX_SECRETS} keys`;
  const short = lines.findIndex((line) => line !== '' && !line.startsWith('#') && line.length < MIN_LENGTH);
  if (short >= 0) return `${file}:${short + 1}: a key has ${MIN_LENGTH} characters at least`;
  return { domain, secrets, complaintsAt };
}

/** As a start and `config check` look at it. */
export function checkReturnPathKeys(config: Config, problem: Say): void {
  const keys = readReturnPathKeys(config);
  if (typeof keys === 'string') problem(['return_path', 'secrets_file'], keys);
}
