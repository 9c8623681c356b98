/**
 * Attributes of a message: what the sender's system says of it beside envelope and content, and what mail is chosen, limited
 * and counted by. They are stored with it and go with its jobs, events and answers. Pure; where they come from is in
 * src/session/attributes.ts.
 */
import type { Wire, WireReader } from './wire.ts';

export const MAIL_CLASSES = ['urgent', 'normal', 'bulk'] as const;
export type MailClass = (typeof MAIL_CLASSES)[number];

export interface Attributes {
  tenant?: string;
  campaign?: string;
  class?: MailClass;
  /** Name of the egress pool it is to leave by. */
  pool?: string;
  /** A JSON object as text, at most MAX_METADATA_BYTES: it comes back in events, and nothing looks inside. */
  metadata?: string;
  /** No attempt begins after this time. */
  deadlineMs?: number;
  /** How much the recipients want it, 0 … MAX_PRIORITY_HINT: who wants it more goes first in a warm-up. */
  priorityHint?: number;
}

/** Attributes that are one text. */
export const TEXT_ATTRIBUTES = ['tenant', 'campaign', 'class', 'pool'] as const;
export type TextAttribute = (typeof TEXT_ATTRIBUTES)[number];

/** Of characters. */
export const MAX_ATTRIBUTE_LENGTH = 128;
export const MAX_METADATA_BYTES = 2048;
export const MAX_PRIORITY_HINT = 100;
/** How far ahead a deadline may be. */
export const MAX_DEADLINE_MS = 365 * 86_400_000;

/** Whether a text can be a tenant, campaign or pool: it is shown, compared and counted by. */
export const isAttributeText = (text: string): boolean =>
  text.length <= MAX_ATTRIBUTE_LENGTH && /^[^\p{Cc}\s](?:[^\p{Cc}]*[^\p{Cc}\s])?$/u.test(text);

export const isMailClass = (text: string): text is MailClass =>
  (MAIL_CLASSES as readonly string[]).includes(text);

/** As they are stored, and as events have them: a JSON object. */
export function attributesText({ metadata, deadlineMs, priorityHint, ...texts }: Attributes): string {
  const fields = [
    ...TEXT_ATTRIBUTES.filter((name) => texts[name] !== undefined).map(
      (name) => `"${name}":${JSON.stringify(texts[name])}`,
    ),
    ...(metadata === undefined ? [] : [`"metadata":${metadata}`]),
    ...(deadlineMs === undefined ? [] : [`"deadline_ms":${deadlineMs}`]),
    ...(priorityHint === undefined ? [] : [`"priority_hint":${priorityHint}`]),
  ];
  return `{${fields.join(',')}}`;
}

/** @param text of attributesText. */
export function readAttributes(text: string): Attributes {
  const stored = JSON.parse(text) as Record<string, unknown>;
  const attributes: Attributes = {};
  for (const name of TEXT_ATTRIBUTES)
    if (typeof stored[name] === 'string') attributes[name] = stored[name] as never;
  if (stored.metadata !== undefined) attributes.metadata = JSON.stringify(stored.metadata);
  if (typeof stored.deadline_ms === 'number') attributes.deadlineMs = stored.deadline_ms;
  if (typeof stored.priority_hint === 'number') attributes.priorityHint = stored.priority_hint;
  return attributes;
}

/** Appends them; `takeAttributes` takes them off again. Seven values cost less than a text that has to be parsed at each end. */
export function writeAttributes(wire: Wire, attributes: Attributes | undefined): void {
  if (attributes === undefined) {
    wire.push(0);
    return;
  }
  const { tenant, campaign, class: kind, pool, metadata, deadlineMs, priorityHint } = attributes;
  wire.push(1, tenant ?? null, campaign ?? null, kind ?? null, pool ?? null);
  wire.push(metadata ?? null, deadlineMs ?? null, priorityHint ?? null);
}

export function takeAttributes(r: WireReader): Attributes | undefined {
  if (r.number() === 0) return undefined;
  const attributes: Attributes = {};
  const tenant = r.optional<string>();
  if (tenant !== null) attributes.tenant = tenant;
  const campaign = r.optional<string>();
  if (campaign !== null) attributes.campaign = campaign;
  const kind = r.optional<MailClass>();
  if (kind !== null) attributes.class = kind;
  const pool = r.optional<string>();
  if (pool !== null) attributes.pool = pool;
  const metadata = r.optional<string>();
  if (metadata !== null) attributes.metadata = metadata;
  const deadlineMs = r.optional<number>();
  if (deadlineMs !== null) attributes.deadlineMs = deadlineMs;
  const priorityHint = r.optional<number>();
  if (priorityHint !== null) attributes.priorityHint = priorityHint;
  return attributes;
}
