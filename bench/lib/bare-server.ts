/**
 * The least that a server can do with a hostile client: accepts on our own reactor, turns away whoever speaks, ignores
 * the rest. What it takes from others is what hostile connections cost a machine whoever serves them.
 */
import { tmpdir } from 'node:os';
import { createArena, createReactor, EVENT, EVENT_WORDS, listen } from '../../src/native.ts';

const BATCH = 64;
const REFUSAL = Buffer.from('554 5.5.1 no\r\n');

export interface BareServer {
  readonly port: number;
  stop(): void;
}

export function startBareServer(): BareServer {
  const spillDir = tmpdir();
  const reactor = createReactor({
    arena: createArena(1 << 20, spillDir),
    spillDir,
    spillThresholdBytes: 1 << 20,
    maxConnections: 65_536,
    maxLineBytes: 2048,
    holdAfterVerbs: false,
    onTurn: (count) => {
      const { events } = reactor;
      for (let at = 0; at < count * EVENT_WORDS; at += EVENT_WORDS) {
        if (((events[at] as number) & 0xff) !== EVENT.line) continue;
        const id = events[at + 1] as number;
        reactor.send(id, REFUSAL);
        reactor.close(id);
      }
    },
  });
  const acceptor = listen({
    host: '127.0.0.1',
    port: 0,
    backlog: 1024,
    listener: 0,
    batch: BATCH,
    onAccept: (fds, addresses) => {
      for (let i = 0; i < fds.length; i++)
        if (!acceptor.handOff(fds[i] as number, reactor.id, addresses[i] as string))
          acceptor.refuse(fds[i] as number, '');
    },
    onError: (errno) => {
      throw new Error(`accept failed, errno ${errno}`);
    },
  });
  return {
    port: acceptor.port,
    stop: () => {
      acceptor.close();
      reactor.destroy();
    },
  };
}
