/** `protorelay config …`: checks a config, and prints the reference of all keys. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { printableLines } from '../base/printable.ts';
import { loadWithFiles } from '../load-with-files.ts';
import type { CommandLine } from './command-line.ts';

const ROOT = join(import.meta.dirname, '../..');

export function addConfig(program: Command, line: CommandLine): void {
  const config = program.command('config').description('check the config file, print its reference');
  config
    .helpCommand(false)
    .command('check [config]')
    .description('validate without starting: 0 good, 78 bad')
    .action(async (path: string | undefined) => {
      const { warnings, files } = await loadWithFiles(line.configPath(path));
      for (const warning of warnings) process.stdout.write(printableLines(`warning: ${warning}\n`));
      process.stdout.write(printableLines(`${files.join(', ')}: good\n`));
    });
  config
    .command('reference')
    .description('print docs/configuration.md, made from the schema')
    .option('--schema', 'print config/relay.schema.json instead', false)
    .option('--write', 'write both files, and docs/log.md', false)
    .action(({ schema, write }) => printReference(schema, write));
}

async function printReference(schema: boolean, write: boolean): Promise<void> {
  const { configurationPage, jsonSchema } = await import('../config/reference.ts');
  const { logPage } = await import('../base/log-page.ts');
  if (write) {
    writeFileSync(join(ROOT, 'docs/configuration.md'), configurationPage());
    writeFileSync(join(ROOT, 'config/relay.schema.json'), jsonSchema());
    writeFileSync(join(ROOT, 'docs/log.md'), logPage());
  } else process.stdout.write(schema ? jsonSchema() : configurationPage());
}
