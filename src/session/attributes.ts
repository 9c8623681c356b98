/**
 * Attributes of a message at its intake: read from its header fields, completed by rules. Fields with attributes are taken out
 * of the content before it is stored: so what lies in the queue is what is signed and sent, and no fate of it can leak them.
 */
import { domainOf } from '../base/domain.ts';
import { isOfSystem, RelayError } from '../base/errors.ts';
import { timeIn } from '../base/time-text.ts';
import {
  type Attributes,
  isAttributeText,
  isMailClass,
  MAIL_CLASSES,
  MAX_ATTRIBUTE_LENGTH,
  MAX_DEADLINE_MS,
  MAX_METADATA_BYTES,
  MAX_PRIORITY_HINT,
} from '../mail/attributes.ts';
import type { ContentHandle } from '../mail/message.ts';
import type { Arena } from '../native.ts';
import { fromDomainIn } from '../protocol/from-domain.ts';
import { type FoundField, fieldsIn } from '../protocol/header-section.ts';
import { decodeWords } from '../protocol/mime/words.ts';
import { REPLY, Reply } from '../protocol/reply.ts';
import type { AttributeRules, HeaderAttribute } from './attribute-rules.ts';

type ArenaPart = Pick<Arena, 'head' | 'marked' | 'cut'>;

/** Who brought the message, and what rules ask of it. */
export interface Submission {
  content: ContentHandle;
  user: string | undefined;
  /** 'unix' where it came by a socket. */
  address: string;
  listener: string;
  reversePath: string;
  nowMs: number;
}

const NONE: Attributes = Object.freeze({});
const MAX_METADATA_DEPTH = 16;

/** The attributes of a message, its fields with them taken out; or why it is refused. `undefined`: it has none. */
export function takeAttributes(
  rules: AttributeRules,
  arena: ArenaPart,
  submission: Submission,
): Attributes | undefined | Reply {
  const { content, user, address, listener, reversePath, nowMs } = submission;
  const trusted = (): boolean => rules.trusts(user !== undefined, address);
  let said = NONE;
  if (rules.looksAlways || arena.marked(content)) {
    const fields = fieldsOf(rules, arena, content);
    if (fields instanceof Reply) return fields;
    if (fields.length > 0 && trusted()) {
      const read = attributesOf(fields, rules, nowMs);
      if (typeof read === 'string') return REPLY.bad_attribute.with(read);
      said = read;
    }
  }
  if (!rules.anyRule && said === NONE) return undefined;
  const attributes = { ...said };
  const fromDomain = (): string => fromDomainIn(arena, content);
  const senderDomain = domainOf(reversePath);
  if (rules.anyRule)
    rules.complete(attributes, { trusted: trusted(), user, listener, senderDomain, fromDomain }, nowMs);
  const { tenant } = attributes;
  if (tenant !== undefined && !rules.isTenant(tenant)) return REPLY.unknown_tenant.with(tenant);
  return Object.keys(attributes).length === 0 ? undefined : attributes;
}

/** The fields with attributes, which the content does not have any more. */
function fieldsOf(rules: AttributeRules, arena: ArenaPart, content: ContentHandle): FoundField[] | Reply {
  try {
    const fields = fieldsIn(arena, content, rules.names);
    if (fields === null) return REPLY.header_too_long;
    if (fields.length > 0) arena.cut(content, fields);
    return fields;
  } catch (error) {
    // A spill file that cannot be read or written.
    if (isOfSystem(error) || error instanceof RelayError) return REPLY.spill_failed;
    throw error;
  }
}

/** @returns what is wrong with a field, in words. */
function attributesOf(
  fields: readonly FoundField[],
  { fields: meanings }: AttributeRules,
  nowMs: number,
): Attributes | string {
  const attributes: Attributes = {};
  const givenBy = new Map<HeaderAttribute, string>();
  for (const { name, value } of fields) {
    const attribute = meanings.get(name) as HeaderAttribute;
    const other = givenBy.get(attribute);
    // A field and its alias that agree are no contradiction; a repeated one is.
    if (other === name) return `${name} is given twice`;
    const read = READ[attribute](value, nowMs);
    if ('fault' in read) return `${name} ${read.fault}`;
    if (other === undefined) Object.assign(attributes, read);
    else if (!agree(attributes, read)) return `${name} and ${other} differ`;
    givenBy.set(attribute, name);
  }
  return attributes;
}

const agree = (attributes: Attributes, read: Attributes): boolean =>
  Object.entries(read).every(([key, value]) => attributes[key as keyof Attributes] === value);

type Read = Attributes | { fault: string };

function textOf(attribute: 'tenant' | 'campaign' | 'pool', value: string): Read {
  const text = decodeWords(value).trim();
  if (isAttributeText(text)) return { [attribute]: text };
  return { fault: `must be a text of 1 to ${MAX_ATTRIBUTE_LENGTH} characters` };
}

const READ: Record<HeaderAttribute, (value: string, nowMs: number) => Read> = {
  tenant: (value) => textOf('tenant', value),
  campaign: (value) => textOf('campaign', value),
  pool: (value) => textOf('pool', value),
  class(value) {
    const name = value.toLowerCase();
    return isMailClass(name) ? { class: name } : { fault: `must be one of ${MAIL_CLASSES.join(', ')}` };
  },
  metadata(value) {
    const metadata = metadataOf(decodeWords(value));
    return metadata === null
      ? { fault: `must be a JSON object of at most ${MAX_METADATA_BYTES} octets` }
      : { metadata };
  },
  deadline(value, nowMs) {
    const deadlineMs = deadlineOf(value, nowMs);
    if (Number.isNaN(deadlineMs))
      return { fault: 'must be a time as 2026-03-01T12:00:00Z, or as 12h from now' };
    if (deadlineMs <= nowMs) return { fault: 'is over' };
    return deadlineMs > nowMs + MAX_DEADLINE_MS ? { fault: 'must be within a year' } : { deadlineMs };
  },
  priority_hint(value) {
    const priorityHint = /^\d{1,3}$/.test(value) ? Number(value) : Number.NaN;
    if (priorityHint <= MAX_PRIORITY_HINT) return { priorityHint };
    return { fault: `must be a number from 0 to ${MAX_PRIORITY_HINT}` };
  },
};

/** In one spelling; null when it is no object, too long, or so deeply nested that databases would not read it. */
function metadataOf(text: string): string | null {
  if (Buffer.byteLength(text) > MAX_METADATA_BYTES) return null;
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return null;
    const metadata = JSON.stringify(value);
    return Buffer.byteLength(metadata) > MAX_METADATA_BYTES || isDeep(value) ? null : metadata;
  } catch {
    return null;
  }
}

function isDeep(value: unknown, depth = 0): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return depth === MAX_METADATA_DEPTH || Object.values(value).some((one) => isDeep(one, depth + 1));
}

const UNIT_MS = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** NaN when it is neither a time with its zone nor a duration. */
function deadlineOf(text: string, nowMs: number): number {
  const [, count, unit] = /^(\d{1,9})([smhd])$/.exec(text) ?? [];
  if (count !== undefined) return nowMs + Number(count) * UNIT_MS[unit as keyof typeof UNIT_MS];
  return timeIn(text);
}
