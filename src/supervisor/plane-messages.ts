/** What the HTTP plane's process and the one that keeps it running say to each other. */
import type { Config } from '../config/schema.ts';

export interface PlaneStart {
  type: 'start';
  config: Config;
}

export type ToPlane = PlaneStart | { type: 'ping' } | { type: 'reopen-log' } | { type: 'stop' };

export type FromPlane =
  | { type: 'booted' }
  | { type: 'ready'; address: string }
  | { type: 'failed'; code: string; message: string }
  | { type: 'pong' };
