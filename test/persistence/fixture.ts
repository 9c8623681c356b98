/** A queue in this thread, over an arena in plain memory; and messages to put into it. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Config, configSchema } from '../../src/config/schema.ts';
import type { CommitBatch, CommitMessage, OutboxPlan, Settlement } from '../../src/database/database.ts';
import { destinationOf } from '../../src/mail/destination.ts';
import type { Recipient } from '../../src/mail/envelope.ts';
import type { Message } from '../../src/mail/message.ts';
import { DatabaseClient, type TaskPool } from '../../src/persistence/database-client.ts';
import { QueueThread, routeTable } from '../../src/persistence/queue-thread.ts';
import type { StorageNote } from '../../src/storage/notes.ts';
import { FakeArena } from './fake-arena.ts';

type DeepPartial<T> = {
  [K in keyof T]?: T[K] extends unknown[] ? T[K] : T[K] extends object ? DeepPartial<T[K]> : T[K];
};

export type Overrides = Omit<DeepPartial<Config>, 'database'> & { database?: object };

export function makeConfig(dataDir: string, overrides: Overrides = {}): Config {
  const { database, storage, ...rest } = overrides;
  const sqlite = { path: join(dataDir, 'queue.db') };
  return configSchema.parse({
    ...rest,
    data_dir: dataDir,
    database: database !== undefined && 'driver' in database ? database : { ...sqlite, ...database },
    storage: { local: { path: join(dataDir, 'mail') }, ...storage },
  });
}

export class QueueFixture {
  readonly dataDir: string;
  readonly arena = new FakeArena();
  /** What the storage told the operator. */
  readonly notes: StorageNote[] = [];
  #config: Config;
  #thread: QueueThread;
  database: DatabaseClient;
  #lives = 0;
  #sequence = 0;
  #token = 0;

  constructor(overrides: Overrides = {}, dataDir = mkdtempSync(join(tmpdir(), 'queue-'))) {
    this.dataDir = dataDir;
    mkdirSync(this.spillDir, { recursive: true });
    this.#config = makeConfig(dataDir, overrides);
    this.#thread = this.#newThread();
    this.database = this.#client();
  }

  get spillDir(): string {
    return join(this.dataDir, 'spill');
  }

  get config(): Config {
    return this.#config;
  }

  #newThread(): QueueThread {
    const owner = `${this.#config.node_id}#life${++this.#lives}`;
    const { arena, spillDir } = this;
    const say = (note: StorageNote) => void this.notes.push(note);
    return new QueueThread({ config: this.#config, arena, spillDir, owner, connections: 4, say });
  }

  /** The thread's side, without a thread. */
  get pool(): TaskPool {
    const thread = this.#thread;
    return {
      run: (task, shard) => thread.run(structuredClone(task), shard),
      destroy: async () => {},
    };
  }

  #client(): DatabaseClient {
    return new DatabaseClient(this.pool);
  }

  /** The relay is stopped and started again, with another config where one is given. */
  async restart(overrides?: Overrides): Promise<void> {
    await this.database.close();
    const { database, storage } = this.#config;
    if (overrides !== undefined) this.#config = makeConfig(this.dataDir, { database, storage, ...overrides });
    this.#thread = this.#newThread();
    this.database = this.#client();
  }

  async close(): Promise<void> {
    await this.database.close();
    rmSync(this.dataDir, { recursive: true, force: true });
  }

  queueId(): string {
    return `06dk0000000${(this.#sequence++).toString(16).padStart(4, '0')}`;
  }

  /** A message to these addresses; content is 'content of <queue id>' unless given. */
  message(
    addresses: string[],
    options: { content?: Uint8Array; spill?: boolean; message?: Partial<Message> } = {},
  ): Message {
    const queueId = this.queueId();
    const bytes = options.content ?? Buffer.from(`Subject: test\r\n\r\ncontent of ${queueId}\r\n`);
    return {
      queueId,
      envelope: {
        reversePath: 'sender@example.test',
        body: '8BITMIME',
        smtpUtf8: false,
        recipients: addresses.map(recipient),
      },
      trace: `Received: by relay.example.test id ${queueId}\r\n`,
      content: options.spill ? this.arena.spill(bytes, this.spillDir) : this.arena.store(bytes),
      sizeBytes: bytes.length,
      receivedAtMs: 1_700_000_000_000,
      client: { address: '127.0.0.1', helo: 'client.example.test', protocol: 'ESMTP', sessionId: 's1' },
      ...options.message,
    };
  }

  /** One row per destination of the config's route table. */
  plan(message: Message, state: OutboxPlan['state'] = 'PENDING'): CommitMessage {
    const rows = new Map<string, OutboxPlan>();
    message.envelope.recipients.forEach(({ domain }, seq) => {
      const destination = destinationOf(domain, routeTable(this.#config));
      const row = rows.get(destination) ?? { destination, seqs: [], state };
      row.seqs.push(seq);
      rows.set(destination, row);
    });
    return { message, plan: [...rows.values()] };
  }

  batch(parts: Partial<CommitBatch>): CommitBatch {
    return {
      token: `t${++this.#token}`,
      messages: [],
      settlements: [],
      withdrawals: [],
      nowMs: 1000,
      leaseUntilMs: 61_000,
      ...parts,
    };
  }

  /** Commits one message and gives up the reference on its content. */
  async add(
    addresses: string[],
    state: OutboxPlan['state'] = 'PENDING',
    options: Parameters<QueueFixture['message']>[1] = {},
  ): Promise<string> {
    const message = this.message(addresses, options);
    const { messages } = await this.database.commit(this.batch({ messages: [this.plan(message, state)] }));
    this.arena.release(message.content);
    if (messages[0] !== 'committed') throw new Error(`the message was ${messages[0]}`);
    return message.queueId;
  }

  async settle(
    parts: Partial<Settlement> & Pick<Settlement, 'queueId' | 'destination' | 'groups'>,
    nowMs = 1000,
  ): Promise<boolean> {
    const settlement: Settlement = { fence: 1, attempts: 1, retryAtMs: null, delayNotified: false, ...parts };
    const { settlements } = await this.database.commit(this.batch({ settlements: [settlement], nowMs }));
    return settlements[0] as boolean;
  }

  /** Bytes of the content as an operator reads them, trace first. */
  async cat(queueId: string): Promise<string | null> {
    const parts: Uint8Array[] = [];
    for (let offset = 0; ; ) {
      const part = await this.database.content(queueId, offset, 1000);
      if (part === null) return null;
      if (part.length === 0) return Buffer.concat(parts).toString('latin1');
      parts.push(part);
      offset += part.length;
    }
  }
}

export function recipient(address: string): Recipient {
  const domain = address.slice(address.lastIndexOf('@') + 1).toLowerCase();
  return { address, domain, class: 'external', notify: 0 };
}

export const delivered = (seqs: number[]): Settlement['groups'][number] => ({
  seqs,
  kind: 'delivered',
  reason: '',
  detail: '250 2.0.0 Ok (mx.example.test [192.0.2.1])',
});
export const deferred = (seqs: number[]): Settlement['groups'][number] => ({
  seqs,
  kind: 'deferred',
  reason: 'peer_4xx',
  detail: '451 4.7.1 try later (mx.example.test [192.0.2.1])',
});
export const bounced = (seqs: number[]): Settlement['groups'][number] => ({
  seqs,
  kind: 'bounced',
  reason: 'peer_5xx',
  detail: '550 5.1.1 no such user (mx.example.test [192.0.2.1])',
});
