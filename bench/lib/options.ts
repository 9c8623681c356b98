/** Command lines of the benchmark programs: one table per program gives parsing, checks and --help. */
import { parseArgs } from 'node:util';

export interface OptionSpec {
  kind: 'number' | 'text' | 'flag' | 'list';
  default?: number | string | boolean;
  help: string;
}

export type OptionTable = Record<string, OptionSpec>;

type ValueOf<S extends OptionSpec> = S['kind'] extends 'number'
  ? number
  : S['kind'] extends 'flag'
    ? boolean
    : S['kind'] extends 'list'
      ? string[]
      : string;

export type Options<T extends OptionTable> = { [K in keyof T]: ValueOf<T[K]> };

/** Reads argv by the table. Prints help and ends with 0 on --help; names the fault and ends with 64 on nonsense. */
export function readOptions<const T extends OptionTable>(
  program: string,
  about: string,
  table: T,
): Options<T> {
  const spec: Record<string, { type: 'string' | 'boolean'; multiple: boolean }> = {};
  for (const [name, option] of Object.entries(table)) {
    spec[name] = { type: option.kind === 'flag' ? 'boolean' : 'string', multiple: option.kind === 'list' };
  }
  let given: Record<string, unknown>;
  try {
    const options = { ...spec, help: { type: 'boolean' as const, short: 'h', multiple: false } };
    given = parseArgs({ options, strict: true }).values;
  } catch (error) {
    return fail(program, (error as Error).message);
  }
  if (given.help) {
    process.stdout.write(helpText(program, about, table));
    process.exit(0);
  }
  const values: Record<string, unknown> = {};
  for (const [name, option] of Object.entries(table)) {
    const value = given[name];
    if (option.kind === 'list') values[name] = value ?? [];
    else if (value === undefined) values[name] = option.default ?? (option.kind === 'flag' ? false : '');
    else if (option.kind !== 'number') values[name] = value;
    else if (Number.isFinite(Number(value)) && Number(value) >= 0 && value !== '')
      values[name] = Number(value);
    else fail(program, `--${name} ${value}: a number ≥ 0 is needed`);
  }
  return values as Options<T>;
}

/** Says what is wrong and ends with the exit code of a usage error. */
export function fail(program: string, message: string): never {
  process.stderr.write(`${program}: ${message}\nTry ${program} --help.\n`);
  process.exit(64);
}

function helpText(program: string, about: string, table: OptionTable): string {
  const lines = Object.entries(table).map(([name, option]) => {
    const value = option.kind === 'flag' ? '' : option.kind === 'number' ? ' N' : ' TEXT';
    const given = option.default === undefined || option.default === '' ? '' : ` (default ${option.default})`;
    return `  ${`--${name}${value}`.padEnd(24)}${option.help}${given}`;
  });
  return `${program}: ${about}\n\n${lines.join('\n')}\n  ${'--help, -h'.padEnd(24)}this text\n`;
}
