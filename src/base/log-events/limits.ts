/** Events of limits that are learned of peers, or set by plans and rules. */
import { event } from './event.ts';

export const LIMIT_EVENTS = {
  'limit.changed': event(
    'info',
    'A limit learned of refusals, or set by a warm-up, is another one now.',
    'The event files have all of it (`limit_changed`).',
    'by',
    'cause',
    'scope',
    'value',
    'site',
    'messages_per_s',
    'max_connections?',
    'messages_per_connection?',
    'ends_at?',
    'reply',
  ),
  'rule.acted': event(
    'warn',
    'A rule on what peers refuse acts (docs/rules.md).',
    'See why they refuse.',
    'rule',
    'action',
    'scope',
    'value',
    'site',
    'ends_at',
    'reply',
  ),
  'rule.webhook_failed': event(
    'warn',
    'A web address could not be told that a rule acted; it is not tried any more.',
    'The event files have what it would have been told (`limit_changed`).',
    'peer_host',
    'error',
  ),
  'limits.not_kept': event(
    'warn',
    'What was learned, or sent by a warm-up, cannot be read or written; a warm-up sends nothing meanwhile.',
    'Look at the disk, and the file.',
    'path',
    'error',
  ),
  'limits.damaged': event(
    'warn',
    'Lines of a file with what was learned are damaged; they are passed over.',
    '',
    'path',
    'lines',
  ),
};
