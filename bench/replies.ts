/**
 * What classifying a reply costs: CPU of each reply not seen before, of one seen before, and of reading the rules.
 * The replies are those of the tests, each with another host and id. The target is 5 µs for one not seen before.
 */
import { parseArgs } from 'node:util';
import { ReplyClassifier } from '../src/feedback/classifier.ts';
import { readRefusal } from '../src/feedback/reply-input.ts';
import { normalised } from '../src/feedback/reply-text.ts';
import { loadReplyRules } from '../src/feedback/rules-file.ts';
import { SHIPPED_RULES } from '../src/feedback/rules-text.ts';
import { REPLY_SETS, replySet } from '../test/support/reply-set.ts';

const USAGE = `usage: ./build.sh bench replies [--replies N]
  --replies N  per round (default 100000)`;

const { values } = parseArgs({
  options: { replies: { type: 'string', default: '100000' }, help: { type: 'boolean', default: false } },
});
if (values.help) {
  process.stdout.write(`${USAGE}\n`);
  process.exit(0);
}
const count = Number(values.replies);

/** CPU in µs. */
function cost(work: () => void): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return user + system;
}

const say = (name: string, us: number): void =>
  void process.stdout.write(`${name.padEnd(44)} ${us.toFixed(2).padStart(9)} µs\n`);

let classifier = new ReplyClassifier(loadReplyRules([SHIPPED_RULES]));
say(
  'reading and building the rules',
  cost(() => {
    classifier = new ReplyClassifier(loadReplyRules([SHIPPED_RULES]));
  }),
);

const given = REPLY_SETS.flatMap(replySet)
  .map((one) => readRefusal(JSON.stringify(one)))
  .map((one) => ({ ...one, provider: classifier.providerOf(one.mxHost) }));
const characters = given.reduce((sum, { refusal }) => sum + refusal.text.length, 0) / given.length;
process.stdout.write(`${given.length} replies of ${characters.toFixed(0)} characters and their ending\n`);

let seen = 0;
const fresh = (): { refusal: { code: number; enhanced: string; text: string }; provider: string }[] =>
  Array.from({ length: count }, (_, i) => {
    const { refusal, provider } = given[i % given.length] as (typeof given)[number];
    const text = `${refusal.text} [mx${seen % 90}.y.example] s${seen++}`;
    return { refusal: { ...refusal, text }, provider };
  });
const round = (replies: ReturnType<typeof fresh>): number =>
  cost(() => {
    for (const { refusal, provider } of replies) classifier.classify(refusal, provider);
  }) / replies.length;

round(fresh()); // the compiler has seen it once
const uncached = Math.min(round(fresh()), round(fresh()), round(fresh()));
say('a reply not seen before', uncached);
const few = fresh().slice(0, 1000);
const again = Array.from({ length: count }, (_, i) => few[i % few.length] as (typeof few)[number]);
round(again);
say('a reply seen before', Math.min(round(again), round(again)));
say(
  'a text normalised for counting',
  cost(() => {
    for (const { refusal } of few) normalised(refusal.text);
  }) / few.length,
);
process.exitCode = uncached <= 5 ? 0 : 1;
