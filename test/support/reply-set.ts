/** The replies of test/feedback/replies, the variants they come in, and how far verdicts on them are right. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ReplyClassifier } from '../../src/feedback/classifier.ts';
import { readRefusal } from '../../src/feedback/reply-input.ts';

const FOLDER = join(import.meta.dirname, '../feedback/replies');

/** The table of conditions, and texts that the rules were first tried on without having been written from them. */
export const REPLY_SETS = ['table', 'held-out', 'unseen', 'unseen-3', 'unseen-4', 'unseen-5', 'unseen-6'];

export interface JudgedReply {
  id: string;
  provider: string;
  mx_host: string;
  command: string;
  reply: string;
  class: string;
  scope: string;
  move: string;
}

export const replySet = (name: string): JudgedReply[] =>
  readFileSync(join(FOLDER, `${name}.jsonl`), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as JudgedReply);

/** With the trailing noise of providers, over several lines, and in capital or in small letters. */
export function variantsOf(one: JudgedReply, number: number): JudgedReply[] {
  const noise = ` [mx${number}.y.example] (id ${(0x9e3779b97f4a7 * (number + 1)).toString(36)}) - https://help.y.example/p/${number}`;
  const [, code = '', enhanced = '', text = ''] =
    /^(\d{3}) ?(\d\.\d{1,3}\.\d{1,3} )?([\s\S]*)$/.exec(one.reply) ?? [];
  const words = text.split(' ');
  const half = Math.ceil(words.length / 2);
  const folded = text.includes('\n')
    ? one.reply
    : `${code}-${enhanced}${words.slice(0, half).join(' ')}\r\n${code} ${enhanced}${words.slice(half).join(' ')}`;
  const cased = number % 2 === 0 ? one.reply.toUpperCase() : one.reply.toLowerCase();
  return [`${one.reply}${noise}`, folded, cased].map((reply, i) => ({
    ...one,
    id: `${one.id}-${i + 1}`,
    reply,
  }));
}

export interface Score {
  replies: number;
  classShare: number;
  moveShare: number;
  /** Bounced though it is temporary, or said to be about the recipient though it is not. */
  grave: string[];
  /** 'wanted class → class that came out', with how often; the wrong ones only. */
  confused: Map<string, number>;
}

export function scoreOf(classifier: ReplyClassifier, replies: readonly JudgedReply[]): Score {
  const score: Score = {
    replies: replies.length,
    classShare: 0,
    moveShare: 0,
    grave: [],
    confused: new Map(),
  };
  for (const one of replies) {
    const { refusal, mxHost } = readRefusal(JSON.stringify(one));
    const verdict = classifier.classify(refusal, classifier.providerOf(mxHost));
    if (verdict.class === one.class) score.classShare += 1 / replies.length;
    else {
      const pair = `${one.class} → ${verdict.class}`;
      score.confused.set(pair, (score.confused.get(pair) ?? 0) + 1);
    }
    if (verdict.move === one.move) score.moveShare += 1 / replies.length;
    const wronglyBounced = verdict.move === 'bounce' && one.move !== 'bounce';
    const wronglySuppressed = verdict.scope === 'recipient' && one.scope !== 'recipient';
    if (wronglyBounced || wronglySuppressed) score.grave.push(one.id);
  }
  return score;
}

export function told(name: string, { replies, classShare, moveShare, grave, confused }: Score): string {
  const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
  const rows = [...confused].sort(([, a], [, b]) => b - a).map(([pair, count]) => `  ${count} × ${pair}`);
  return [
    `${name}: ${replies} replies, class ${percent(classShare)}, move ${percent(moveShare)}, grave ${grave.length}`,
    ...rows,
  ].join('\n');
}
