import { createSocket } from 'node:dgram';
import { isIPv6 } from 'node:net';

/** Whether a socket can be bound to the address: true also for one that no interface names (a route of type local). */
export function isLocalAddress(address: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4');
    socket.once('error', () => {
      socket.close();
      resolve(false);
    });
    socket.bind({ address, port: 0, exclusive: true }, () => {
      socket.close();
      resolve(true);
    });
  });
}
