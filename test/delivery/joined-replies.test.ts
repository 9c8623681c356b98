/**
 * A peer that says more than it was asked: every state of the client meets further reply lines in the same packet,
 * with all replies still due in front of them or not, and a close or a reset behind them. Real reactor, in the clear and
 * over TLS. Whatever comes of the mail, each message has one fate, and no chunk and no descriptor stays behind.
 *
 * `JOINED=all ./build.sh test test/delivery/joined-replies.test.ts` plays every case, else each seventeenth.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { test } from 'node:test';
import { createSecureContext, TLSSocket } from 'node:tls';
import { LOCALHOST } from '../native/tls-rig.ts';
import { countDescriptors } from '../support/descriptors.ts';
import { clientTls, Harness } from './harness.ts';

const STEPS = ['greeting', 'ehlo', 'mail', 'rcpt', 'data', 'dot', 'mail', 'rcpt', 'data', 'dot'] as const;
type Step = (typeof STEPS)[number];
const REPLIES: Record<Step, string> = {
  greeting: '220 peer.test',
  ehlo: '250-peer.test\r\n250-PIPELINING\r\n250 8BITMIME',
  mail: '250 ok',
  rcpt: '250 ok',
  data: '354 go',
  dot: '250 taken',
};
const FURTHER = [
  '250 ok', '250 ok\r\n250 ok\r\n250 ok', '250-begun', '354 go', '421 bye', '450 later', '550 no', '554-no\r\n554 no',
  'garbage', '', '220 again', '334 VXNlcm5hbWU6', `250 ${'x'.repeat(6000)}`, '999 what', '250 \u0000',
  `${'250 ok\r\n'.repeat(700)}250 ok`,
]; // biome-ignore format: one reply a place
const ENDINGS = ['stays', 'deaf', 'end', 'reset'] as const;

interface Case {
  /** Which reply has company. */
  at: number;
  /** All that is due up to the end of the dialog comes with it, before it was asked for. */
  early: boolean;
  further: string;
  ending: (typeof ENDINGS)[number];
  bdat: boolean;
}

function* cases(): Generator<Case> {
  for (let at = 0; at < STEPS.length; at++)
    for (const early of [false, true])
      for (const further of FURTHER)
        for (const ending of ENDINGS)
          for (const bdat of [false, true]) yield { at, early, further, ending, bdat };
}

/** The peer of one case: its first connection misbehaves, later ones are refused. */
class Peer {
  readonly #case: Case;
  readonly #tls: boolean;
  readonly #server: Server;
  readonly sockets: Socket[] = [];
  /** The first connection is over, or says no more. */
  readonly done: Promise<void>;
  #finish: () => void = () => {};

  constructor(one: Case, tls: boolean) {
    this.#case = one;
    this.#tls = tls;
    this.done = new Promise((resolve) => {
      this.#finish = resolve;
    });
    this.#server = createServer((socket) => this.#connection(socket));
  }

  async listen(): Promise<number> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return (this.#server.address() as AddressInfo).port;
  }

  async stop(): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #connection(raw: Socket): void {
    this.sockets.push(raw);
    raw.setNoDelay(true);
    raw.on('error', () => {});
    raw.on('close', () => this.#finish());
    if (this.sockets.length > 1) {
      raw.end('421 no more\r\n');
      return;
    }
    const speak = (socket: Socket): void => new PeerDialog(this.#case, socket, () => this.#finish()).begin();
    if (!this.#tls) {
      speak(raw);
      return;
    }
    const secureContext = createSecureContext({ cert: LOCALHOST.certificate, key: LOCALHOST.key });
    const socket = new TLSSocket(raw, { isServer: true, secureContext });
    socket.on('error', () => {});
    socket.once('secure', () => speak(socket));
  }
}

class PeerDialog {
  readonly #case: Case;
  readonly #socket: Socket;
  readonly #finish: () => void;
  #step = 0;
  #input = '';
  #deaf = false;

  constructor(one: Case, socket: Socket, finish: () => void) {
    this.#case = one;
    this.#socket = socket;
    this.#finish = finish;
  }

