/** The options with which every queue command is told what is meant. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { STATES } from '../control/words.ts';
import type { Selection } from '../database/database.ts';
import { isMailClass, MAIL_CLASSES } from '../mail/attributes.ts';
import type { OutboxState } from '../mail/outbox-state.ts';
import { MAX_IDS, MAX_VALUE_LENGTH, MAX_VALUES } from '../mail/selection.ts';
import { addressOf, bytesOf, countFrom0, duration, headerOf, reasonOf, stateOf } from './arguments.ts';
import { noteBelow } from './command-line.ts';

export interface SelectingOptions {
  state?: OutboxState[];
  destination?: string[];
  domain?: string[];
  recipient?: string[];
  sender?: string[];
  user?: string[];
  listener?: string[];
  tenant?: string[];
  campaign?: string[];
  class?: string[];
  pool?: string[];
  reason?: string[];
  messageId?: string[];
  header?: { name: string; value: string }[];
  olderThan?: number;
  youngerThan?: number;
  minAttempts?: number;
  maxAttempts?: number;
  minSize?: number;
  maxSize?: number;
}

/** What a pattern means, wherever one is taken. */
export const PATTERNS =
  'Options that take a pattern may be given several times: one of the values must match. * stands for any text, ? for one character, a backslash takes the next one as it is; letters match in either case. All options given must match.';

/** An option that may be given several times. */
export function several<T>(flags: string, help: string, parse: (text: string) => T): Option {
  return new Option(flags, help).argParser((text: string, before: T[] = []): T[] => {
    if (before.length === MAX_VALUES) throw new InvalidArgumentError(`It may be given ${MAX_VALUES} times.`);
    return [...before, parse(text)];
  });
}

/** A text that is not empty, as an unset variable of a script would be. */
export function text(written: string): string {
  if (written === '') throw new InvalidArgumentError('It must not be empty.');
  if (written.length > MAX_VALUE_LENGTH)
    throw new InvalidArgumentError(`It may have ${MAX_VALUE_LENGTH} characters.`);
  return written;
}

function classOf(written: string): string {
  if (isMailClass(written)) return written;
  throw new InvalidArgumentError(`It is one of ${MAIL_CLASSES.join(', ')}.`);
}

export function addSelecting(command: Command): Command {
  const options = [
    several('--state <state>', `in this state: ${Object.keys(STATES).join(', ')}`, stateOf),
    several('--destination <pattern>', 'to this destination (a domain, smarthost, or via:HOST:PORT)', text),
    several('--domain <pattern>', 'to recipients of this domain, in any spelling', text),
    several('--recipient <pattern>', 'to this recipient', (written) => addressOf(text(written))),
    several('--sender <pattern>', 'of this sender; <> is the null one', (written) =>
      addressOf(text(written)),
    ),
    several('--user <pattern>', 'of this authenticated user', text),
    several('--listener <pattern>', 'that came in by this listener', text),
    several('--tenant <pattern>', 'of this tenant', text),
    several('--campaign <pattern>', 'of this campaign', text),
    several('--class <class>', `of this class: ${MAIL_CLASSES.join(', ')}`, classOf),
    several('--pool <pattern>', 'that is to leave by this egress pool', text),
    several('--reason <pattern>', 'that waits for this reason', (written) => reasonOf(text(written))),
    several('--message-id <pattern>', 'with this Message-ID', text),
    several('--header <name: pattern>', 'with this header field, if it is in queue.kept_headers', (written) =>
      headerOf(text(written)),
    ),
    new Option('--older-than <time>', 'received longer ago than this, as 2h (s, m, h, d)').argParser(
      duration,
    ),
    new Option('--younger-than <time>', 'received less long ago').argParser(duration),
    new Option('--min-attempts <n>', 'tried at least so often').argParser(countFrom0),
    new Option('--max-attempts <n>', 'tried at most so often').argParser(countFrom0),
    new Option('--min-size <bytes>', 'at least so large, as 10M (K, M, G)').argParser(bytesOf),
    new Option('--max-size <bytes>', 'at most so large').argParser(bytesOf),
  ];
  for (const option of options) command.addOption(option);
  return noteBelow(command, PATTERNS);
}

/** @param ids of messages, given as arguments. */
export function selectionOf(ids: readonly string[], options: SelectingOptions, nowMs: number): Selection {
  const { olderThan, youngerThan } = options;
  const given: { [K in keyof Selection]: Selection[K] | undefined } = {
    ids: ids.length === 0 ? undefined : [...new Set(ids)].sort(),
    states: options.state,
    destinations: options.destination,
    domains: options.domain,
    recipients: options.recipient,
    senders: options.sender,
    users: options.user,
    listeners: options.listener,
    tenants: options.tenant,
    campaigns: options.campaign,
    classes: options.class,
    pools: options.pool,
    reasons: options.reason,
    messageIds: options.messageId,
    headers: options.header,
    receivedBeforeMs: olderThan === undefined ? undefined : Math.max(0, nowMs - olderThan),
    receivedAfterMs: youngerThan === undefined ? undefined : Math.max(0, nowMs - youngerThan),
    minAttempts: options.minAttempts,
    maxAttempts: options.maxAttempts,
    minBytes: options.minSize,
    maxBytes: options.maxSize,
  };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as Selection;
}

export const isEmpty = (selection: Selection): boolean => Object.keys(selection).length === 0;

/** The selection as requests of bounded size: only ids can be many. */
export function* partsOf(selection: Selection): Generator<Selection> {
  const { ids } = selection;
  if (ids === undefined) yield selection;
  else
    for (let at = 0; at < ids.length; at += MAX_IDS) yield { ...selection, ids: ids.slice(at, at + MAX_IDS) };
}
