/**
 * Clients of TLS 1.2 for tls-memory.ts, in a process of their own: `node tls-clients.ts PORT`, the certificate to trust in
 * BENCH_CA. Full and resumed handshakes, and connections reset in the middle of one, until the parent is gone.
 */
import { createConnection } from 'node:net';
import { connect } from 'node:tls';

const TOGETHER = 3;
const to = { port: Number(process.argv[2]), host: '127.0.0.1' };
const trust = { ca: process.env.BENCH_CA, servername: 'localhost', maxVersion: 'TLSv1.2' } as const;
let session: Buffer | undefined;
let begun = 0;

/** Half a ClientHello, then a reset. */
function cut(): void {
  const socket = createConnection(to, () => socket.write(Buffer.from([0x16, 3, 1, 1, 0, 1, 0, 0, 200, 3])));
  socket.on('error', () => {});
  socket.on('close', next);
  setTimeout(() => socket.resetAndDestroy(), 1);
}

function next(): void {
  if (++begun % 5 === 0) {
    cut();
    return;
  }
  const socket = connect({ ...to, ...trust, ...(session === undefined ? {} : { session }) });
  socket.on('error', () => {});
  socket.on('secureConnect', () => {
    session = begun % 3 === 0 ? undefined : socket.getSession();
  });
  socket.on('data', () => socket.destroy());
  socket.on('close', next);
}

process.on('disconnect', () => process.exit());
for (let i = 0; i < TOGETHER; i++) next();
