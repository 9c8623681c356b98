/** The policy of two relays that share a Redis and nothing else. */
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { BanAnswer } from '../../src/control/ban-answer.ts';
import { certificate } from '../services/certificate.ts';
import { RedisServer, type RedisServerOptions, skipWithoutRedis } from '../services/redis.ts';
import { type Ran, run } from '../support/child.ts';
import { MAIN, RelayFixture, type Settings } from '../support/relay-fixture.ts';
import { Talk } from '../support/talk.ts';
import { eventually, PATIENCE } from '../support/wait.ts';

const options = { skip: skipWithoutRedis(), timeout: 90_000 };
const MAIL = 'MAIL FROM:<a@there.net>';
const RCPT = 'RCPT TO:<b@here.net>';

interface Pair {
  redis: RedisServer;
  a: RelayFixture;
  b: RelayFixture;
}

async function start(
  t: TestContext,
  policy: object,
  more: Settings = {},
  server: RedisServerOptions = {},
): Promise<Pair> {
  const redis = await RedisServer.start(server);
  t.after(() => redis.close());
  const { password, tls } = server;
  const node = async (name: string): Promise<RelayFixture> => {
    const relay = await RelayFixture.start({
      node_id: name,
      delivery: { enabled: false },
      relay_networks: [],
      relay_domains: ['here.net'],
      scheduler: {
        redis: { url: redis.url, timeout_ms: 500, prefix: 'policy-test', password, tls_ca_file: tls?.cert },
      },
      ...more,
      policy: { scope: 'cluster', sync_interval_ms: 50, ...policy },
    });
    t.after(() => relay.destroy());
    if (!logged(relay, 'policy.redis_up')) await relay.logLine('policy.redis_up');
    return relay;
  };
  const a = await node('a');
  const b = await node('b');
  return { redis, a, b };
}

const logged = (relay: RelayFixture, event: string): boolean =>
  relay.log.some((line) => line.event === event);

async function talk(relay: RelayFixture, address: string, ...lines: string[]): Promise<string> {
  const one = await Talk.open({ host: '127.0.0.1', port: relay.port, localAddress: address });
  let reply = one.greeting;
  for (const line of reply.startsWith('220') ? ['EHLO mail.there.net', ...lines] : [])
    reply = await one.say(line);
  one.destroy();
  return reply;
}

/** Says it until the reply is as expected. @returns milliseconds it took. */
async function until(expected: RegExp, withinMs: number, say: () => Promise<string>): Promise<number> {
  for (const beganMs = Date.now(); ; await sleep(25)) {
    const reply = await say();
    if (expected.test(reply)) return Date.now() - beganMs;
    assert.ok(Date.now() - beganMs < withinMs * PATIENCE, `still "${reply}" after ${withinMs * PATIENCE} ms`);
  }
}

const ban = (relay: RelayFixture, ...args: string[]): Promise<Ran> =>
  run(process.execPath, [MAIN, 'ban', ...args, '-c', relay.configPath], {});

async function bansOf(relay: RelayFixture): Promise<string[]> {
  const bans = JSON.parse((await ban(relay, 'list', '--json')).stdout) as BanAnswer[];
  return bans.map(({ network }) => network).sort();
}

