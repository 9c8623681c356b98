import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { Log } from '../../src/base/log.ts';
import { ConfigError } from '../../src/config/load.ts';
import { type Config, configSchema } from '../../src/config/schema.ts';
import { type Drainable, Lifecycle } from '../../src/control/lifecycle.ts';

/** Lets promises settle; timers are the test's. */
const settle = (): Promise<void> => new Promise((next) => setImmediate(next));

function setUp(t: TestContext, relay: Partial<Drainable> = {}) {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1000 });
  const calls: string[] = [];
  const told: string[] = [];
  const said: { event: string; fields: Record<string, unknown> }[] = [];
  const say = (event: string, fields = {}): void => void said.push({ event, fields });
  const log: Log = { debug: say, info: say, warn: say, error: say };
  let load = (): Config => configSchema.parse({});
  const reloads: Config[] = [];
  const lifecycle = new Lifecycle(
    {
      drain: async () => void calls.push('drain'),
      stop: async () => void calls.push('stop'),
      reload: () => ({ applied: ['a'], needsRestart: ['b'] }),
      reopenLog: () => void calls.push('relay reopened'),
      ...relay,
    },
    {
      log,
      graceMs: () => 5000,
      load: () => ({ config: load(), warnings: ['odd'], files: [], place: () => '' }),
      reloaded: (config) => void reloads.push(config),
      reopenLog: () => void calls.push('log reopened'),
      tell: (state) => void told.push(state),
      now: Date.now,
    },
  );
  const loadWith = (loader: () => Config): void => {
    load = loader;
  };
  return { lifecycle, calls, told, said, reloads, loadWith, events: () => said.map((s) => s.event) };
}

test('SIGTERM drains, then stops, then ends with 0', async (t) => {
  const { lifecycle, calls, events } = setUp(t);
  lifecycle.terminate('SIGTERM');
  assert.equal(await lifecycle.ended, 0);
  assert.deepEqual(calls, ['drain', 'stop']);
  assert.deepEqual(events(), ['relay.draining']);
});

test('a drain longer than shutdown_grace_ms is cut short, says so and still ends with 0', async (t) => {
  const { lifecycle, calls, events } = setUp(t, { drain: () => new Promise(() => {}) });
  lifecycle.terminate('SIGTERM');
  t.mock.timers.tick(4999);
  await settle();
  assert.deepEqual(calls, []);
  t.mock.timers.tick(1);
  assert.equal(await lifecycle.ended, 0);
  assert.deepEqual(calls, ['stop']);
  assert.deepEqual(events(), ['relay.draining', 'relay.grace_over']);
});

test('a second signal stops now', async (t) => {
  const { lifecycle, calls, events } = setUp(t, { drain: () => new Promise(() => {}) });
  lifecycle.terminate('SIGTERM');
  t.mock.timers.tick(300);
  lifecycle.terminate('SIGTERM');
  assert.equal(await lifecycle.ended, 0);
  assert.deepEqual(calls, ['stop']);
  assert.deepEqual(events(), ['relay.draining', 'relay.stopping_now']);
});

test('a signal within 300 ms of the first is the same one (npm may repeat Ctrl-C)', async (t) => {
  const { lifecycle, calls } = setUp(t, { drain: () => new Promise(() => {}) });
  lifecycle.terminate('SIGINT');
  t.mock.timers.tick(299);
  lifecycle.terminate('SIGINT');
  await settle();
  assert.deepEqual(calls, []);
});

test('a relay that cannot drain or stop ends with 70, after 10 s at the latest', async (t) => {
  const broken = setUp(t, { drain: () => Promise.reject(new Error('broken')) });
  broken.lifecycle.terminate('SIGTERM');
  assert.equal(await broken.lifecycle.ended, 70);
  assert.deepEqual(broken.events(), ['relay.draining', 'relay.drain_failed']);
  t.mock.timers.reset();
  const stuck = setUp(t, { stop: () => new Promise(() => {}) });
  stuck.lifecycle.terminate('SIGTERM');
  await settle();
  t.mock.timers.tick(10_000);
  assert.equal(await stuck.lifecycle.ended, 70);
  assert.deepEqual(stuck.events(), ['relay.draining', 'relay.stop_late']);
});

test('SIGHUP: a good config is applied, and the log says what needs a restart', async (t) => {
  const { lifecycle, said, reloads, told } = setUp(t);
  await lifecycle.reload();
  assert.equal(reloads.length, 1);
  assert.deepEqual(said, [
    { event: 'config.warning', fields: { warning: 'odd' } },
    { event: 'relay.reloaded', fields: { applied: ['a'], needs_restart: ['b'] } },
  ]);
  assert.deepEqual(told, ['reloading', 'ready']);
});

test('SIGHUP: what a part of the relay could not use is logged too', async (t) => {
  const problems = ['tls.certificates[0]: a.pem cannot be read; the old one stays'];
  const { lifecycle, said } = setUp(t, { reload: () => ({ applied: [], needsRestart: [], problems }) });
  assert.deepEqual((await lifecycle.reload()).problems, problems);
  assert.deepEqual(said.slice(1), [
    { event: 'relay.reloaded', fields: { applied: [], needs_restart: [] } },
    { event: 'relay.reload_partial', fields: { problems } },
  ]);
});

test('SIGHUP: a bad config changes nothing and its problems are logged', async (t) => {
  const { lifecycle, said, reloads, loadWith, told } = setUp(t);
  loadWith(() => {
    throw new ConfigError('relay.json', ['relay.json:3: hostnam: unknown key']);
  });
  await lifecycle.reload();
  assert.equal(reloads.length, 0);
  assert.deepEqual(said, [
    { event: 'relay.reload_refused', fields: { problems: ['relay.json:3: hostnam: unknown key'] } },
  ]);
  assert.deepEqual(told, ['reloading', 'ready']);
});

test('a reload that is refused takes nothing from what waits for a restart', async (t) => {
  const { lifecycle, loadWith } = setUp(t);
  await lifecycle.reload();
  loadWith(() => {
    throw new ConfigError('relay.json', ['bad']);
  });
  const answer = await lifecycle.reload();
  assert.deepEqual(answer, { applied: [], needsRestart: ['b'], problems: ['bad'] });
  assert.deepEqual(lifecycle.lastReload?.needsRestart, ['b']);
});

test('SIGHUP while draining is ignored', async (t) => {
  const { lifecycle, reloads, told } = setUp(t);
  lifecycle.terminate('SIGTERM');
  await lifecycle.reload();
  await lifecycle.ended;
  assert.equal(reloads.length, 0);
  assert.deepEqual(told, ['stopping']);
});

test('SIGUSR1 reopens the log first, then everything else, and says so in the new file', (t) => {
  const { lifecycle, calls, events } = setUp(t);
  lifecycle.reopenLog();
  assert.deepEqual(calls, ['log reopened', 'relay reopened']);
  assert.deepEqual(events(), ['relay.log_reopened']);
});
