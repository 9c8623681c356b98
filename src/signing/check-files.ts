/** The files of DKIM keys, as a start and `config check` look at them. */
import type { Say } from '../config/say.ts';
import type { Config } from '../config/schema.ts';
import { isOpenToAll, readKeyFile, refusalOf, weaknessOf } from './key-file.ts';

export function checkKeyFiles({ dkim }: Config, problem: Say, warning: Say): void {
  if (!dkim.enabled) return;
  for (const [i, { file, domain }] of dkim.keys.entries()) {
    const at = ['dkim', 'keys', i, 'file'];
    const key = readKeyFile(file);
    if (typeof key === 'string') {
      // One file must not keep all other mail from going out.
      const mend = `mail of ${domain} is not signed with it; without another key dkim.on_error says what becomes of it`;
      warning(at, key, mend);
      continue;
    }
    if (refusalOf(key) !== '')
      problem(at, `${file} ${refusalOf(key)}`, 'protorelay dkim generate makes a longer one');
    else if (weaknessOf(key) !== '') warning(at, `${file} ${weaknessOf(key)}`);
    if (isOpenToAll(file)) warning(at, `${file} can be read by everybody on this machine`, 'chmod 600');
  }
}