  begin(): void {
    this.#socket.on('data', (bytes: Buffer) => {
      this.#input += bytes.toString('latin1');
      this.#read();
    });
    this.#answer();
  }

  #read(): void {
    while (!this.#deaf) {
      const step = STEPS[this.#step];
      const content = step === 'dot' || (this.#case.bdat && step === 'data');
      const end = this.#input.indexOf(content && !this.#case.bdat ? '\r\n.\r\n' : '\r\n');
      if (end < 0) return;
      let used = end + (content && !this.#case.bdat ? 5 : 2);
      const chunk = /^BDAT (\d+)/.exec(this.#input);
      if (chunk !== null) used += Number(chunk[1]);
      if (this.#input.length < used) return;
      this.#input = this.#input.slice(used);
      // One BDAT stands for DATA and the dot.
      if (chunk !== null && step === 'data') this.#step++;
      this.#answer();
    }
  }

  #answer(): void {
    const { at, early, further, ending, bdat } = this.#case;
    const step = STEPS[this.#step] ?? 'dot';
    let text = `${this.#reply(step)}\r\n`;
    const here = this.#step++ === at || (bdat && step === 'dot' && at === this.#step - 2);
    if (here) {
      if (early)
        for (const later of STEPS.slice(this.#step))
          if (!bdat || later !== 'data') text += `${this.#reply(later)}\r\n`;
      text += `${further}\r\n`;
      if (early || ending !== 'stays') this.#deaf = true;
    }
    this.#socket.write(text, 'latin1');
    if (!here) return;
    if (ending === 'end') this.#socket.end();
    else if (ending === 'reset')
      this.#socket instanceof TLSSocket ? this.#socket.destroy() : this.#socket.resetAndDestroy();
    // What the client makes of it shows within some turns; then nothing more will come, or both sides wait.
    setTimeout(this.#finish, this.#deaf ? 10 : 60);
  }

  #reply(step: Step): string {
    return step === 'ehlo' && this.#case.bdat
      ? `${REPLIES.ehlo.replace('250 8', '250-CHUNKING\r\n250 8')}`
      : REPLIES[step];
  }
}

async function play(one: Case, tls: boolean, slot: number): Promise<void> {
  const name = JSON.stringify({ ...one, further: one.further.slice(0, 20), tls });
  const peer = new Peer(one, tls);
  const smarthost = {
    host: '127.0.0.1',
    port: await peer.listen(),
    ...(tls ? { tls: { implicit: true } } : {}),
  };
  const delivery = { smarthost, ip_family: 'ipv4', tls: { mode: tls ? 'required' : 'none' } };
  const harness = new Harness({ delivery } as never, 1 << 20, slot);
  try {
    await deliver(harness, peer, name);
  } finally {
    harness.sender.destroy();
    harness.stop();
    await peer.stop();
  }
  assert.equal(harness.arena.freeBytes(), harness.arena.totalBytes, name);
}

async function deliver(harness: Harness, peer: Peer, name: string): Promise<void> {
  const recipients = ['a@x.test'];
  const jobs = [harness.job({ recipients }), harness.job({ recipients, body: '8BITMIME' })];
  harness.sender.accept(jobs);
  await Promise.race([peer.done, harness.until(() => harness.results.length === 2)]);
  harness.sender.drain(0);
  for (const { fire } of harness.timers.splice(0)) fire();
  const drained = () => harness.posted.find(({ type }) => type === 'drained');
  await harness.until(() => drained() !== undefined);
  const last = drained();
  const unfinished = last?.type === 'drained' ? last.unfinished : [];
  for (const { content } of [...unfinished, ...harness.results.flatMap(({ dsns }) => dsns)])
    harness.arena.release(content);
  const told = [...harness.results, ...unfinished].map(({ queueId }) => queueId).sort();
  assert.deepEqual(told, jobs.map(({ queueId }) => queueId).sort(), name);
}

for (const tls of [false, true]) {
  test(`further replies at any point, ${tls ? 'over TLS' : 'in the clear'}`, {
    timeout: 300_000,
  }, async () => {
    const slot = tls ? clientTls(LOCALHOST.certificate) : -1;
    const noneLeft = countDescriptors();
    const all = process.env.JOINED === 'all';
    const chosen = [...cases()].filter((_, i) => all || i % 17 === (tls ? 1 : 0));
    while (chosen.length > 0) await Promise.all(chosen.splice(0, 40).map((one) => play(one, tls, slot)));
    // Sockets that libuv closes in the next turn.
    await noneLeft();
  });
}
