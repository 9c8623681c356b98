import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { WorkerThreads } from '../../src/base/worker-threads.ts';

type To = { type: 'numbers'; numbers: number[] } | { type: 'drain' } | { type: 'die' };
type From =
  | { type: 'ready'; name: string }
  | { type: 'got'; numbers: number[] }
  | { type: 'drained'; name: string };

/** Says what it gets; one named 'deaf' answers no drain. */
const entry = new URL(
  `data:text/javascript,${encodeURIComponent(`
    import { parentPort, workerData } from 'node:worker_threads';
    const { name } = workerData;
    parentPort.on('message', ({ type, numbers }) => {
      if (type === 'numbers') parentPort.postMessage({ type: 'got', numbers });
      else if (type === 'die') process.exit(3);
      else if (name !== 'deaf') parentPort.postMessage({ type: 'drained', name });
    });
    parentPort.postMessage({ type: 'ready', name });
  `)}`,
);

const started: { stop(): Promise<void> }[] = [];
after(async () => {
  for (const threads of started) await threads.stop();
});

async function start(names: string[]) {
  const got: { thread: number; message: From }[] = [];
  const failure = Promise.withResolvers<Error>();
  let count = Number.POSITIVE_INFINITY;
  let enough = () => {};
  const threads = new WorkerThreads<number, To, From>({
    name: 'test',
    entry,
    batch: (numbers) => ({ type: 'numbers', numbers }),
    message: (thread, message) => {
      got.push({ thread, message });
      if (got.length >= count) enough();
    },
    failed: (error) => failure.resolve(error),
  });
  started.push(threads);
  await threads.start(names.map((name) => ({ name })));
  const until = (wanted: number) =>
    new Promise<void>((resolve) => {
      count = wanted;
      enough = resolve;
      if (got.length >= count) resolve();
    });
  return { threads, got, until, failed: failure.promise };
}

test('start resolves when every thread is ready, and has passed that on', async () => {
  const { threads, got } = await start(['a', 'b']);
  assert.equal(threads.count, 2);
  const ready = got.map(({ thread, message }) => [thread, message.type === 'ready' && message.name]);
  assert.deepEqual(ready.sort(), [
    [0, 'a'],
    [1, 'b'],
  ]);
});

test('what is gathered in one turn is one message per thread, in order', async () => {
  const { threads, got, until } = await start(['a', 'b']);
  got.length = 0;
  for (const n of [1, 2, 3]) threads.gather(0)?.push(n);
  threads.gather(1)?.push(4);
  threads.gather(7)?.push(5);
  await until(2);
  threads.gather(0)?.push(6);
  await until(3);
  const byThread = (thread: number) => got.filter((one) => one.thread === thread).map((one) => one.message);
  assert.deepEqual(byThread(0), [
    { type: 'got', numbers: [1, 2, 3] },
    { type: 'got', numbers: [6] },
  ]);
  assert.deepEqual(byThread(1), [{ type: 'got', numbers: [4] }]);
});

test('a drain gives the answers of all; a stop ends the wait for those that do not answer', async () => {
  const { threads } = await start(['a', 'b']);
  const answers = await threads.drain({ type: 'drain' });
  assert.deepEqual(answers.map(({ name }) => name).sort(), ['a', 'b']);
  const other = await start(['a', 'deaf']);
  const drained = other.threads.drain({ type: 'drain' });
  // Both are ready, then one answers.
  await other.until(3);
  await other.threads.stop();
  assert.deepEqual(
    (await drained).map(({ name }) => name),
    ['a'],
  );
});

test('a thread that ends is reported, but not one that was stopped', async () => {
  const { threads, failed } = await start(['a', 'b']);
  threads.post(1, { type: 'die' });
  assert.equal((await failed).message, 'test thread 1 ended with code 3');
  const other = await start(['a']);
  await other.threads.stop();
  const outcome = await Promise.race([other.failed, new Promise((resolve) => setImmediate(resolve, 'none'))]);
  assert.equal(outcome, 'none');
});
