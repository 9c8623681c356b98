/** The part of the composition root that wires TLS reports to DNS, the queue, and those who receive them. */
import { dirname, join } from 'node:path';
import type { Log } from '../base/log.ts';
import type { Config } from '../config/schema.ts';
import type { Dns } from '../delivery/names/dns.ts';
import { type RouteTable, reportDestination } from '../mail/destination.ts';
import { NOTIFY } from '../mail/envelope.ts';
import type { Message } from '../mail/message.ts';
import type { QueueIds } from '../mail/queue-id.ts';
import { type Arena, NO_CONTENT } from '../native.ts';
import type { Entry } from '../persistence/entry.ts';
import { messageIdOf } from '../protocol/header-fields.ts';
import { attachmentsOf } from '../protocol/mime/attachments.ts';
import { postReport } from '../report/tls-report-post.ts';
import { TlsReportSender } from '../report/tls-report-sender.ts';
import { TlsReports } from '../report/tls-rpt.ts';
import { addressToCall } from './address-to-call.ts';
import { currentDns } from './current-dns.ts';
import type { ProcessPlace } from './place.ts';

/** Reports of all processes of the host lie in one folder, beside the events. */
const reportsDir = ({ eventsDir }: ProcessPlace): string => join(dirname(eventsDir), 'tls-rpt');

export function openTlsReports(current: () => Config, place: ProcessPlace, log: Log): TlsReports {
  const dns = currentDns(current);
  const txt = async (name: string): Promise<string[]> => (await recordsOf(dns, name)) ?? [];
  return new TlsReports({ dir: reportsDir(place), process: place.process, config: current(), log, txt });
}

type Names = Pick<Dns, 'txt' | 'addresses'>;

async function recordsOf(dns: Names, name: string): Promise<string[] | null> {
  const answer = await dns.txt(name);
  if (answer.kind === 'temporary') return null;
  return answer.kind === 'found' ? answer.records : [];
}

export interface TlsReportSenderSetup {
  place: ProcessPlace;
  log: Log;
  arena: Arena;
  ids: QueueIds;
  /** Number of the shard that reports go to. */
  shard: number;
  /** The route table as it was at the start. */
  routes: RouteTable;
  /** The config as of the last reload. */
  current(): Config;
  submit(entry: Entry): void;
}

/** One for a host, in its process 0; null in others. */
export function openTlsReportSender(setup: TlsReportSenderSetup): TlsReportSender | null {
  const { place, log, current } = setup;
  if (place.process !== 0) return null;
  const dns = currentDns(current);
  const addressOf = (host: string): Promise<string> =>
    addressToCall(dns, host, !current().delivery.refuse_loopback_mx);
  return new TlsReportSender({
    dir: reportsDir(place),
    config: current,
    log,
    txt: (name) => recordsOf(dns, name),
    mail: (to, message) => queue(setup, to, message),
    post: (url, report, signal) =>
      postReport(url, report, {
        timeoutMs: current().delivery.tls_rpt.send_timeout_ms,
        addressOf,
        signal,
      }),
    now: Date.now,
  });
}

/** Puts a report into the queue, from the null reverse-path: if it cannot be delivered, nobody is told (I4). */
function queue(
  { arena, ids, shard, routes, current, submit }: TlsReportSenderSetup,
  { address, domain }: { address: string; domain: string },
  bytes: Buffer,
): Promise<void> {
  const content = arena.store(bytes);
  if (content === NO_CONTENT) return Promise.reject(new Error('no room for its content (content_memory_mb)'));
  const destination = reportDestination(domain, routes);
  const message: Message = {
    queueId: ids.next(shard),
    envelope: {
      reversePath: '',
      body: '7BIT',
      smtpUtf8: false,
      recipients: [{ address, domain: destination, class: 'external', notify: NOTIFY.never }],
    },
    trace: '',
    content,
    sizeBytes: bytes.length,
    receivedAtMs: Date.now(),
    client: { address: 'internal', helo: '', protocol: '', sessionId: '' },
    messageId: messageIdOf(bytes),
    attachments: current().index_attachments ? attachmentsOf(bytes) : [],
  };
  return new Promise((durable) => submit({ message, plan: [], thread: -1, ticket: -1, durable }));
}
