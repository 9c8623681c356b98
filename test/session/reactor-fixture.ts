/** Real sockets in front of real sessions on the native reactor, the test as main thread: every message commits. */

import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createGauges, GAUGE } from '../../src/admission/gauges.ts';
import { readMessages } from '../../src/mail/message-wire.ts';
import {
  type Acceptor,
  type Arena,
  createArena,
  createReactor,
  listen,
  type Reactor,
} from '../../src/native.ts';
import type { ContentAccount } from '../../src/policy/content-account.ts';
import type { PolicyMemory } from '../../src/policy/host-memory.ts';
import { limitShares } from '../../src/policy/share-limits.ts';
import { type FromSession, VERDICT } from '../../src/session/messages.ts';
import { ReactorServer } from '../../src/session/reactor-server.ts';
import { lineLimitBytes } from '../../src/session/settings.ts';
import type { Peer } from './corpus.ts';
import {
  configOf,
  contextOf,
  FixtureUsers,
  type LogLine,
  policyMemory,
  recordingLog,
  type Submitted,
} from './dialog-fixture.ts';

export class ReactorFixture {
  readonly folder = mkdtempSync(join(tmpdir(), 'session-'));
  readonly arena: Arena;
  readonly gauges = createGauges();
  readonly logged: LogLine[] = [];
  readonly submitted: Submitted[] = [];
  readonly closedPeers: string[] = [];
  readonly reactor: Reactor;
  readonly server: ReactorServer;
  readonly memory: PolicyMemory;
  readonly #contentAccount: ContentAccount;
  readonly #acceptor: Acceptor;
  readonly #users: FixtureUsers;
  readonly #clients: TcpClient[] = [];
  #waiters: (() => void)[] = [];

