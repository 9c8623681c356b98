import type { Readable, Writable } from 'node:stream';

/** Asks at a terminal. Whoever ends the input or the program there, with Ctrl-D or Ctrl-C, has not agreed. */
export async function askOn(input: Readable, output: Writable, question: string): Promise<boolean> {
  const { createInterface } = await import('node:readline');
  const terminal = createInterface({ input, output, terminal: true });
  try {
    const answer = await new Promise<string>((resolve) => {
      terminal.once('close', () => {
        output.write('\n');
        resolve('');
      });
      terminal.question(question, resolve);
    });
    return /^y(?:es)?$/i.test(answer.trim());
  } finally {
    terminal.removeAllListeners('close').close();
  }
}
