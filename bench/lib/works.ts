/** The works that bench/compare.ts measures, and the figures to reach (issue "The relay core", Numbers to reach). */
import type { Settings } from '../../test/support/relay-fixture.ts';

/** smtp-sink, our relay, our protocol path alone (bench/reactor.ts), Postfix. */
export type Kind = 'sink' | 'relay' | 'reactor' | 'postfix';

export interface Work {
  key: string;
  title: string;
  sizeBytes: number;
  perConnection: boolean;
  /** Mail goes on to an smtp-sink; else it stays in the queue. */
  endToEnd: boolean;
  /** Settings of our relay beyond the defaults. */
  settings: Settings;
  kinds: Kind[];
  /** Messages of one full run; a quick run takes a fifth. */
  messages: Partial<Record<Kind, number>>;
  targets: Target[];
}

/** `measure` of our relay compared with the same of another server (ratio), or with nothing (absolute). */
export interface Target {
  text: string;
  measure: 'rate' | 'cpu';
  against: Kind | null;
  atLeast?: number;
  atMost?: number;
}

const persist: Settings = { inbound_ack_mode: 'after_persist', delivery: { enabled: false } };
/** Acknowledged at once, all messages may wait for the disk together; smtp-source takes a 452 for the end of the world. */
const enqueue: Settings = {
  inbound_ack_mode: 'after_enqueue',
  delivery: { enabled: false },
  persist_max_inflight_mails: 65_536,
  content_memory_mb: 4096,
};

export const WORKS: Work[] = [
  {
    key: 'protocol-1k',
    title: 'protocol path alone, 1 KB, reused',
    sizeBytes: 1024,
    perConnection: false,
    endToEnd: false,
    settings: {},
    kinds: ['sink', 'reactor'],
    messages: { sink: 80_000, reactor: 80_000 },
    targets: [
      { text: '≥ 1.0 × smtp-sink', measure: 'rate', against: 'sink', atLeast: 1 },
      { text: '≤ 0.8 × its CPU', measure: 'cpu', against: 'sink', atMost: 0.8 },
    ],
  },
  {
    key: 'persist-1k',
    title: 'after_persist, 1 KB, reused',
    sizeBytes: 1024,
    perConnection: false,
    endToEnd: false,
    settings: persist,
    kinds: ['sink', 'relay', 'postfix'],
    messages: { sink: 80_000, relay: 60_000, postfix: 6000 },
    targets: [
      { text: '≥ 0.6 × smtp-sink', measure: 'rate', against: 'sink', atLeast: 0.6 },
      { text: '≥ 8 × Postfix', measure: 'rate', against: 'postfix', atLeast: 8 },
      { text: 'CPU ≤ 100 µs', measure: 'cpu', against: null, atMost: 100 },
    ],
  },
  {
    key: 'enqueue-1k',
    title: 'after_enqueue, 1 KB, reused',
    sizeBytes: 1024,
    perConnection: false,
    endToEnd: false,
    settings: enqueue,
    kinds: ['sink', 'relay'],
    messages: { sink: 80_000, relay: 60_000 },
    targets: [{ text: '≥ 0.8 × smtp-sink', measure: 'rate', against: 'sink', atLeast: 0.8 }],
  },
  {
    key: 'persist-10k',
    title: 'after_persist, 10 KB, reused',
    sizeBytes: 10_240,
    perConnection: false,
    endToEnd: false,
    settings: persist,
    kinds: ['sink', 'relay', 'postfix'],
    messages: { sink: 30_000, relay: 30_000, postfix: 5000 },
    targets: [{ text: '≥ 1.2 × smtp-sink', measure: 'rate', against: 'sink', atLeast: 1.2 }],
  },
  {
    key: 'persist-100k',
    title: 'after_persist, 100 KB, reused',
    sizeBytes: 102_400,
    perConnection: false,
    endToEnd: false,
    settings: persist,
    kinds: ['sink', 'relay', 'postfix'],
    messages: { sink: 6000, relay: 6000, postfix: 2500 },
    targets: [{ text: '≥ 1.5 × smtp-sink', measure: 'rate', against: 'sink', atLeast: 1.5 }],
  },
  {
    key: 'per-conn-1k',
    title: 'new connection per message, 1 KB',
    sizeBytes: 1024,
    perConnection: true,
    endToEnd: false,
    settings: persist,
    kinds: ['sink', 'relay', 'postfix'],
    messages: { sink: 25_000, relay: 25_000, postfix: 4000 },
    targets: [{ text: '≥ 0.8 × smtp-sink', measure: 'rate', against: 'sink', atLeast: 0.8 }],
  },
  {
    key: 'end-to-end-1k',
    title: 'end to end to smtp-sink, 1 KB, after_persist',
    sizeBytes: 1024,
    perConnection: false,
    endToEnd: true,
    settings: { inbound_ack_mode: 'after_persist' },
    kinds: ['relay', 'postfix'],
    messages: { relay: 30_000, postfix: 3000 },
    targets: [
      { text: '≥ 5,000 msg/s', measure: 'rate', against: null, atLeast: 5000 },
      { text: '≥ 10 × Postfix', measure: 'rate', against: 'postfix', atLeast: 10 },
      { text: 'CPU ≤ 200 µs', measure: 'cpu', against: null, atMost: 200 },
    ],
  },
];
