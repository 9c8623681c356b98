/** Events of the HTTP plane. */
import { event } from './event.ts';

export const HTTP_EVENTS = {
  'http.ready': event('info', 'The HTTP plane listens.', '', 'address'),
  'http.start_failed': event(
    'error',
    'The HTTP plane cannot start. At the start of the relay that ends it, at a reload it is tried again.',
    'Mend what `error.message` names.',
    'error',
  ),
  'http.ended': event(
    'error',
    'The process of the HTTP plane ended by a fault; mail goes on.',
    'Look at the lines before it. It is started again.',
    'pid',
    'exit_code',
    'signal',
    'restart_in_ms',
  ),
  'http.hangs': event(
    'error',
    'The process of the HTTP plane did not answer for too long, and is ended; mail goes on.',
    'Report it. It is started again.',
    'pid',
    'silent_ms',
  ),
  'http.failed': event('error', 'A request failed by a fault of the program.', 'Report it.', 'error'),
  'http.tokens_unreadable': event(
    'error',
    'The file of tokens is another one, and cannot be read: those that were known stay good.',
    'Mend it; `protorelay token list` says what is wrong.',
    'path',
    'error',
  ),
  'http.certificate_renewed': event('info', 'The certificate of the HTTP plane was read anew.', '', 'path'),
  'http.certificate_unusable': event(
    'error',
    'The certificate of the HTTP plane is another one, and cannot be used: the old one stays.',
    'Mend the file.',
    'path',
    'error',
  ),
} as const;
