/**
 * Puts the relay into a simulated world, by what its modules import: the connector of the database, threads,
 * sockets, timers and what measures the machine are the simulation's; everything else, from relay/ to the SQL, is
 * the program itself. And spoils it on demand: a mutation replaces one line, to see that the simulation notices.
 */
import { registerHooks } from 'node:module';
import { takeOverTime } from './clock.ts';
import { MUTATIONS } from './mutations.ts';

const at = (file: string): string => new URL(file, import.meta.url).href;

/** What a module of src imports → what it gets. */
const STAND_INS: [RegExp, string][] = [
  [/^mariadb$/, at('./connector.ts')],
  [/^node:timers\/promises$/, at('./timers-promises.ts')],
  [/\/session-threads\.ts$/, at('./parts.ts')],
  [/\/delivery-threads\.ts$/, at('./deliveries.ts')],
  [
    /\/(listener\/listener|report\/events|admission\/pressure|base\/data-dir|tls\/tls-contexts)\.ts$/,
    at('./parts.ts'),
  ],
  [/\/persistence\/database-client\.ts$/, at('./pool.ts')],
];
const SRC = new URL('../../../src/', import.meta.url).href;

/** Before anything of src is imported. @param mutation name of one of MUTATIONS. */
export function enterSimulation(mutation?: string): void {
  const spoiled = mutation === undefined ? null : MUTATIONS[mutation];
  if (spoiled === undefined) throw new Error(`no mutation is named ${mutation}`);
  takeOverTime();
  registerHooks({
    resolve(specifier, context, next) {
      if (context.parentURL?.startsWith(SRC)) {
        // The composition root makes the memory for content; everybody else only needs the constants.
        if (context.parentURL === `${SRC}relay/stages.ts` && specifier === '../native.ts')
          return next(at('./native.ts'), context);
        if (context.parentURL === `${SRC}persistence/unsettled-file.ts` && specifier === 'node:fs/promises')
          return next(at('./files.ts'), context);
        for (const [pattern, url] of STAND_INS) if (pattern.test(specifier)) return next(url, context);
      }
      return next(specifier, context);
    },
    load(url, context, next) {
      const loaded = next(url, context);
      if (spoiled === null || url !== SRC + spoiled.file) return loaded;
      const source = String(loaded.source);
      if (source.split(spoiled.line).length !== 2)
        throw new Error(`src/${spoiled.file} has not exactly one "${spoiled.line}": see mutations.ts`);
      return { ...loaded, source: source.replace(spoiled.line, () => spoiled.becomes) };
    },
  });
}
