/** The domain of the author, as From: says. */
import { domainOf } from '../base/domain.ts';
import type { ContentHandle } from '../mail/message.ts';
import type { Arena } from '../native.ts';
import { fieldsIn } from './header-section.ts';

const FROM: ReadonlySet<string> = new Set(['from']);
/** A longer list of authors is cut. */
const MAX_LENGTH = 2000;

/** Of the first address of the first From:, in the form of base/domain.ts; '' where there is none. */
export function fromDomainIn(arena: Pick<Arena, 'head'>, content: ContentHandle): string {
  const [from] = fieldsIn(arena, content, FROM) ?? [];
  return from === undefined ? '' : domainOf(firstAddress(from.value.slice(0, MAX_LENGTH)));
}

/** The first address of a list (RFC 5322 §3.4), without display name, comments and quoted strings; '' when there is none. */
export function firstAddress(list: string): string {
  const bare = withoutComments(list);
  const angle = /<([^<>]*)>/.exec(bare);
  const [first = ''] = (angle?.[1] ?? bare).split(',', 1);
  return first.includes('@') ? first.trim() : '';
}

/** Display names may hold what looks like an address. */
function withoutComments(text: string): string {
  let bare = '';
  let depth = 0;
  let quoted = false;
  for (let i = 0; i < text.length; i++) {
    const char = text[i] as string;
    if (char === '\\') i++;
    else if (quoted) quoted = char !== '"';
    else if (char === '"' && depth === 0) quoted = true;
    else if (char === '(') depth++;
    else if (char === ')') depth = Math.max(0, depth - 1);
    else if (depth === 0) bare += char;
  }
  return bare;
}
