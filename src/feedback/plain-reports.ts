/**
 * Reports that follow no form: what a program wrote in plain words, by what nearly all of them have in common. They come from a
 * mail system, say that something was not delivered, and name addresses with a reason behind them, before a copy of the
 * message. Bounded, and linear in the text. Pure.
 */
import type { Fields } from './report-parts.ts';
import { type Failure, refusalIn } from './reported-failure.ts';

const MAX_FAILURES = 20;
const MAX_LINES = 200;
const MAX_LINE = 300;
const MAX_REASON = 600;

const SYSTEM =
  /mailer-daemon|postmaster|mail ?delivery|mail ?system|delivery (?:sub)?system|mdaemon|system administrator|smtp_mail/i;
const SUBJECT =
  /undeliver|non-?delivery|delivery (?:status|has|fail|report|problem|notif)|(?:mail|message|delivery) (?:could not|failed|failure|was not)|returned (?:mail|to)|returning (?:message|to)|failure notice|failed mail|not delivered|processing error|automatically rejected/i;
const FAILED =
  /(?:could not|cannot|can't|couldn't|unable to|n't able to|not able to|did not|did not|was not|not been) (?:[\w-]+ ){0,4}(?:deliver|reach|receiv)|undeliver|non-delivery|not delivered|fatal (?:delivery )?error|del[ie]ver(?:y|ed) .{0,60}(?:failed|aborted)|delivery has failed|failed (?:addresses|recipients?)|address(?:es)? ?(?:\(es\))? (?:failed|had|did not)|automatically rejected|been returned|invalid .{0,20}user|error was detected|no such user|unknown user|user (?:is )?(?:unknown|not known)|no mailbox here|pas pu .{0,10}(?:delivr|livr)/i;
/** It is late, and tried again. */
const LATE =
  /warning message only|only a warning|just a warning|this is a warning|delay|not yet (?:been )?(?:delivered|received)|will (?:be retried|continue)|attempts will|postponed|no action is required|advisory-only/i;
/** Where the copy of our message begins. */
const COPY =
  /^[\s>*|=-]{0,80}(?:the )?(?:(?:included |below |here |this )?is a copy|below (?:this|the next) line|original message|message headers? follow|message header|message text follow|returned mail|returned message|your message reads|old message|header of the original|a copy of|start of returned|the header and|the first \d|attachment is a copy|summary of)/i;
const ABOUT_MESSAGE =
  /^[\s>*]{0,20}(?:to|from|cc|subject|date|sent|received|reply-to|return-path|message-id|x-[\w-]{1,40}) {0,20}:/i;
const ADDRESS = /[^\s<>,;:"'()[\]*]{1,64}@[a-z0-9.-]{1,255}/gi;
const OF_SYSTEM = /^(?:postmaster|mailer-daemon|abuse|support|hostmaster)@/i;

/** @param text of the part that people read. [] where it says of nobody that delivery failed. */
export function failuresInWords(fields: Fields, text: string): Failure[] {
  const isSystem = SYSTEM.test(fields.get('from') ?? '');
  const isReply = (fields.get('auto-submitted') ?? '').toLowerCase().startsWith('auto-replied');
  if (!isSystem && (isReply || !SUBJECT.test(fields.get('subject') ?? ''))) return [];
  const lines = text
    .split('\n', MAX_LINES)
    .map((line) => line.slice(0, MAX_LINE))
    .filter((line) => line.trim() !== '');
  const end = lines.findIndex((line, i) => i > 0 && COPY.test(line));
  const said = end < 0 ? lines : lines.slice(0, end);
  const words = said.map((line) => line.trim()).join(' ');
  return FAILED.test(words) && !LATE.test(words) ? failuresIn(said) : [];
}

function failuresIn(lines: readonly string[]): Failure[] {
  const found = new Map<string, string>();
  /** Those of the line before, which the reason is about that follows. */
  let last: string[] = [];
  for (const line of lines) {
    const named = ABOUT_MESSAGE.test(line) ? [] : (line.match(ADDRESS) ?? []).map(bare).filter(isOther);
    const fresh = named.filter((address) => !found.has(address)).slice(0, MAX_FAILURES - found.size);
    if (fresh.length > 0) {
      last = fresh;
      for (const address of fresh) found.set(address, '');
    }
    for (const address of last) {
      const reason = found.get(address) as string;
      if (reason.length < MAX_REASON) found.set(address, `${reason} ${line.trim()}`.trim());
    }
  }
  return [...found].map(([address, reason]) => {
    const reply = /(?:^|[:\s">])([45]\d\d[ -].*)/.exec(reason)?.[1];
    return { addresses: [address], ...refusalIn(reply ?? reason, ''), host: '' };
  });
}

/** Some write SMTP=user@example.com, or end a sentence with it. */
const bare = (address: string): string => address.replace(/^smtp[=:]/i, '').replace(/\.$/, '');

const isOther = (address: string): boolean => !OF_SYSTEM.test(address);
