/**
 * Loaded into a relay's threads by `--import` (see test/system/dialog-faults.test.ts): makes errors of our own come up in
 * single dialogs, at the place asked for. On session threads a client arms the next one by `NOOP arm WHERE`; on delivery
 * threads the destination says where, as `WHERE.fault.test`.
 */
import { isMainThread, workerData } from 'node:worker_threads';

// biome-ignore lint/suspicious/noExplicitAny: any method of any class.
type Method = (this: any, ...args: any[]) => unknown;

const FAULT = 'injected fault';

// biome-ignore lint/suspicious/noExplicitAny: the same.
type Before = (self: any, args: any[]) => void;

/** Calls `before`, which may throw, ahead of the method. */
function ahead(prototype: object, name: string, before: Before): void {
  const target = prototype as Record<string, Method | undefined>;
  const method = target[name];
  if (method === undefined) throw new Error(`there is no method ${name} to fail ahead of`);
  target[name] = function (...args): unknown {
    before(this, args);
    return method.apply(this, args);
  };
}

function fail(): never {
  throw new Error(FAULT);
}

async function armSessions(): Promise<void> {
  const { Session } = await import('../../src/session/session.ts');
  const { CommandLines } = await import('../../src/session/command-lines.ts');
  const { VerbTable } = await import('../../src/session/verb.ts');
  const { Submissions } = await import('../../src/session/submissions.ts');
  const { Logins } = await import('../../src/session/logins.ts');
  const { SessionPolicy } = await import('../../src/policy/session-policy.ts');
  const { RelayPolicy } = await import('../../src/admission/relay-policy.ts');
  const { DateCache } = await import('../../src/protocol/date.ts');
  let armed = '';
  const fires = (where: string): boolean => {
    if (armed !== where) return false;
    armed = '';
    return true;
  };
  const at =
    (where: string): (() => void) =>
    () => {
      if (fires(where)) fail();
    };
  const table = VerbTable.prototype;
  const { find } = table;
  table.find = function (line, code) {
    const verb = find.call(this, line, code);
    const arms = /^NOOP arm (\S+)$/.exec(line);
    if (arms !== null) armed = arms[1] as string;
    else if (verb !== undefined)
      for (const step of ['check', 'admit', 'screen', 'apply'] as const)
        if (fires(step)) return { ...verb, [step]: fail };
    return verb;
  };
  for (const name of ['proxied', 'content', 'chunk', 'timeout', 'verdict', 'greet'])
    ahead(Session.prototype, name, at(name));
  ahead(CommandLines.prototype, 'resumed', at('resumed'));
  ahead(CommandLines.prototype, 'take', (_self, args) => onLine(args[0]));
  // The arming line itself is one.
  let skip = false;
  function onLine(text: string): void {
    if (/^NOOP arm line$/.test(text)) skip = true;
    else if (skip || fires('line')) {
      skip = false;
      armed = '';
      fail();
    }
  }
  for (const name of ['add', 'addAwaited']) ahead(Submissions.prototype, name, at('submit'));
  ahead(DateCache.prototype, 'at', at('message'));
  ahead(Logins.prototype, 'ask', at('ask'));
  ahead(SessionPolicy.prototype, 'authenticated', at('authenticated'));
  ahead(SessionPolicy.prototype, 'closed', at('closed'));
  ahead(RelayPolicy.prototype, 'isRelayClient', at('constructor'));
  const { mail } = SessionPolicy.prototype;
  SessionPolicy.prototype.mail = function (...args) {
    if (fires('rejected')) return Promise.reject(new Error(FAULT));
    if (!fires('late')) return mail.apply(this, args);
    return Promise.resolve(null).then(() => {
      armed = 'apply-late';
      return null;
    });
  };
  ahead(Session.prototype, 'reply', at('apply-late'));
}

async function armDeliveries(): Promise<void> {
  const { ClientSession } = await import('../../src/delivery/client/session.ts');
  const { Sender } = await import('../../src/delivery/sender.ts');
  const { Router } = await import('../../src/delivery/route.ts');
  const { Settler } = await import('../../src/delivery/settle.ts');
  const { Destination } = await import('../../src/delivery/destination.ts');
  const { DsnWriter } = await import('../../src/report/dsn.ts');
  type Client = InstanceType<typeof ClientSession>;
  const whereOf = (key: string): string => /^(.+)\.fault\.test$/.exec(key)?.[1] ?? '';
  const wants = (session: Client): string => whereOf((session.owner as unknown as { key: string }).key);
  const stageOf = ({ state }: Client): string => {
    if (state.phase === 'envelope') return state.transaction.awaits;
    return state.phase;
  };
  ahead(ClientSession.prototype, 'line', (session: Client) => {
    if (wants(session) === `line-${stageOf(session)}`) fail();
  });
  for (const name of ['opened', 'sent', 'timedOut', 'closed', 'secured', 'notSecured', 'established', 'idle'])
    ahead(ClientSession.prototype, name, (session: Client) => {
      if (wants(session) === name.toLowerCase()) fail();
    });
  // An error while another error is dealt with: the peer hangs up, and the end of the dialog fails as well.
  ahead(Destination.prototype, 'ended', (destination: { key: string }) => {
    if (whereOf(destination.key) === 'ended') fail();
  });
  ahead(Destination.prototype, 'next', (destination: { key: string }) => {
    if (whereOf(destination.key) === 'next') fail();
  });
  const leaseHolds = Destination.prototype.leaseHolds;
  Destination.prototype.leaseHolds = function (job) {
    if (whereOf(this.key) === 'body') fail();
    return leaseHolds.call(this, job);
  };
  ahead(Sender.prototype, 'connect', (_sender, args) => {
    if (whereOf(args[0].key) === 'connect') fail();
  });
  ahead(Router.prototype, 'route', (_router, args) => {
    if (whereOf(args[0]) === 'route') fail();
  });
  const { route } = Router.prototype;
  Router.prototype.route = function (key) {
    return whereOf(key) === 'rejected' ? Promise.reject(new Error(FAULT)) : route.call(this, key);
  };
  ahead(DsnWriter.prototype, 'draft', (_writer, args) => {
    if (whereOf(args[0].destination) === 'draft') fail();
  });
  ahead(Settler.prototype, 'finish', (_settler, args) => {
    if (whereOf(args[0].job.destination) === 'settle') fail();
  });
  ahead(Destination.prototype, 'accept', (destination: { key: string }) => {
    if (whereOf(destination.key) === 'accept') fail();
  });
}

if (!isMainThread && workerData !== null && typeof workerData === 'object') {
  if ('ownListeners' in workerData) await armDeliveries();
  else if ('policy' in workerData) await armSessions();
}
