/** Events of return paths and of what comes back to them. */
import { event } from './event.ts';

export const RETURN_PATH_EVENTS = {
  'return_path.keys_unusable': event(
    'error',
    'The keys of return paths cannot be read anew; those of before stay.',
    'Mend `return_path.secrets_file`, and reload.',
    'error',
  ),
  'report.read': event(
    'debug',
    'A report came to a return path and was read (docs/bounces.md).',
    'The event files have what it says (`async_bounced`, `complained`).',
    'kind',
  ),
  'report.not_read': event(
    'warn',
    'A report that came to a return path could not be read, or its entry of the suppression list not be written; its client comes again.',
    'Look at the database.',
    'error',
  ),
};
