/** One question and its answer on the wire, over UDP or TCP. Whatever else arrives is passed over until time is up. */
import { createSocket } from 'node:dgram';
import { connect, isIPv6 } from 'node:net';

export interface Exchange<T> {
  server: { address: string; port: number };
  question: Buffer;
  /** The answer, or null when it is none of this question's. */
  isAnswer(bytes: Uint8Array): T | null;
  timeoutMs: number;
}

/** @throws Error with the code ETIMEOUT, or of the system. */
export function askOver<T>(way: 'udp' | 'tcp', exchange: Exchange<T>): Promise<T> {
  return way === 'udp' ? overUdp(exchange) : overTcp(exchange);
}

const late = (): Error => Object.assign(new Error('no answer in time'), { code: 'ETIMEOUT' });

/** The socket is connected: the kernel passes on only what comes from the server's address and port. */
function overUdp<T>({ server, question, isAnswer, timeoutMs }: Exchange<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(isIPv6(server.address) ? 'udp6' : 'udp4');
    let ended = false;
    const end = (settle: () => void): void => {
      if (ended) return;
      ended = true;
      clearTimeout(timer);
      socket.close();
      settle();
    };
    const timer = setTimeout(() => end(() => reject(late())), timeoutMs);
    socket.on('error', (error) => end(() => reject(error)));
    socket.on('message', (bytes) => {
      const answer = isAnswer(bytes);
      if (answer !== null) end(() => resolve(answer));
    });
    socket.connect(server.port, server.address, () => {
      if (!ended) socket.send(question);
    });
  });
}

function overTcp<T>({ server, question, isAnswer, timeoutMs }: Exchange<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: server.address, port: server.port });
    const end = (settle: () => void): void => {
      clearTimeout(timer);
      socket.destroy();
      settle();
    };
    const timer = setTimeout(() => end(() => reject(late())), timeoutMs);
    const gathered = Buffer.allocUnsafe(2 + 0xffff);
    let count = 0;
    socket.on('error', (error) => end(() => reject(error)));
    socket.on('close', () => end(() => reject(new Error('the resolver closed the connection'))));
    socket.on('data', (bytes) => {
      count += bytes.copy(gathered, count);
      if (count < 2 || count < 2 + gathered.readUInt16BE(0)) return;
      const answer = isAnswer(gathered.subarray(2, 2 + gathered.readUInt16BE(0)));
      end(() =>
        answer === null ? reject(new Error('the resolver answered something else')) : resolve(answer),
      );
    });
    const length = Buffer.alloc(2);
    length.writeUInt16BE(question.length);
    socket.write(Buffer.concat([length, question]));
  });
}
