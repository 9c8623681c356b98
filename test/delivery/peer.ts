import { configSchema } from '../../src/config/schema.ts';
import { Attempt } from '../../src/delivery/attempt.ts';
import type { ClientPort, SessionOwner } from '../../src/delivery/client/owner.ts';
import { ClientSession } from '../../src/delivery/client/session.ts';
import type { Fault } from '../../src/delivery/client/state.ts';
import type { DialogReader } from '../../src/delivery/client/transcript.ts';
import { byFirstDigit } from '../../src/delivery/outcome.ts';
import { RememberedHosts } from '../../src/delivery/remembered-hosts.ts';
import { tlsPolicyOf } from '../../src/delivery/security/tls-policy.ts';
import type { Job } from '../../src/mail/job.ts';
import type { Arena } from '../../src/native.ts';

/** A session whose peer is the test: what it writes is in `log`, replies are given by hand. */
export class Peer {
  readonly log: string[] = [];
  readonly ready: Attempt[] = [];
  readonly finished: Attempt[] = [];
  readonly returned: Attempt[] = [];
  readonly ended: (Fault | null)[] = [];
  readonly failed: Fault[] = [];
  readonly deadlines: number[] = [];
  readonly session: ClientSession;
  readonly broken = new RememberedHosts();
  readonly careful = new RememberedHosts();
  others = false;
  turn = 0;
  /** Lines of one `say` come in one turn of the loop. */
  atOnce = false;
  constructor(delivery: object = {}, reader: DialogReader | null = null) {
    const { rules } = { rules: configSchema.parse({ delivery }).delivery };
    const port: ClientPort = {
      sendLatin1: (_, text) => void this.log.push(...text.split('\r\n').slice(0, -1)),
      sendUtf8: (_, text) => void this.log.push(...text.split('\r\n').slice(0, -1)),
      sendContent: (_, prefix, handle, stuffed) =>
        void this.log.push(`content ${handle} behind ${prefix.length} ${stuffed ? 'stuffed' : 'raw'}`),
      expectLines: () => {},
      deadline: (_, ms) => void this.deadlines.push(ms),
      secure: (_, slot, verify, name, key) => void this.log.push(`secure ${slot} ${verify} ${name} ${key}`),
      close: (_, atOnce) => void this.log.push(atOnce ? 'close now' : 'close'),
    };
    const peer = this;
    const owner: SessionOwner = {
      careful: this.careful,
      returnPaths: null,
      classify: byFirstDigit,
      slowDown: () => {},
      hasOthers: () => this.others,
      works: () => {},
      keepApart: () => {},
      get turn() {
        return peer.turn;
      },
      arena: {} as Arena,
      rules,
      ehloName: 'relay.test',
      tls: { policy: tlsPolicyOf(rules, 'x.test'), broken: this.broken, slot: 5, record: () => {} },
      recipientLimit: Number.POSITIVE_INFINITY,
      messageLimit: rules.max_messages_per_connection,
      idleMs: rules.idle_connection_ms,
      outside: (work) => work(),
      guard: (session, _at, work) => work(session),
      now: () => 1000,
      leaseHolds: () => true,
      next: () => this.ready.shift() ?? null,
      lookAhead: () => this.ready.shift() ?? null,
      finished: (attempt) => {
        attempt.settle((outcome) => outcome);
        this.finished.push(attempt);
      },
      returned: (attempt) => void this.returned.push(attempt),
      established: (session) => session.work(),
      notEstablished: (_, fault) => void this.failed.push(fault),
      idle: () => void this.log.push('idle'),
      ended: (_, fault) => void this.ended.push(fault),
    };
    const host = { name: 'mx.test', address: '192.0.2.1', port: 25 };
    this.session = new ClientSession(7, host, port, owner, reader);
  }

  say(...lines: string[]): void {
    this.turn++;
    for (const line of lines) {
      if (!this.atOnce) this.turn++;
      const text = Buffer.from(`..${line}`);
      this.session.line(text, 2, text.length - 2, 0);
    }
  }

  /** Up to idle or the first envelope. */
  hello(...capabilities: string[]): void {
    this.session.opened('192.0.2.8');
    this.say('220-mx.test', '220 ready');
    this.say(
      ...['mx.test', ...capabilities].map((text, i, all) => `250${i === all.length - 1 ? ' ' : '-'}${text}`),
    );
  }

  /** As after a first message that was taken: the next envelope may go behind a content. */
  tookOne(): void {
    this.session.accepted = 1;
  }

  take(): string[] {
    return this.log.splice(0);
  }

  attempt(content: number, ...addresses: string[]): Attempt {
    const job: Job = {
      queueId: '0123456789abcde',
      destination: 'x.test',
      attempts: 0,
      fence: 1,
      reversePath: `s${content}@x.test`,
      body: '7BIT',
      smtpUtf8: false,
      trace: 'R: x\r\n',
      content,
      sizeBytes: 10,
      receivedAtMs: 0,
      delayNotified: false,
      recipients: addresses.map((address, seq) => ({ seq, address, notify: 0 })),
    };
    const attempt = new Attempt(job);
    this.ready.push(attempt);
    return attempt;
  }
}