// They mostly wait, each for two relays and a Redis of its own.
describe('policy over two relays', { concurrency: 3 }, () => {
  test('a rate is held over two relays; what one took the other does not give', options, async (t) => {
    const { a, b } = await start(t, {
      rates: { enabled: true, limits: [{ count: 'messages', limit: 20, interval_ms: 3_600_000 }] },
    });
    // One after another, with time between for them to hear of each other.
    let accepted = 0;
    for (let i = 0; i < 40; i++) {
      if ((await talk(i % 2 === 0 ? a : b, '127.0.0.2', MAIL)).startsWith('250')) accepted++;
      await sleep(20);
    }
    t.diagnostic(`alternating: ${accepted} of 20`);
    assert.ok(accepted >= 20 && accepted <= 24, `${accepted} were accepted where 20 may`);
    // All taken here at once: nothing is left there, for somebody who never was there.
    for (let i = 0; i < 20; i++) assert.equal(await talk(a, '127.0.0.3', MAIL), '250 2.1.0 Ok');
    await sleep(300);
    assert.match(await talk(b, '127.0.0.3', MAIL), /^450 4\.7\.0 /);
    assert.equal(await talk(b, '127.0.0.4', MAIL), '250 2.1.0 Ok', 'others are not concerned');
  });

  test('the Redis they share is reached over TLS, with a password', options, async (t) => {
    const tls = certificate();
    t.after(() => tls.remove());
    const { a, b } = await start(t, {}, {}, { tls, password: 'of Redis' });
    await ban(a, 'add', '192.0.2.7');
    await eventually(async () => assert.deepEqual(await bansOf(b), ['192.0.2.7']));
  });

  test(
    'two relays flooded at once give together what the rate allows, in the long run',
    options,
    async (t) => {
      const limit = { count: 'messages', limit: 40, interval_ms: 1000, burst: 40 };
      const { a, b } = await start(
        t,
        { rates: { enabled: true, limits: [limit] } },
        { smtp: { max_idle_commands: 100_000 } },
      );
      const accepted: number[] = [];
      const beganMs = Date.now();
      const flood = async (relay: RelayFixture): Promise<void> => {
        const one = await Talk.hello({ host: '127.0.0.1', port: relay.port, localAddress: '127.0.0.2' });
        while (Date.now() - beganMs < 6000) {
          if ((await one.say(MAIL)).startsWith('250')) {
            accepted.push(Date.now() - beganMs);
            await one.say('RSET');
          } else await sleep(5);
        }
        one.destroy();
      };
      await Promise.all([flood(a), flood(b)]);
      const early = accepted.filter((ms) => ms < 2000).length;
      const late = accepted.length - early;
      const inSecond = (second: number): number =>
        accepted.filter((ms) => Math.floor(ms / 1000) === second).length;
      t.diagnostic(`accepted in each second: ${[0, 1, 2, 3, 4, 5].map(inSecond).join()}`);
      // The first burst may be had twice and is paid back.
      assert.ok(early <= 80 + 40 + 12, `${early} in 2 s`);
      assert.ok(late >= 140 && late <= 172, `${late} in 4 s where 160 may`);
    },
  );

  test(
    'bans, of failures and of operators, hold on both within a second, outlive restarts, and end on both',
    options,
    async (t) => {
      const { a, b } = await start(t, {
        bans: { mode: 'reject', max_failures: { protocol: 3 }, duration_ms: 3_600_000 },
      });
      // Failures at both add up.
      await talk(a, '127.0.0.5', 'BAD', 'BAD');
      await sleep(300);
      await talk(b, '127.0.0.5', 'BAD', 'BAD');
      assert.match(await talk(b, '127.0.0.5'), /^554 5\.7\.1 /);
      const tookMs = await until(/^554 5\.7\.1 /, 2000, () => talk(a, '127.0.0.5'));
      t.diagnostic(`a ban was there after ${tookMs} ms`);
      assert.equal((await ban(a, 'add', '127.0.0.64/26')).code, 0);
      await until(/^554 5\.7\.1 /, 2000, () => talk(b, '127.0.0.70'));
      assert.deepEqual(await bansOf(a), ['127.0.0.5', '127.0.0.64/26']);
      assert.deepEqual(await bansOf(b), ['127.0.0.5', '127.0.0.64/26']);
      // One that is down learns of it when it comes back, also that a ban was deleted.
      assert.equal((await b.stop()).code, 0);
      assert.equal((await ban(a, 'delete', '127.0.0.5')).code, 0);
      assert.equal((await ban(a, 'add', '127.0.0.8')).code, 0);
      await sleep(500);
      assert.deepEqual(await bansOf(b), ['127.0.0.5', '127.0.0.64/26'], 'kept on its own disk');
      await b.start();
      await until(/^220 |^250/, 2000, () => talk(b, '127.0.0.5'));
      await until(/^554 /, 2000, () => talk(b, '127.0.0.8'));
      assert.deepEqual(await bansOf(b), ['127.0.0.64/26', '127.0.0.8']);
    },
  );

  test(
    'who was greylisted by one relay passes at the other after the delay, and is known to one that starts',
    options,
    async (t) => {
      const { a, b } = await start(t, {
        greylist: { enabled: true, delay_ms: 2000, client_passes: 0 },
      });
      assert.match(await talk(a, '127.0.0.3', MAIL, RCPT), /^451 4\.7\.1 /);
      await sleep(300);
      assert.match(await talk(b, '127.0.0.3', MAIL, RCPT), /^451 4\.7\.1 /, 'the delay is not over');
      const passedMs = await until(/^250 /, 4000, () => talk(b, '127.0.0.3', MAIL, RCPT));
      assert.ok(passedMs > 500, `after ${passedMs} ms`);
      await sleep(300);
      assert.match(await talk(a, '127.0.0.3', MAIL, RCPT), /^250 /);
      // What passed while a node was away.
      assert.equal((await b.stop()).code, 0);
      const other = 'RCPT TO:<c@here.net>';
      assert.match(await talk(a, '127.0.0.3', MAIL, other), /^451 /);
      await until(/^250 /, 4000, () => talk(a, '127.0.0.3', MAIL, other));
      await b.start();
      await until(/^250 /, 1000, () => talk(b, '127.0.0.3', MAIL, other));
    },
  );

  test(
    'without Redis the limits of each host go on, nobody waits; when it is back they are shared again',
    options,
    async (t) => {
      const { redis, a, b } = await start(t, {
        rates: { enabled: true, limits: [{ count: 'messages', limit: 5, interval_ms: 3_600_000 }] },
        bans: { mode: 'reject', max_failures: { protocol: 2 } },
      });
      const accepted = async (relay: RelayFixture, address: string): Promise<number> => {
        let count = 0;
        for (let i = 0; i < 8; i++) if ((await talk(relay, address, MAIL)).startsWith('250')) count++;
        return count;
      };
      const lost = [a.logLine('policy.redis_lost'), b.logLine('policy.redis_lost')];
      await redis.stop();
      await Promise.all(lost);
      const beganMs = Date.now();
      assert.deepEqual([await accepted(a, '127.0.0.2'), await accepted(b, '127.0.0.2')], [5, 5]);
      await talk(a, '127.0.0.5', 'BAD', 'BAD', 'BAD');
      assert.match(await talk(a, '127.0.0.5'), /^554 /);
      assert.doesNotMatch(await talk(b, '127.0.0.5'), /^554 /);
      assert.ok(Date.now() - beganMs < 5000, 'nothing waits');
      const up = (): Promise<unknown> =>
        Promise.all([a.logLine('policy.redis_up'), b.logLine('policy.redis_up')]);
      const back = up();
      await redis.start();
      await back;
      await until(/^554 /, 2000, () => talk(b, '127.0.0.5'));
      // Told every so often; how soon that is with the other depends on the machine.
      let shared = '';
      for (let last = 30, waitMs = 300; shared === ''; last++, waitMs *= 2) {
        assert.ok(waitMs < 5000, 'shared again');
        const address = `127.0.0.${last}`;
        assert.equal(await accepted(a, address), 5);
        await sleep(waitMs);
        if ((await accepted(b, address)) === 0) shared = address;
      }
      // Flushed: noticed, and all that counts is written down again.
      const again = up();
      await redis.ask((client) => client.flushall());
      await again;
      assert.equal(await accepted(b, shared), 0);
      assert.equal(await redis.ask((client) => client.hlen('policy-test:policy:bans')), 1);
      // Full, and standing still.
      for (const [harm, mend] of [
        [() => redis.fill(), () => redis.unfill()],
        [async () => redis.pause(), async () => redis.resume()],
      ] as const) {
        const gone = [a.logLine('policy.redis_lost'), b.logLine('policy.redis_lost')];
        await harm();
        await Promise.all(gone);
        const address = harm.toString().includes('fill') ? '127.0.0.6' : '127.0.0.7';
        assert.deepEqual([await accepted(a, address), await accepted(b, address)], [5, 5]);
        const mended = up();
        await mend();
        await mended;
      }
    },
  );

  test('a relay starts without Redis, says so once, and its limits hold', options, async (t) => {
    const redis = await RedisServer.start();
    t.after(() => redis.close());
    await redis.stop();
    const relay = await RelayFixture.start({
      relay_networks: [],
      relay_domains: ['here.net'],
      delivery: { enabled: false },
      scheduler: { redis: { url: redis.url, timeout_ms: 500 } },
      policy: { scope: 'cluster', rates: { enabled: true, limits: [{ count: 'messages', limit: 2 }] } },
    });
    t.after(() => relay.destroy());
    if (!logged(relay, 'policy.redis_lost')) await relay.logLine('policy.redis_lost');
    const replies: string[] = [];
    for (let i = 0; i < 3; i++) replies.push((await talk(relay, '127.0.0.2', MAIL)).slice(0, 3));
    assert.deepEqual(replies, ['250', '250', '450']);
    await sleep(1500);
    assert.equal(relay.log.filter(({ event }) => event === 'policy.redis_lost').length, 1);
    const beganMs = Date.now();
    assert.equal((await relay.stop()).code, 0);
    assert.ok(Date.now() - beganMs < 5000);
  });

  test(
    'a quota of a user is one over two relays of several processes, also for what was sent while Redis was away',
    options,
    async (t) => {
      const { redis, a, b } = await start(
        t,
        {},
        {
          accept_processes: 2,
          listeners: [{ host: '127.0.0.1', port: 0, auth: 'required' }],
          auth: {
            backends: [{ type: 'memory', users: [{ username: 'u', password: 'p' }] }],
            allow_without_tls: true,
            messages_per_day: 20,
            max_quota_users: 64,
          },
        },
      );
      const login = `AUTH PLAIN ${Buffer.from('\0u\0p').toString('base64')}`;
      const asks = (relay: RelayFixture): Promise<string> => talk(relay, '127.0.0.2', login, MAIL);
      const send = async (relay: RelayFixture, count: number): Promise<void> => {
        for (let i = 0; i < count; i++) {
          const one = await Talk.hello({ host: '127.0.0.1', port: relay.port, localAddress: '127.0.0.2' });
          await one.say(login);
          await one.accepted({ from: 'a@there.net', to: 'b@here.net' });
          one.destroy();
        }
      };
      await send(a, 5);
      await send(b, 5);
      await sleep(1500);
      const lost = [a.logLine('policy.redis_lost'), b.logLine('policy.redis_lost')];
      await redis.stop();
      await Promise.all(lost);
      await send(a, 4);
      await send(b, 5);
      assert.match(await asks(a), /^250/);
      const up = [a.logLine('policy.redis_up'), b.logLine('policy.redis_up')];
      await redis.start();
      await Promise.all(up);
      await sleep(2000);
      assert.match(await asks(b), /^250/, 'nineteen were sent');
      await send(b, 1);
      await until(/^451 4\.7\.1 Quota/, 3000, () => asks(a));
      assert.match(await asks(b), /^451 4\.7\.1 Quota/);
    },
  );
});
