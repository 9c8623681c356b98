/**
 * Runs commands one after the other in one process, as starting a process for each takes longer than they do.
 *   node run-commands.ts CONFIG '[["queue","list","--json"], …]'      prints [{ code, stdout }, …]
 */
import { RelayError } from '../../src/base/errors.ts';
import { EXIT_OF_ERROR } from '../../src/base/exit-codes.ts';
import { commandTree } from './command-tree.ts';

const [config = '', commands = '[]'] = process.argv.slice(2);
const write = process.stdout.write.bind(process.stdout);
const answers: { code: number; stdout: string }[] = [];
for (const args of JSON.parse(commands) as string[][]) {
  const answer = { code: 0, stdout: '' };
  process.stdout.write = (text: string | Uint8Array): boolean => {
    answer.stdout += String(text);
    return true;
  };
  const line = {
    configPath: () => config,
    endsWith(code: number): void {
      answer.code = code;
    },
    usage(message: string): never {
      throw new Error(message);
    },
  };
  try {
    await (await commandTree(line)).parseAsync(args, { from: 'user' });
  } catch (error) {
    if (!(error instanceof RelayError)) throw error;
    answer.code = EXIT_OF_ERROR[error.code];
  }
  answers.push(answer);
}
write(JSON.stringify(answers));
