/** A reactor in a worker thread for life.test.ts: throws from its turn, or echoes lines. */
import { parentPort, workerData } from 'node:worker_threads';
import { createArena, createReactor, EVENT, EVENT_WORDS, listen } from '../../src/native.ts';

const { mode } = workerData as { mode: 'throw' | 'echo' };
const reactor = createReactor({
  arena: createArena(1 << 20, '/nonexistent'),
  spillDir: '/nonexistent',
  spillThresholdBytes: 1 << 20,
  maxConnections: 100,
  maxLineBytes: 512,
  holdAfterVerbs: true,
  onTurn(count) {
    if (mode === 'throw') throw new Error('turn failed');
    for (let at = 0; at < count * EVENT_WORDS; at += EVENT_WORDS) {
      if (((reactor.events[at] as number) & 0xff) !== EVENT.line) continue;
      const from = reactor.events[at + 2] as number;
      const bytes = reactor.text.subarray(from, from + (reactor.events[at + 3] as number));
      reactor.send(reactor.events[at + 1] as number, bytes);
    }
  },
});
const acceptor = listen({
  backlog: 10,
  listener: 0,
  batch: 10,
  onAccept: (fds, addresses) => {
    fds.forEach((fd, i) => {
      acceptor.handOff(fd, reactor.id, addresses[i] as string);
    });
  },
  onError: () => {},
});
parentPort?.on('message', () => {});
parentPort?.postMessage({ port: acceptor.port, reactorId: reactor.id });
