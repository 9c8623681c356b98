/** `protorelay config …`: checks a config, and prints the reference of all keys. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { EXIT, type ExitCode } from '../base/exit-codes.ts';
import { printableJson, printableLines } from '../base/printable.ts';
import { type Said, textOf } from '../config/problems.ts';
import { type Checked, checkConfig } from '../load-with-files.ts';
import type { CommandLine } from './command-line.ts';

const ROOT = join(import.meta.dirname, '../..');

export function addConfig(program: Command, line: CommandLine): void {
  const config = program.command('config').description('check the config file, print its reference');
  config
    .helpCommand(false)
    .command('check [config]')
    .description(
      'check a config, and on this machine what it names, without starting; ends with 0 when it is good, 78 when not',
    )
    .option('--offline', 'do not look up names, nor try to listen', false)
    .option('--json', 'print JSON', false)
    .action(async (path: string | undefined, options: CheckOptions) =>
      line.endsWith(await check(line, line.configPath(path), options)),
    );
  config
    .command('reference')
    .description('print docs/configuration.md, made from the schema')
    .option('--schema', 'print config/relay.schema.json instead', false)
    .option('--write', 'write both files, and docs/log.md', false)
    .action(({ schema, write }) => printReference(line, schema, write));
}

interface CheckOptions {
  offline: boolean;
  json: boolean;
}

async function check(line: CommandLine, path: string, { offline, json }: CheckOptions): Promise<ExitCode> {
  const checked = await checkConfig(path, { offline });
  line.out.write(json ? `${printableJson(JSON.stringify(checked.said, null, 2))}\n` : reportOf(checked));
  return checked.said.some(isError) ? EXIT.config : EXIT.ok;
}

const isError = ({ severity }: Said): boolean => severity === 'error';

/** What `config check` prints: a line for each finding, and a last one that sums up. */
export function reportOf({ said, files }: Checked): string {
  const lines = said.map((one) => `${one.severity}: ${textOf(one)}`);
  const errors = said.filter(isError).length;
  const verdict = errors === 0 ? 'good' : errors === 1 ? 'an error' : `${errors} errors`;
  return printableLines([...lines, `${files.join(', ')}: ${verdict}`, ''].join('\n'));
}

async function printReference({ out }: CommandLine, schema: boolean, write: boolean): Promise<void> {
  const { configurationPage, jsonSchema } = await import('../config/reference.ts');
  const { logPage } = await import('../base/log-page.ts');
  if (write) {
    writeFileSync(join(ROOT, 'docs/configuration.md'), configurationPage());
    writeFileSync(join(ROOT, 'config/relay.schema.json'), jsonSchema());
    writeFileSync(join(ROOT, 'docs/log.md'), logPage());
  } else out.write(schema ? jsonSchema() : configurationPage());
}
