/** What may be wrong with the names that say who belongs to which provider. */
import { domainForm, isDomainForm } from '../base/domain.ts';
import type { Place } from '../config/jsonc.ts';
import { Providers } from './providers.ts';
import type { Provider } from './shaping-data.ts';

export const MATCH_LISTS = ['mx_suffix', 'mx_exact', 'domain'] as const;

export interface MatchProblem {
  path: readonly PropertyKey[];
  message: string;
}

/** @param placeOf where a name stands. */
export function matchProblems(
  providers: readonly Provider[],
  placeOf: (path: readonly PropertyKey[]) => Place,
): MatchProblem[] {
  const problems: MatchProblem[] = [];
  const rules = new Providers(providers);
  const firstOf = new Map<string, readonly PropertyKey[]>();
  for (const { name, match } of providers) {
    for (const list of MATCH_LISTS)
      for (const [i, entry] of match[list].entries()) {
        const path = ['providers', name, 'match', list, i];
        const say = (message: string): void => void problems.push({ path, message });
        const before = firstOf.get(`${list} ${entry}`);
        if (!isDomainForm(entry)) say(wrongName(entry));
        else if (before !== undefined)
          say(`"${entry}" stands in ${lineOf(placeOf(before))} already (provider ${String(before[1])})`);
        else if (list === 'mx_exact') {
          const taken = rules.ofHost(entry);
          const end = endThat(entry, taken);
          if (end !== null)
            say(`can never match: mx_suffix "${end}" of provider ${taken?.name} takes this host first`);
        } else if (list === 'mx_suffix') {
          const above = match.mx_suffix.find((other) => entry.endsWith(`.${other}`));
          if (above !== undefined && rules.ofHost(entry.slice(entry.indexOf('.') + 1))?.name === name)
            say(`can never match: "${above}" of the same provider takes all that it could`);
        }
        if (before === undefined) firstOf.set(`${list} ${entry}`, path);
      }
  }
  return problems;
}

const lineOf = ({ file, line }: Place): string => `${file}:${line}`;

function wrongName(entry: string): string {
  const form = domainForm(entry.startsWith('.') ? entry.slice(1) : entry);
  const mend = form !== null && form !== entry && isDomainForm(form) ? ` (write "${form}")` : '';
  return `"${entry}" is no name of a host or domain in small letters; there are no patterns here${mend}`;
}

/** The end of names of MX hosts by which the provider has the host; null when it has it by no such end. */
const endThat = (host: string, provider: Provider | null): string | null =>
  provider?.match.mx_suffix.find((end) => host === end || host.endsWith(`.${end}`)) ?? null;
