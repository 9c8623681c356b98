/** Memory of the relay per idle connection: N connections that said EHLO and nothing more. */
import { connect, type Socket } from 'node:net';
import type { Settings } from '../../test/support/relay-fixture.ts';
import { megabytes } from './chain.ts';
import { memoryBytes } from './proc.ts';
import { startRelay } from './servers.ts';

export interface IdleReport {
  connections: number;
  rssBeforeMb: number;
  rssAfterMb: number;
  bytesPerConnection: number;
}

/** Opens `count` connections, some hundred at a time, and compares resident memory. Rejects when one is refused. */
export async function measureIdle(count: number, settings: Settings): Promise<IdleReport> {
  const relay = await startRelay({
    ...settings,
    smtp: { max_connections: count + 100, max_connections_per_ip: count + 100 },
  });
  const sockets: Socket[] = [];
  try {
    // The first connections touch what every later one shares: they are not counted.
    for (let i = 0; i < 50; i++) sockets.push(await greeted(relay.port));
    const before = memoryBytes(relay.pid, 'VmRSS');
    for (let open = 0; open < count; open += 200) {
      const batch = Array.from({ length: Math.min(200, count - open) }, () => greeted(relay.port));
      sockets.push(...(await Promise.all(batch)));
    }
    const after = memoryBytes(relay.pid, 'VmRSS');
    return {
      connections: count,
      rssBeforeMb: megabytes(before),
      rssAfterMb: megabytes(after),
      bytesPerConnection: Math.round((after - before) / count),
    };
  } finally {
    for (const socket of sockets) socket.destroy();
    await relay.stop();
  }
}

/** A connection on which EHLO was answered. */
export function greeted(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1');
    let text = '';
    let said = false;
    socket.setEncoding('latin1');
    socket.once('error', reject);
    socket.once('close', () => reject(new Error(`closed: ${text}`)));
    socket.on('data', (more) => {
      text += String(more);
      if (!said && /^220 .*\r\n/m.test(text)) {
        said = true;
        text = '';
        socket.write('EHLO idle.test\r\n');
      } else if (said && /^250 .*\r\n/m.test(text)) {
        socket.removeAllListeners('data').removeAllListeners('close').pause();
        resolve(socket);
      }
    });
  });
}
