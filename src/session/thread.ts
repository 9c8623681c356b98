/**
 * Entry and composition root of a session thread: builds what its sessions share, makes the reactor, and joins both to
 * the main thread. Holds no rule about mail.
 */

import { join } from 'node:path';
import { parentPort, workerData } from 'node:worker_threads';
import { Admission } from '../admission/admission.ts';
import { Postmaster } from '../admission/postmaster.ts';
import { RelayClasses } from '../admission/recipient-class.ts';
import { RelayPolicy } from '../admission/relay-policy.ts';
import { openQuotas } from '../auth/quotas.ts';
import { PinoLog } from '../base/pino-log.ts';
import { steadyMs } from '../base/steady.ts';
import type { Config } from '../config/schema.ts';
import { SuppressionFilter } from '../feedback/suppression-filter.ts';
import { QueueIds } from '../mail/queue-id.ts';
import { attachArena, createReactor, mapSharedMemory } from '../native.ts';
import { ContentAccount } from '../policy/content-account.ts';
import { ConnectionGate } from '../policy/gate.ts';
import { openPolicyMemory } from '../policy/host-memory.ts';
import { Policy } from '../policy/policy.ts';
import { policyTimeOf } from '../policy/policy-time.ts';
import { SessionPolicy } from '../policy/session-policy.ts';
import { DateCache } from '../protocol/date.ts';
import { Barrier } from './barrier.ts';
import type { SessionContext } from './context.ts';
import { sessionLog } from './flood-log.ts';
import { Logins } from './logins.ts';
import type { FromSession, SessionThreadStart, ToSession } from './messages.ts';
import { ReactorServer } from './reactor-server.ts';
import { Reports } from './reports.ts';
import { hasAuth, lineLimitBytes, settingsOf } from './settings.ts';
import { ShardRouter } from './shard-router.ts';
import { Submissions } from './submissions.ts';
import { SuppressedRecipients } from './suppressed.ts';
import { Transcript } from './transcript.ts';
import { createVerbs } from './verbs.ts';

const start = workerData as SessionThreadStart;
const main = parentPort;
if (main === null) throw new Error('session/thread.ts is the entry of a worker thread');
const post = (message: FromSession): void => main.postMessage(message);

const { config } = start;
const spillDir = join(config.data_dir, 'spill');
const arena = attachArena(start.arena, spillDir);
const clock = { nowMs: Date.now(), steadyMs: steadyMs() };
const policyClock = {
  get nowMs() {
    return policyTimeOf(clock.steadyMs);
  },
};
const log = new PinoLog({ ...config.log, thread: `session-${start.origin}` });
/** What clients cause goes here, what we have to say ourselves straight to `log`. */
const clientsLog = sessionLog(log);
const memory = openPolicyMemory(start.policy, mapSharedMemory);
const gate = new ConnectionGate(config, memory, log);
const gauges = new Int32Array(start.gauges);
const queueIds = new QueueIds(start.origin, start.notBeforeMs, () => clock.nowMs);
const submissions = new Submissions(post);
let onTurn: (count: number) => void = () => {};
const reactor = createReactor({
  arena,
  spillDir,
  spillThresholdBytes: config.spill_threshold_bytes,
  maxConnections: config.smtp.max_connections,
  // The reactor counts a line without its CRLF.
  maxLineBytes: lineLimitBytes(config) - 2,
  holdAfterVerbs: true,
  maxHandshakes: config.tls.max_handshakes,
  accounts: memory.accounts.region,
  onTurn: (count) => onTurn(count),
});

const filter =
  start.suppressionFilter === undefined
    ? null
    : new SuppressionFilter(start.suppressionFilter, { map: mapSharedMemory });
const recipients = new SuppressedRecipients((hash) => filter?.mayHold(hash) ?? true, post);

const context: SessionContext = {
  port: reactor,
  arena,
  contentAccount: new ContentAccount(memory.accounts, arena),
  clock,
  readClock() {
    clock.nowMs = Date.now();
    clock.steadyMs = steadyMs();
  },
  queueIds,
  shards: new ShardRouter({
    database: config.database,
    gauges,
    queueIds,
    now: steadyMs,
    lookUp: (user) => submissions.lookUp(user),
  }),
  dates: new DateCache(),
  verbs: createVerbs(),
  admission: new Admission(gauges, arena, config.persist_max_inflight_mails),
  submissions,
  logins: new Logins(post),
  quotas: hasAuth(config) ? openQuotas(config.auth.path, config.auth.max_quota_users) : null,
  log: clientsLog,
  barrier: new Barrier(gauges, clientsLog),
  tlsSlot: start.tls.server,
  reports: new Reports(post, start.returnPaths),
  ...reloadable(config),
};
const server = new ReactorServer(context, reactor);
onTurn = (count) => server.onTurn(count);

/** What a reload replaces; sessions open now keep their answer to who may relay. */
function reloadable(
  from: Config,
): Pick<
  SessionContext,
  'settings' | 'suppressed' | 'relayPolicy' | 'postmaster' | 'classes' | 'policyOf' | 'transcript'
> {
  const relayPolicy = new RelayPolicy(from.relay_networks, from.relay_domains);
  const policy = new Policy(from, { gate, memory, log: clientsLog, clock: policyClock });
  return {
    settings: settingsOf(from),
    suppressed: from.suppression.at_rcpt === 'refuse' ? recipients : null,
    relayPolicy,
    postmaster: new Postmaster(from),
    classes: new RelayClasses(relayPolicy),
    policyOf: (session, address, mayRelay) => new SessionPolicy(policy, session, address, mayRelay),
    transcript: from.log.transcripts.inbound ? new Transcript(log) : null,
  };
}

// A rejection that a dialog awaits ends in that dialog; here comes one that nobody awaits, as of a DNS query on the side.
process.on('unhandledRejection', (error) => context.barrier.report('', '', 'promise', error));

main.on('message', (message: ToSession) => {
  switch (message.type) {
    case 'verdicts':
      server.verdicts(message.pairs);
      break;
    case 'suppressed':
      recipients.answered(message.id, message.isSuppressed);
      break;
    case 'return-paths':
      context.reports.use(message.keys);
      break;
    case 'login':
      server.login(message.answer);
      break;
    case 'shards':
      message.users.forEach((user, i) => {
        if (message.shards === null) context.shards.unanswered(user);
        else context.shards.learn(user, message.shards[i] ?? null);
      });
      break;
    case 'config':
      gate.reconfigure(message.config);
      Object.assign(context, reloadable(message.config));
      context.admission.reconfigure(message.config.persist_max_inflight_mails);
      log.setLevel(message.config.log.level);
      break;
    case 'drain':
      server.drain(() => post({ type: 'drained' }));
      break;
    case 'reopen-log':
      log.reopen();
      break;
    default:
      message satisfies never;
  }
});

post({ type: 'ready', reactorId: reactor.id });
