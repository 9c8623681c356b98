/** `protorelay queue count` */
import { EXIT, type ExitCode } from '../base/exit-codes.ts';
import { countAnswer, groupWord, MOST_GROUPS } from '../control/count-answer.ts';
import { missingAnswer } from '../control/queue-answers.ts';
import type { Selection } from '../database/database.ts';
import { type Counted, type CountKey, type Group, mergeCounts, type Sums } from '../mail/queue-counts.ts';
import { columns, plain, size } from './format.ts';
import type { QueueSource } from './open-queue.ts';
import { jsonOf, missingOf, type QueueOutput, told } from './queue-output.ts';
import { partsOf } from './selecting.ts';

export async function countOf(
  source: QueueSource,
  selection: Selection,
  by: CountKey | null,
): Promise<Counted> {
  const parts: Counted[] = [];
  for (const part of partsOf(selection)) parts.push(await source.reader.count(part, by));
  return mergeCounts(parts);
}

export async function countQueue(
  source: QueueSource,
  selection: Selection,
  by: CountKey | null,
  json: boolean,
  { out, err }: QueueOutput,
): Promise<ExitCode> {
  const counted = await countOf(source, selection, by);
  const missing = await missingOf(source);
  if (json) out.write(jsonOf({ ...countAnswer(counted, by), missing: missing.map(missingAnswer) }));
  else out.write(formatCount(counted, by));
  return told(missing, err, EXIT.ok);
}

function formatCount(counted: Counted, by: CountKey | null): string {
  const titles = ['RECIPIENTS', 'ENTRIES', 'MESSAGES', 'SIZE'];
  const cells = ({ recipients, entries, messages, bytes }: Sums): string[] => [
    String(recipients),
    String(entries),
    String(messages),
    size(bytes),
  ];
  if (by === null) return columns([titles, cells(counted)]);
  const shown = counted.groups.slice(0, MOST_GROUPS);
  const nameOf = (group: Group): string => {
    if (by === 'sender') return `<${plain(group.key)}>`;
    return group.key === '' ? '-' : plain(groupWord(by, group));
  };
  const more = counted.groups.length - shown.length + counted.moreGroups;
  const text = columns([
    [...titles, by.toUpperCase()],
    ...shown.map((group) => [...cells(group), nameOf(group)]),
    [...cells(counted), 'all'],
  ]);
  if (more === 0) return text;
  const least = counted.forgotten ? '; the smallest were forgotten, so counts may be too low' : '';
  return `${text}… and ${more} more${least}\n`;
}
