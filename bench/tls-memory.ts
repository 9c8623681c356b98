/**
 * Memory over a hundred thousand TLS handshakes: one reactor that is both ends, and clients of TLS 1.2 in a process of
 * their own. Full and resumed handshakes, and such as are given up by either end, refused for the certificate, made of
 * garbage or cut in the middle. Prints the resident size as it goes; exit code 1 when it grew by more than noise.
 *
 *   ./build.sh bench tls-memory -- --handshakes 100000
 */
import { fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import {
  configureTls,
  createArena,
  createReactor,
  EVENT,
  EVENT_WORDS,
  listen,
  makeSelfSigned,
  TLS_VERIFY,
  tlsSlot,
} from '../src/native.ts';
import { readOptions } from './lib/options.ts';

const MEGABYTE = 1 << 20;
/** Growth after the first fifth that is noise: of the allocator, and for each handshake. */
const NOISE_BYTES = 6 * MEGABYTE;
const NOISE_BYTES_EACH = 20;
/** What becomes of every nth connection. */
const KINDS = [
  'full',
  'resumed',
  'full',
  'resumed',
  'client gives up',
  'full',
  'resumed',
  'server gives up',
  'full',
  'distrusted',
  'resumed',
  'garbage',
  'full',
  'cut',
  'resumed',
  'full',
] as const;
type Kind = (typeof KINDS)[number];

const options = readOptions('tls-memory', 'Memory over many TLS handshakes of every kind.', {
  handshakes: { kind: 'number', default: 100_000, help: 'handshakes in all' },
  together: { kind: 'number', default: 16, help: 'connections at once' },
  points: { kind: 'number', default: 10, help: 'how often memory is told' },
});

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;
const { certificate, key } = makeSelfSigned(['localhost'], 10, 'ecdsa');
const common = {
  minVersion: 'TLSv1.2',
  ciphers: '',
  ciphersuites: '',
  crl: '',
  resumption: 'full',
  caLater: false,
  namesCa: false,
} as const;
const ticketSecret = randomBytes(32);
const server = tlsSlot();
const trusting = tlsSlot();
const distrusting = tlsSlot();
const certificates = [{ chain: certificate, key }];
const groups = [{ certificates: [0], names: [] }];
const sessions = { ticketSecret, sessionSeconds: 3600 };
configureTls(server, { ...common, ...sessions, server: true, certificates, groups, ca: '' });
configureTls(trusting, {
  ...common,
  ...sessions,
  server: false,
  certificates: [],
  groups: [],
  ca: certificate,
});
configureTls(distrusting, { ...common, ...sessions, server: false, certificates: [], groups: [], ca: '' });

const counts = new Map<string, number>();
const count = (what: string): void => void counts.set(what, (counts.get(what) ?? 0) + 1);
const begun = new Map<number, Kind>();
let started = 0;
let ended = 0;
const every = Math.max(1, Math.floor(options.handshakes / options.points));
let finish: () => void = () => {};

const arena = createArena(8 * MEGABYTE, tmpdir());
const reactor = createReactor({
  arena,
  spillDir: tmpdir(),
  spillThresholdBytes: MEGABYTE,
  maxConnections: 1000,
  maxLineBytes: 512,
  holdAfterVerbs: false,
  lingerMs: 20,
  onTurn: (events) => {
    for (let at = 0; at < events * EVENT_WORDS; at += EVENT_WORDS) onEvent(at);
  },
});
/** Connections of listener 1 come from this reactor, those of listener 2 from elsewhere. */
const acceptors = ([1, 2] as const).map((listener) => {
  const acceptor = listen({
    host: '127.0.0.1',
    backlog: 1000,
    listener,
    batch: 50,
    onAccept: (fds, addresses) => {
      fds.forEach((fd, i) => void acceptor.handOff(fd, reactor.id, addresses[i] as string));
    },
    onError: (errno) => {
      throw new Error(`accept failed, errno ${errno}`);
    },
  });
  return acceptor;
});
const [ownPort, otherPort] = acceptors.map(({ port }) => port) as [number, number];
const others = new Set<number>();

function onEvent(at: number): void {
  const { events, text } = reactor;
  const connection = events[at + 1] as number;
  const kind = begun.get(connection);
  switch ((events[at] as number) & 0xff) {
    case EVENT.opened:
      if (kind !== undefined) beginClient(connection, kind);
      else beginServer(connection, text[events[at + 2] as number] === 0x32);
      break;
    case EVENT.secured:
      if (kind === undefined) reactor.sendLatin1(connection, '220 hello\r\n');
      if (kind !== undefined || others.has(connection)) {
        const from = events[at + 2] as number;
        const [version, , resumed] = text
          .toString('latin1', from, from + (events[at + 3] as number))
          .split(' ');
        count(`${version} ${resumed === '1' ? 'resumed' : 'full'}`);
      }
      break;
    case EVENT.notSecured:
      if (kind !== undefined || others.has(connection)) count('failed');
      break;
    case EVENT.line:
      if (kind !== undefined) reactor.close(connection);
      break;
    case EVENT.timeout:
      reactor.close(connection, true);
      break;
    case EVENT.closed:
      if (begun.delete(connection)) begin();
      else if (!others.delete(connection)) break;
      ended++;
      if (ended % every === 0) measure();
      if (ended === options.handshakes) finish();
      break;
  }
}

function beginClient(connection: number, kind: Kind): void {
  reactor.deadline(connection, 10_000);
  if (kind === 'garbage') {
    reactor.send(connection, Buffer.from([0x16, 3, 1, 0, 5, 1, 0, 0, 200, 3]));
    reactor.sendLatin1(connection, 'EHLO in the clear\r\n');
    return;
  }
  const resumes = kind === 'resumed' ? `peer${started % 20}` : '';
  const slot = kind === 'distrusted' ? distrusting : trusting;
  reactor.secure(connection, slot, TLS_VERIFY.trust, 'localhost', resumes);
  if (kind !== 'client gives up' && kind !== 'cut') return;
  count('given up');
  // At once, or when the server's answer is on its way.
  if (kind === 'client gives up') reactor.close(connection, true);
  else
    setImmediate(() => {
      reactor.close(connection, true);
      reactor.flush();
    });
}

let accepted = 0;
function beginServer(connection: number, other: boolean): void {
  if (other) others.add(connection);
  reactor.deadline(connection, 10_000);
  reactor.secure(connection, server, TLS_VERIFY.none, '', '');
  // One in KINDS.length of those that would go on is closed in its handshake from this end.
  if (other || ++accepted % KINDS.length !== 7) return;
  count('given up by the server');
  setImmediate(() => {
    reactor.close(connection, true);
    reactor.flush();
  });
}

function begin(): void {
  if (ended >= options.handshakes) return;
  const kind = KINDS[started++ % KINDS.length] as Kind;
  begun.set(reactor.connect('127.0.0.1', ownPort, '', 5000), kind);
}

const rows: { handshakes: number; megabytes: string }[] = [];
const resident: number[] = [];
function measure(): void {
  collect();
  const rss = process.memoryUsage.rss();
  resident.push(rss);
  rows.push({ handshakes: ended, megabytes: (rss / MEGABYTE).toFixed(1) });
}

const from = performance.now();
const clients = fork(join(import.meta.dirname, 'lib/tls-clients.ts'), [String(otherPort)], {
  env: { ...process.env, BENCH_CA: certificate },
});
await new Promise<void>((done) => {
  finish = done;
  for (let i = 0; i < Math.min(options.together, options.handshakes); i++) begin();
  reactor.flush();
});
clients.kill('SIGKILL');
console.table(rows);
console.log([...counts].map(([what, n]) => `${what} ${n}`).join(', '));
const first = resident[Math.floor(resident.length / 5) - 1] ?? 0;
// What leaks grows at every point; one step is the heap's or the allocator's.
const points = resident.slice(Math.floor(resident.length / 5) - 1);
const steps = points.slice(1).map((bytes, i) => bytes - (points[i] as number));
const grown = (resident.at(-1) ?? 0) - first - Math.max(0, ...steps);
const each = grown / (options.handshakes * 0.8);
console.log(
  `${((performance.now() - from) / 1000).toFixed(0)} s; since the first fifth, but for the largest step, ${(grown / MEGABYTE).toFixed(1)} MB, ` +
    `${each.toFixed(0)} bytes a handshake`,
);
for (const acceptor of acceptors) acceptor.close();
reactor.destroy();
if (grown > NOISE_BYTES + NOISE_BYTES_EACH * options.handshakes) process.exitCode = 1;
