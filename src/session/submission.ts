/**
 * What a message gets where it lacks it: Date and Message-ID from a submission server (RFC 6409 §8.1, §8.2), and what the config
 * adds for trusted clients. They go before the content, with the trace, so that the content stays byte for byte what the client
 * sent; a signature covers both.
 */
import { domainOf } from '../base/domain.ts';
import type { Config } from '../config/schema.ts';
import type { Attributes } from '../mail/attributes.ts';
import type { ContentHandle } from '../mail/message.ts';
import type { Arena } from '../native.ts';
import { fromDomainIn } from '../protocol/from-domain.ts';

const FIRST_LOOK_BYTES = 8192;
/** A longer header section gets nothing added. */
const MAX_HEADER_BYTES = 262_144;

const FIELDS = {
  date: ['Date', /^date[ \t]*:/im],
  messageId: ['Message-ID', /^message-id[ \t]*:/im],
  feedbackId: ['Feedback-ID', /^feedback-id[ \t]*:/im],
  listId: ['List-Id', /^list-id[ \t]*:/im],
  cfblAddress: ['CFBL-Address', /^cfbl-address[ \t]*:/im],
} as const;

/** What is to be there: the value of each field that is added where it is missing. */
export type WantedFields = { -readonly [field in keyof typeof FIELDS]?: string };

/** Header fields to put before the content, each with its CRLF; '' when nothing is missing. */
export function missingFields(
  content: ContentHandle,
  arena: Pick<Arena, 'head'>,
  wanted: WantedFields,
): string {
  const header = headerOf(content, arena);
  if (header === null) return '';
  return Object.entries(FIELDS)
    .map(([field, [name, present]]) => {
      const value = wanted[field as keyof WantedFields];
      return value === undefined || present.test(header) ? '' : `${name}: ${value}\r\n`;
    })
    .join('');
}

/** What the config adds, worked out once per (re)load. */
export class AddedFields {
  /** Whether there is anything to add. */
  readonly any: boolean;
  readonly #config: Config['added_headers'];
  readonly #cfblDomain: string;

  constructor(config: Config['added_headers']) {
    this.any = Object.values(config).some((value) => value !== undefined && value !== false);
    this.#config = config;
    this.#cfblDomain = domainOf(config.cfbl_address ?? '');
  }

  /** @param ours Date and Message-ID as we would write them. */
  wanted(
    content: ContentHandle,
    arena: Pick<Arena, 'head'>,
    attributes: Attributes,
    ours: Required<Pick<WantedFields, 'date' | 'messageId'>>,
  ): WantedFields {
    const { date, message_id, feedback_id: sender, list_id: list, cfbl_address: address } = this.#config;
    const wanted: WantedFields = {};
    if (date) wanted.date = ours.date;
    if (message_id) wanted.messageId = ours.messageId;
    if (sender !== undefined) wanted.feedbackId = feedbackId(attributes, sender);
    const listId = list === undefined || attributes.class === 'urgent' ? null : listIdOf(list, attributes);
    if (listId !== null) wanted.listId = listId;
    if (address !== undefined && isBelow(this.#cfblDomain, fromDomainIn(arena, content)))
      wanted.cfblAddress = `${address}; report=arf`;
    return wanted;
  }
}

/** A field that is empty is none of those that complaints are counted by. */
function feedbackId({ campaign, tenant, class: kind }: Attributes, sender: string): string {
  const given = [campaign, tenant, kind].map((text = '') => text.replaceAll(/[^\w.@+-]/g, '_'));
  return [...given, sender].join(':');
}

/** null where the message lacks what is to be put in. */
function listIdOf(pattern: string, attributes: Attributes): string | null {
  let isWhole = true;
  const name = pattern.replaceAll(
    /\{(tenant|campaign|class)\}/g,
    (_, key: 'tenant' | 'campaign' | 'class') => {
      const label = labelOf(attributes[key] ?? '');
      if (label === '') isWhole = false;
      return label;
    },
  );
  return isWhole && name.length <= 255 ? `<${name}>` : null;
}

/** A text as a label of a name; '' where nothing of it can stand there. */
const labelOf = (text: string): string =>
  text
    .toLowerCase()
    .replaceAll(/[^a-z0-9-]+/g, '-')
    .replace(/^-+/, '')
    .slice(0, 63)
    .replace(/(?<!-)-+$/, '');

/** RFC 9477 §3.1: the signature of the author's domain vouches for an address there, or below. */
const isBelow = (domain: string, author: string): boolean =>
  author !== '' && (domain === author || domain.endsWith(`.${author}`));

/** The header section; null when its end is not found within bounds. A content without any header has an empty one. */
function headerOf(content: ContentHandle, arena: Pick<Arena, 'head'>): string | null {
  for (const bytes of [FIRST_LOOK_BYTES, MAX_HEADER_BYTES]) {
    const head = arena.head(content, bytes);
    if (head.length >= 2 && head[0] === 0x0d && head[1] === 0x0a) return '';
    const end = head.indexOf('\r\n\r\n');
    if (end >= 0) return head.toString('latin1', 0, end);
    if (head.length < bytes) return head.toString('latin1', 0, head.length);
  }
  return null;
}
