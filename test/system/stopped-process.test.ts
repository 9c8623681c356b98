/**
 * A relay process that stands still for longer than every timeout (SIGSTOP here; a machine that is paused does the same):
 * clients and next hops that spoke meanwhile were in time.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as pass } from 'node:timers/promises';
import { connect as tlsConnect } from 'node:tls';
import { LOCALHOST } from '../native/tls-rig.ts';
import { RelayFixture } from '../support/relay-fixture.ts';
import { Talk } from '../support/talk.ts';
import { eventually, until } from '../support/wait.ts';

const TIMEOUT_MS = 800;
/** Of clients: their dialogs must come as far as wanted within it, on a busy machine too. */
const CLIENT_TIMEOUT_MS = 2000;
/** Longer than a timeout by so much. */
const MORE_MS = 200;

function isStopped(pid: number): boolean {
  return readdirSync(`/proc/${pid}/task`).every((thread) =>
    /\) T /.test(readFileSync(`/proc/${pid}/task/${thread}/stat`, 'latin1')),
  );
}

/** Pauses that are not over: a thread may have sent what calls for the next one before it stood still. */
let pausing = 0;

/** While the relay is stopped something happens; it goes on when every timeout is over. */
async function whileStopped(relay: RelayFixture, timeoutMs: number, happens: () => void): Promise<void> {
  pausing++;
  relay.signal('SIGSTOP');
  // Until all its threads stand still, one may read what comes.
  await until(() => isStopped(relay.pid), 'the process stands still');
  happens();
  await pass(timeoutMs + MORE_MS);
  if (--pausing === 0) relay.signal('SIGCONT');
}

test('what a relay that stands still is told to do it does when it goes on, and the operator is told so', async (t) => {
  const relay = await RelayFixture.start({ delivery: { enabled: false } });
  t.after(() => relay.destroy());
  relay.signal('SIGSTOP');
  await until(() => isStopped(relay.pid), 'the process stands still');
  const { code, stderr } = await relay.command('suspend', '--destination', 'a.test');
  relay.signal('SIGCONT');
  assert.equal(code, 75, stderr);
  assert.match(
    stderr,
    /does not answer .*should it go on, it does what it was told: see protorelay suspensions/,
  );
  await eventually(async () => {
    assert.match((await relay.command('suspensions')).stdout, /destination a\.test/);
  });
});

test('clients that spoke while the relay stood still were in time; one that was silent was not', async (t) => {
  const relay = new RelayFixture({
    listeners: [
      { host: '127.0.0.1', port: 0, tls: 'optional' },
      { host: '127.0.0.1', port: 0, tls: 'implicit' },
    ],
    tls: { cert_file: '../tls.pem', handshake_timeout_ms: 60_000, handshake_silence_ms: CLIENT_TIMEOUT_MS },
    smtp: { command_timeout_ms: CLIENT_TIMEOUT_MS, data_timeout_ms: CLIENT_TIMEOUT_MS },
    delivery: { enabled: false },
  });
  t.after(() => relay.destroy());
  writeFileSync(join(relay.dir, 'tls.pem'), `${LOCALHOST.certificate}\n${LOCALHOST.key}`);
  await relay.start();
  const at = { host: '127.0.0.1', port: relay.port };
  const [silent, early, inEnvelope, inContent] = (await Promise.all(
    [0, 1, 2, 3].map(() => Talk.hello(at)),
  )) as [Talk, Talk, Talk, Talk];
  for (const line of ['MAIL FROM:<a@b.test>', 'RCPT TO:<c@d.test>']) {
    await inEnvelope.say(line);
    await inContent.say(line);
  }
  assert.match(await inContent.say('DATA'), /^354 /);
  let secured: Promise<unknown> = Promise.resolve();
  await whileStopped(relay, CLIENT_TIMEOUT_MS, () => {
    early.write('NOOP\r\n');
    inEnvelope.write('RCPT TO:<e@d.test>\r\n');
    inContent.write('Subject: x\r\n\r\nbody\r\n');
    const { port } = relay.addresses[1] as { port: number };
    const socket = tlsConnect({ host: '127.0.0.1', port, rejectUnauthorized: false });
    t.after(() => socket.destroy());
    secured = new Promise((done, fail) => socket.once('secureConnect', done).once('error', fail));
  });
  assert.match(await early.reply(), /^250 /);
  assert.match(await inEnvelope.reply(), /^250 /);
  assert.match(await inContent.say('.'), /^250 /);
  await secured;
  assert.match(await silent.reply(), /^421 4\.4\.2 /);
});

/** A next hop whose every reply comes while the relay stands still. */
class SlowWorldHop {
  readonly commands: string[] = [];
  #inContent = false;
  #rest = '';
  readonly #socket: Socket;
  readonly #replies: (text: string) => void;

  constructor(socket: Socket, replies: (text: string) => void) {
    this.#socket = socket;
    this.#replies = replies;
    socket.setEncoding('latin1').on('error', () => {});
    socket.on('data', (text: string) => this.#read(text));
    this.#say('220 hop.test');
  }

  #say(text: string): void {
    this.#replies(text);
    this.#socket.write(`${text}\r\n`);
  }

  #read(text: string): void {
    const lines = (this.#rest + text).split('\r\n');
    this.#rest = lines.pop() as string;
    for (const line of lines) {
      if (this.#inContent && line !== '.') continue;
      this.commands.push(line);
      this.#inContent = line === 'DATA';
      this.#say(this.#inContent ? '354 go on' : '250 ok');
    }
  }
}

test('a next hop that replied while the relay stood still was in time', async (t) => {
  let relay: RelayFixture | null = null;
  const hops: SlowWorldHop[] = [];
  const pauses: Promise<void>[] = [];
  const server = createServer((socket) => {
    const stopped = (): void => void pauses.push(whileStopped(relay as RelayFixture, TIMEOUT_MS, () => {}));
    hops.push(new SlowWorldHop(socket, stopped));
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  t.after(() => server.close());
  relay = await RelayFixture.start({
    delivery: {
      smarthost: { host: '127.0.0.1', port: (server.address() as AddressInfo).port },
      command_timeout_ms: TIMEOUT_MS,
      data_timeout_ms: TIMEOUT_MS,
      final_reply_timeout_ms: TIMEOUT_MS,
      idle_connection_ms: 0,
      tls: { mode: 'none' },
    },
  });
  t.after(() => (relay as RelayFixture).destroy());
  const talk = await Talk.hello({ host: '127.0.0.1', port: relay.port });
  await talk.accepted({ to: 'b@x.test' });
  talk.destroy();
  const fate = await relay.events.one(
    'fate',
    ({ type }) => type === 'delivered' || type === 'deferred',
    30_000,
  );
  assert.equal(fate.type, 'delivered', JSON.stringify(fate));
  assert.equal(hops.length, 1);
  await Promise.all(pauses);
});