  constructor(
    settings: object = {},
    listenAt: { host?: string; port?: number; path?: string } = { host: '127.0.0.1', port: 0 },
    tlsSlot = 0,
  ) {
    const config = configOf(settings);
    this.#users = new FixtureUsers(config);
    this.arena = createArena(16 * 1024 * 1024, this.folder);
    this.memory = policyMemory(config);
    limitShares(this.memory.accounts, { ...config, content_memory_mb: 16 }, 1);
    let onTurn: (count: number) => void = () => {};
    this.reactor = createReactor({
      arena: this.arena,
      spillDir: this.folder,
      spillThresholdBytes: config.spill_threshold_bytes,
      maxConnections: 100,
      maxLineBytes: lineLimitBytes(config) - 2,
      holdAfterVerbs: true,
      maxHandshakes: config.tls.max_handshakes,
      accounts: this.memory.accounts.region,
      onTurn: (count) => onTurn(count),
    });
    const log = recordingLog(this.logged);
    const context = contextOf(
      config,
      this.reactor,
      this.arena,
      this.gauges,
      (m) => this.#receive(m),
      log,
      Date.now,
      { memory: this.memory },
      tlsSlot,
    );
    this.#contentAccount = context.contentAccount;
    this.server = new ReactorServer(context, this.reactor);
    onTurn = (count) => this.server.onTurn(count);
    this.#acceptor = listen({
      ...listenAt,
      backlog: 16,
      listener: 0,
      batch: 16,
      onAccept: (fds, addresses) => {
        for (const [i, fd] of fds.entries())
          assert(this.#acceptor.handOff(fd, this.reactor.id, addresses[i] as string));
      },
      onError: (errno) => assert.fail(`accept failed with ${errno}`),
    });
  }

  #receive(batch: FromSession): void {
    if (batch.type === 'logins') {
      for (const { id, credentials } of batch.requests)
        setImmediate(() => this.server.login({ id, ...this.#users.answer(credentials) }));
    }
    if (batch.type !== 'turn') return;
    this.closedPeers.push(...batch.closedPeers);
    const pairs: number[] = [];
    readMessages(batch.messages, batch.tickets.length).forEach((message, i) => {
      const ticket = batch.tickets[i] as number;
      const content = this.arena.head(message.content, Number.MAX_SAFE_INTEGER).toString('latin1');
      this.submitted.push({ message, ticket, content });
      Atomics.sub(this.gauges, GAUGE.inflightMails, 1);
      this.#contentAccount.giveBack(message.content);
      this.arena.release(message.content);
      if (ticket >= 0) pairs.push(ticket, VERDICT.committed);
    });
    // As from another thread: not before the turn is over.
    setImmediate(() => {
      if (pairs.length > 0) this.server.verdicts(pairs);
      for (const wake of this.#waiters.splice(0)) wake();
    });
  }

  get port(): number {
    return this.#acceptor.port;
  }

  async client(localAddress = '127.0.0.1'): Promise<TcpClient> {
    const socket = connect({ host: '127.0.0.1', port: this.#acceptor.port, localAddress, noDelay: true });
    const client = new TcpClient(socket, this);
    this.#clients.push(client);
    await new Promise((done, fail) => socket.once('connect', done).once('error', fail));
    return client;
  }

  /** Resolves once `count` messages were submitted. */
  async messages(count: number): Promise<void> {
    while (this.submitted.length < count) await new Promise<void>((wake) => this.#waiters.push(wake));
  }

  /** Resolves when no session is open; then every chunk and spill file must have been given back. */
  async finish(): Promise<void> {
    for (const client of this.#clients) client.destroy();
    while (this.server.open > 0) await new Promise<void>((wake) => this.#waiters.push(wake));
    this.#acceptor.close();
    this.reactor.destroy();
    assert.equal(this.arena.freeBytes(), this.arena.totalBytes, 'all content was given back');
    for (const resource of ['handshakes', 'content', 'spill', 'envelopes'] as const)
      assert.equal(this.memory.accounts.total(resource), 0, `nobody holds ${resource} any more`);
    assert.deepEqual(readdirSync(this.folder), [], 'no spill file is left');
    rmSync(this.folder, { recursive: true });
  }
}

export class TcpClient implements Peer {
  readonly #socket: Socket;
  readonly #fixture: ReactorFixture;
  #text = '';
  #ended = false;
  #messages = 0;
  #wake: () => void = () => {};

  constructor(socket: Socket, fixture: ReactorFixture) {
    this.#socket = socket;
    this.#fixture = fixture;
    socket.on('data', (bytes) => {
      this.#text += bytes.toString('latin1');
      this.#wake();
    });
    socket.on('close', () => {
      this.#ended = true;
      this.#wake();
    });
    socket.on('error', () => {});
  }

  /** Resolves when the kernel has the octets. */
  send(octets: Buffer | string): Promise<void> {
    return new Promise((done) => this.#socket.write(octets, () => done()));
  }

  async line(): Promise<string | null> {
    for (;;) {
      const end = this.#text.indexOf('\r\n');
      if (end >= 0) {
        const line = this.#text.slice(0, end);
        this.#text = this.#text.slice(end + 2);
        return line;
      }
      if (this.#ended) return null;
      await new Promise<void>((wake) => {
        this.#wake = wake;
      });
    }
  }

  /** Last line of the next reply. */
  async reply(): Promise<string> {
    for (;;) {
      const line = await this.line();
      if (line === null) return '<close>';
      if (line[3] !== '-') return line;
    }
  }

  async message(): Promise<unknown> {
    await this.#fixture.messages(this.#messages + 1);
    return this.#fixture.submitted[this.#messages++];
  }

  stage(): void {
    throw new Error('stage directions need the plain reactor');
  }

  async finish(): Promise<void> {
    assert.equal(this.#text, '', 'nothing more was sent');
    assert.equal(this.#fixture.submitted.length, this.#messages, 'every message is accounted for');
  }

  destroy(): void {
    this.#socket.destroy();
  }
}
