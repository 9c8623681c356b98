/** What the refusals mean that entries of the queue wait or failed by, as the rules for replies are now. */
import type { VerdictOn } from '../control/queue-answers.ts';
import type { MailDetail } from '../database/database.ts';

/** @param ownFile the operator's file of rules, '' for none. It is asked where there is something to judge. */
export async function verdictsOn(
  { rows, recipients }: MailDetail,
  ownFile: () => string,
): Promise<VerdictOn> {
  const { storedRefusal } = await import('../feedback/stored-reply.ts');
  if ([...rows, ...recipients].every(({ reason, detail }) => storedRefusal(reason, detail) === null))
    return () => null;
  const { ReplyClassifier } = await import('../feedback/classifier.ts');
  const { compileRules } = await import('../feedback/compiled-rules.ts');
  const { readRulesTexts } = await import('../feedback/rules-text.ts');
  const classifier = new ReplyClassifier(compileRules(readRulesTexts(ownFile())));
  return ({ reason, detail }) => {
    const stored = storedRefusal(reason, detail);
    if (stored === null) return null;
    return classifier.classify(stored.refusal, classifier.providerOf(stored.host));
  };
}
