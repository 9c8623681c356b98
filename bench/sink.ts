/**
 * SMTP sink: accepts, counts, checks, keeps nothing. Says `{"event":"sink.ready","port":N}` when it listens,
 * prints its figures as one line of JSON on SIGUSR2, when --expect messages have arrived, and at its end.
 */
import { tmpdir } from 'node:os';
import { createArena } from '../src/native.ts';
import { parseFault } from './lib/faults.ts';
import { readOptions } from './lib/options.ts';
import { Sink } from './lib/sink-server.ts';

const options = readOptions('bench/sink.ts', 'SMTP server that counts and discards', {
  host: { kind: 'text', default: '127.0.0.1', help: 'address to listen on' },
  port: { kind: 'number', default: 2526, help: 'port; 0 takes a free one' },
  'max-connections': { kind: 'number', default: 10_000, help: 'open connections at most' },
  run: { kind: 'text', help: 'count only messages of this run of bench/cl.ts' },
  rcpts: { kind: 'number', default: 1, help: 'recipients each message has; more arrivals are duplicates' },
  expect: { kind: 'number', default: 0, help: 'print the figures when so many recipients have arrived' },
  check: { kind: 'flag', help: 'verify the checksums of every message' },
  chunking: { kind: 'flag', help: 'offer CHUNKING' },
  fault: {
    kind: 'list',
    help: 'CODE[@STAGE]:SHARE%, stage connect, mail, rcpt, data or end: 4xx:1%, 550@rcpt:0.5%, cut@data:1%',
  },
  delay: { kind: 'number', default: 0, help: 'milliseconds before the reply to the end of data' },
  limit: { kind: 'number', default: 0, help: 'messages a second; more are answered 421 4.7.28. 0: no limit' },
  'memory-mb': { kind: 'number', default: 256, help: 'memory for content under way' },
});

const say = (event: string, fields: object): boolean =>
  process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);

let expected = options.expect;
const sink = new Sink(
  {
    host: options.host,
    port: options.port,
    maxConnections: options['max-connections'],
    run: options.run,
    rcpts: options.rcpts,
    check: options.check,
    chunking: options.chunking,
    faults: options.fault.map(parseFault),
    delayMs: options.delay,
    limitPerSecond: options.limit,
    spillDir: tmpdir(),
    onProgress: ({ recipients }) => {
      if (expected === 0 || recipients < expected) return;
      expected = 0;
      say('sink.expected', sink.report());
    },
  },
  createArena(options['memory-mb'] << 20, tmpdir()),
);
say('sink.ready', { port: sink.port });

process.on('SIGUSR2', () => say('sink.report', sink.report()));
for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.once(signal, () => {
    say('sink.end', sink.report());
    sink.close();
  });
}
