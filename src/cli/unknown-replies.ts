/** What `protorelay replies unknown` prints of a running relay. */
import { EXIT, type ExitCode } from '../base/exit-codes.ts';
import { printable, printableJson, printableLines } from '../base/printable.ts';
import { ControlClient } from '../control/client.ts';
import { unknownReplyAnswer } from '../control/replies-answer.ts';
import type { UnknownReply } from '../mail/unknown-reply.ts';
import { columns } from './format.ts';

const SHOWN = 120;
const TITLES = ['REPLIES', 'PROVIDER', 'CODE', 'STATUS', 'TEXT'];

export async function listUnknown(
  controlPath: string,
  json: boolean,
  out: NodeJS.WritableStream,
  err: NodeJS.WritableStream,
): Promise<ExitCode> {
  const client = await ControlClient.connect(controlPath);
  if (client === null) {
    err.write(printableLines(`protorelay: no relay is running (${controlPath})\n`));
    return EXIT.unavailable;
  }
  const replies = await client.unknownReplies().finally(() => client.close());
  if (json)
    out.write(
      `${printableJson(JSON.stringify({ unknown_replies: replies.map(unknownReplyAnswer) }, null, 2))}\n`,
    );
  else if (replies.length === 0) out.write('no refusal was met that no rule knows\n');
  else out.write(columns([TITLES, ...replies.map(row)]));
  return EXIT.ok;
}

const row = ({ count, provider, code, enhanced, text }: UnknownReply): string[] => [
  String(count),
  provider || '-',
  String(code),
  enhanced || '-',
  printable(text.slice(0, SHOWN)),
];
