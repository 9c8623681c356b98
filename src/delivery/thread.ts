/**
 * Entry of a delivery thread: builds the sender and its parts, and carries messages between it and the main
 * thread. Jobs arrive and results leave in batches; content crosses only as arena handles.
 */

import { closeSync, openSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { GAUGE } from '../admission/gauges.ts';
import { LineBudget } from '../base/calm-log.ts';
import type { Log, LogEvent, LogLine } from '../base/log.ts';
import { steadyMs } from '../base/steady.ts';
import type { Config } from '../config/schema.ts';
import { Egress } from '../egress/egress.ts';
import { ThreadReplies } from '../feedback/thread-replies.ts';
import { BegunSlots, SLOT_BYTES } from '../mail/begun-slots.ts';
import { readJobs } from '../mail/job-wire.ts';
import { QueueIds } from '../mail/queue-id.ts';
import { type ReturnPathKeys, ReturnPaths } from '../mail/return-path.ts';
import type { TlsSession } from '../mail/tls-session.ts';
import { attachArena, createReactor, mapSharedMemory } from '../native.ts';
import { DsnWriter } from '../report/dsn.ts';
import { leaseHolds } from '../scheduler/leases.ts';
import { isTooOld, nextAttempt } from '../scheduler/retry.ts';
import { MessageGates } from '../shaping/message-gates.ts';
import { ThreadLimits } from '../shaping/thread-limits.ts';
import { SigningDesk } from '../signing/desk.ts';
import { headerSection } from '../signing/header-section.ts';
import { signingDomains } from '../signing/signing-domains.ts';
import type { Attempt } from './attempt.ts';
import type { DeliveryThreadStart, FromDelivery, ToDelivery } from './messages.ts';
import { Dns } from './names/dns.ts';
import { ownAddresses } from './names/own-addresses.ts';
import { ValidatedDns } from './names/validated-dns.ts';
import { Router, type RouterPorts } from './route.ts';
import { validates } from './security/dane.ts';
import { MtaSts } from './security/mta-sts.ts';
import { stsFetcher } from './security/sts-fetch.ts';
import { stsFacts } from './security/sts-policy.ts';
import { StsStore } from './security/sts-store.ts';
import { Sender } from './sender.ts';
import { sessionIdOf, Transcripts } from './transcripts.ts';

/** Longest reply line; RFC 5321 §4.5.3.1.5 asks for 512. A longer one is cut. */
const MAX_REPLY_LINE_BYTES = 4096;

const MAX_FAULT_LINES = 20;

const port = parentPort;
if (port === null) throw new Error('src/delivery/thread.ts is started as a worker thread');

const start = workerData as DeliveryThreadStart;
const spillDir = `${start.config.data_dir}/spill`;
const arena = attachArena(start.arena, spillDir);
const begun = start.begun === null ? undefined : begunSlots(start.begun);
const own = ownAddresses(start.ownListeners);
const gauges = new Int32Array(start.gauges);
const ids = new QueueIds(start.origin, start.notBeforeMs);

/** Limits how many stacks a second go to the main thread, which has its own limit for the log. */
const faultLines = new LineBudget(MAX_FAULT_LINES);

/** Lines for the log of the main thread, gathered for one message per turn. */
let lines: LogLine[] = [];
const say = (event: LogEvent, fields: object): void => {
  if (lines.push({ event, fields } as LogLine) > 1) return;
  setImmediate(() => {
    port.postMessage({ type: 'log', lines } satisfies FromDelivery);
    lines = [];
  });
};
const log: Log = { debug: say, info: say, warn: say, error: say };
const replies = new ThreadReplies(
  start.replies,
  start.config.replies.unknown_kept,
  (error) => log.error('replies.rules_unusable', { error }),
  (host) => limits.providerOfHost(host),
);
const transcripts = new Transcripts(start.name, log, start.config);

/** Kept, with its cache, over a reload that does not change the dns section. */
let dns = new Dns(start.config.dns);
let dnsRules = JSON.stringify(start.config.dns);
let validated: ValidatedDns | undefined;
/** Kept over reloads: if a policy were forgotten, an attacker could hide it from us. */
const sts = start.config.delivery.mta_sts.enabled
  ? new MtaSts({
      dns: { txt: (name) => dns.txt(name) },
      fetch: (domain) => fetchPolicy(domain),
      store: new StsStore({
        dir: start.stsDir,
        maxDomains: start.config.delivery.mta_sts.max_domains,
        writer: start.name,
        warn: log.warn,
        now: Date.now,
      }),
      maxDomains: start.config.delivery.mta_sts.max_domains,
      now: Date.now,
      steady: steadyMs,
      failed: (domain, kept, { result, detail }) =>
        tlsSession({ policy: stsFacts(domain, kept), result, mx: '', address: '', detail }),
    })
  : undefined;

const gates = new MessageGates<Attempt>(signersOf);
const limits = new ThreadLimits(start.shaping, {
  table: start.limits,
  post: (news) => port.postMessage({ type: 'limit-keys', news } satisfies FromDelivery),
  later: (work) => void setImmediate(work),
});

/** Domains that sign the message; none where its content cannot be read. */
function signersOf({ fields, job }: Attempt): string[] {
  try {
    return signingDomains(fields, () => headerSection(arena, job));
  } catch {
    return [];
  }
}

function begunSlots({ path, slots, from, count }: NonNullable<DeliveryThreadStart['begun']>): BegunSlots {
  const fd = openSync(path, 'r+');
  try {
    return new BegunSlots(new Int32Array(mapSharedMemory(fd, slots * SLOT_BYTES)), from, count);
  } finally {
    closeSync(fd);
  }
}

function fetchPolicy(domain: string): Promise<string> {
  const timeoutMs = sender.config.delivery.mta_sts.fetch_timeout_ms;
  return stsFetcher({ timeoutMs, dns })(domain);
}

function createRouter(config: Config): Router {
  const rules = JSON.stringify(config.dns);
  if (rules !== dnsRules) {
    dns = new Dns(config.dns);
    validated = undefined;
    dnsRules = rules;
  }
  validated = validates(config) ? (validated ?? new ValidatedDns({ rules: config.dns })) : undefined;
  const siteOf: RouterPorts['siteOf'] = (domain, hosts) => {
    const site = limits.siteOf(domain, hosts);
    return { site, family: limits.dataOf(site).limits.ip_family ?? 'any' };
  };
  return new Router(config, { dns, own, random: Math.random, siteOf, sts, validated, tlsSession });
}

/** TLS sessions for the reports, gathered for one message per turn. */
let sessions: TlsSession[] = [];

function tlsSession(session: TlsSession): void {
  if (!sender.config.delivery.tls_rpt.enabled) return;
  if (sessions.push(session) > 1) return;
  setImmediate(() => {
    port?.postMessage({ type: 'tls-sessions', sessions } satisfies FromDelivery);
    sessions = [];
  });
}

const desk = new SigningDesk<Attempt>({
  arena,
  now: Date.now,
  done: (signed) => sender.signed(signed),
});

let reactorId = -1;
const sender: Sender = new Sender({
  config: start.config,
  arena,
  tlsSlot: start.tls.client,
  tlsSession,
  createReactor: (onTurn, maxConnections) => {
    const reactor = createReactor({
      arena,
      spillDir,
      spillThresholdBytes: start.config.spill_threshold_bytes,
      maxConnections,
      maxLineBytes: MAX_REPLY_LINE_BYTES,
      holdAfterVerbs: false,
      onTurn,
    });
    reactorId = reactor.id;
    return reactor;
  },
  createRouter,
  createEgress: (config) => new Egress(config),
  dsn: new DsnWriter({
    arena,
    ids,
    get config() {
      return sender.config;
    },
  }),
  ...(begun === undefined ? {} : { begun }),
  signing: desk,
  retry: { nextAttempt, isTooOld },
  post: (message: FromDelivery) => port.postMessage(message),
  thread: start.thread,
  threads: start.threads,
  now: steadyMs,
  wall: Date.now,
  // Not by the time of the loop turn, because the process may have stood still since then.
  leaseHolds: (job) => leaseHolds(gauges, job, Date.now(), steadyMs()),
  classify: (reply) => replies.classify(reply),
  random: Math.random,
  gates,
  signers: signersOf,
  limits,
  fault: ({ connection, queueId, destination, at, error }) => {
    Atomics.add(gauges, GAUGE.deliveryFaults, 1);
    if (!faultLines.admit(at, steadyMs())) return;
    const session_id = connection === undefined ? undefined : sessionIdOf(start.name, connection);
    const fault = { queue_id: queueId, session_id, destination, at, error };
    port.postMessage({ type: 'fault', fault } satisfies FromDelivery);
  },
  transcript: (connection, destination) => transcripts.of(connection, destination),
  setTimer: (ms, fire) => void setTimeout(fire, ms),
});

function useReturnPaths(keys: ReturnPathKeys | null): void {
  sender.returnPaths = keys === null ? null : new ReturnPaths(keys);
}
useReturnPaths(start.returnPaths ?? null);

// Rejections that a delivery awaits are handled there; this is one that nobody awaits.
process.on('unhandledRejection', (error) => sender.fault('', 'promise', error));

port.on('message', (message: ToDelivery) => {
  switch (message.type) {
    case 'jobs':
      sender.accept(readJobs(message.wire, message.count));
      break;
    case 'connections':
      sender.grantConnections(message.grants);
      break;
    case 'return-paths':
      useReturnPaths(message.keys);
      break;
    case 'signing':
      desk.use(message.table);
      break;
    case 'config':
      transcripts.reconfigure(message.config);
      limits.reconfigure(message.shaping);
      replies.reconfigure(message.replies, message.config.replies.unknown_kept);
      sender.reconfigure(message.config);
      break;
    case 'sources':
      sender.setMissingSources(message.missing);
      break;
    case 'gates':
      gates.set(message.gates);
      break;
    case 'moves':
      sender.departures.setMoves(message.moves);
      break;
    case 'limit-slots':
      limits.slots(message.slots);
      break;
    case 'unknown-replies':
      port.postMessage({
        type: 'unknown-replies',
        ask: message.ask,
        replies: replies.unknown(),
      } satisfies FromDelivery);
      break;
    case 'resume':
      sender.resume(message.destinations);
      break;
    case 'take-back':
      port.postMessage({
        type: 'taken-back',
        ask: message.ask,
        jobs: sender.takeBack(message.meant),
      } satisfies FromDelivery);
      break;
    case 'drain':
      sender.drain(message.graceMs);
      break;
    case 'reopen-log':
      // This thread writes no log file.
      break;
    default:
      message satisfies never;
  }
});

port.postMessage({ type: 'ready', reactorId } satisfies FromDelivery);
