/** What `protorelay replies unknown` prints of a running relay. */
import { EXIT, type ExitCode } from '../base/exit-codes.ts';
import { printable, printableJson } from '../base/printable.ts';
import { unknownReplyAnswer } from '../control/replies-answer.ts';
import { askRelay } from '../control/running-relay.ts';
import type { UnknownReply } from '../mail/unknown-reply.ts';
import { columns } from './format.ts';

const SHOWN = 120;
const TITLES = ['REPLIES', 'PROVIDER', 'CODE', 'STATUS', 'TEXT'];

export async function listUnknown(
  dataDir: string,
  json: boolean,
  out: NodeJS.WritableStream,
): Promise<ExitCode> {
  const replies = await askRelay(dataDir, (client) => client.unknownReplies());
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
