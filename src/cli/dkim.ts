/** `protorelay dkim …`: makes keys, prints their records, and compares them with what DNS has. */
import { type Command, Option } from 'commander';
import { domainForm, isDomainForm } from '../base/domain.ts';
import { EXIT } from '../base/exit-codes.ts';
import { wholeNumber } from './arguments.ts';
import type { CommandLine } from './command-line.ts';
import type { KeyPlace } from './dkim-keys.ts';

const GENERATE_HELP = `
Writes the private key (PEM, readable by its owner only) to FILE, never over a file that is there, and prints the record to
publish and the entry for dkim.keys. Exit codes: 0 made, 64 wrong arguments, 73 FILE is there or cannot be written.`;

const WHICH_HELP = `
Without options: all keys of dkim.keys in the config. With --file, --domain and --selector: that key, in the config or not.`;

const CHECK_HELP = `${WHICH_HELP}
Exit codes: 0 DNS shows every key, 65 it does not show one or a file cannot be used, 75 DNS does not answer.`;

interface Chosen {
  domain?: string;
  selector?: string;
  file?: string;
  json: boolean;
}

export function addDkim(program: Command, line: CommandLine): void {
  const dkim = program.command('dkim').description('keys of DKIM signatures').helpCommand(false);
  dkim
    .command('generate')
    .description('make a key')
    .requiredOption('--domain <domain>', 'domain that will sign')
    .requiredOption('--selector <selector>', 'selector: the record stands at SELECTOR._domainkey.DOMAIN')
    .requiredOption('--out <file>', 'file for the private key')
    .addOption(new Option('--algorithm <type>', 'type of key').choices(['rsa', 'ed25519']).default('rsa'))
    .option('--bits <bits>', 'of an RSA key: 1024 to 4096 (default: 2048)', wholeNumber)
    .option('--json', 'print JSON', false)
    .addHelpText('after', GENERATE_HELP)
    .action(async ({ domain, selector, out, algorithm, bits, json }) => {
      const { generateKey } = await import('./dkim-keys.ts');
      if (algorithm !== 'rsa' && bits !== undefined)
        line.usage('--bits is for RSA keys: Ed25519 has one length');
      if (bits !== undefined && (bits < 1024 || bits > 4096)) line.usage('--bits must be 1024 to 4096');
      const place = placeOf(line, domain, selector);
      line.endsWith(
        generateKey({ ...place, file: out, algorithm, bits: bits ?? 2048 }, json, line.out, line.err),
      );
    });
  chosen(dkim.command('dns').description('print the records of keys, as a zone file has them'))
    .addHelpText('after', `${WHICH_HELP}\nExit codes: 0 printed, 65 a file cannot be used.`)
    .action(async (options: Chosen) => {
      const { printRecords } = await import('./dkim-keys.ts');
      const places = await placesOf(line, options);
      if (places === null) return;
      line.endsWith(printRecords(places, options.json, line.out, line.err));
    });
  chosen(dkim.command('check').description('compare DNS with the files of keys'))
    .addHelpText('after', CHECK_HELP)
    .action(async (options: Chosen) => {
      const { checkRecords } = await import('./dkim-keys.ts');
      const { Dns } = await import('../delivery/names/dns.ts');
      const { configFor } = await import('../config/load.ts');
      const places = await placesOf(line, options);
      if (places === null) return;
      const dns = new Dns(configFor(['dns'], line.configPath()).dns);
      line.endsWith(await checkRecords(places, (name) => dns.txt(name), options.json, line.out));
    });
}

const chosen = (command: Command): Command =>
  command
    .option('--domain <domain>', 'keys of this domain only')
    .option('--selector <selector>', 'keys with this selector only')
    .option('--file <file>', 'this file, with --domain and --selector')
    .option('--json', 'print JSON', false);

function placeOf(line: CommandLine, domain: string, selector: string): Omit<KeyPlace, 'file'> {
  const form = domainForm(domain);
  if (form === null || !isDomainForm(form)) line.usage(`"${domain}" is no domain`);
  if (!/^[a-z0-9_](?:[a-z0-9_.-]{0,61}[a-z0-9_])?$/i.test(selector))
    line.usage(`"${selector}" is no selector: letters, digits and . _ -`);
  return { domain: form as string, selector: selector.toLowerCase() };
}

/** null: there is no such key, which is said. */
async function placesOf(line: CommandLine, { domain, selector, file }: Chosen): Promise<KeyPlace[] | null> {
  if (file !== undefined) {
    if (domain === undefined || selector === undefined) line.usage('--file needs --domain and --selector');
    return [{ ...placeOf(line, domain as string, selector as string), file }];
  }
  const { configFor } = await import('../config/load.ts');
  const form = domain === undefined ? undefined : domainForm(domain);
  const keys = configFor(['dkim', 'data_dir'], line.configPath()).dkim.keys.filter(
    (key) =>
      (form === undefined || key.domain === form) &&
      (selector === undefined || key.selector === selector.toLowerCase()),
  );
  if (keys.length > 0 || (domain === undefined && selector === undefined)) return keys;
  line.err.write(
    'protorelay: dkim.keys of the config has no such key; name one by --file, --domain and --selector\n',
  );
  line.endsWith(EXIT.dataError);
  return null;
}
