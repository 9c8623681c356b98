/** `protorelay tls …`: a certificate for trying TLS. */
import { hostname } from 'node:os';
import { type Command, Option } from 'commander';
import { printableLines } from '../base/printable.ts';
import { wholeNumber } from './arguments.ts';
import type { CommandLine } from './command-line.ts';

export function addTls(program: Command, line: CommandLine): void {
  const tls = program.command('tls').description('certificates').helpCommand(false);
  tls
    .command('self-signed')
    .description('make a certificate for trying TLS: server.crt and server.key')
    .argument('[names...]', 'host names and addresses (default: this machine’s name and localhost)')
    .option('--out <folder>', 'where to write them', '.')
    .option('--days <days>', 'how long it is good', wholeNumber, 365)
    .addOption(new Option('--key <type>', 'type of key').choices(['ecdsa', 'rsa']).default('ecdsa'))
    .option('--force', 'replace what is there', false)
    .action(async (given: string[], { out, days, key, force }) => {
      const { isCertificateName, writeSelfSigned } = await import('../tls/self-signed.ts');
      for (const name of given)
        if (!isCertificateName(name)) line.usage(`"${name}" is neither a host name nor an address`);
      const names = given.length > 0 ? given : [hostname(), 'localhost', '127.0.0.1', '::1'];
      const said = writeSelfSigned({ names, days, keyType: key, folder: out, force });
      line.out.write(printableLines(said));
    });
}
