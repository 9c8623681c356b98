/** TLS to a Redis that is named by its address: the certificate has to have that address. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { silentLog } from '../../src/base/log.ts';
import { openRedis } from '../../src/base/redis-client.ts';
import { BullmqAgenda } from '../../src/scheduler/bullmq-agenda.ts';
import { certificate } from '../services/certificate.ts';
import { RedisServer, skipWithoutRedis } from '../services/redis.ts';
import { skipWithout } from '../support/programs.ts';
import { until } from '../support/wait.ts';

const skip = skipWithoutRedis() || skipWithout('openssl');

/** A server on 127.0.0.1 whose certificate is for these names, and how it is reached. */
async function reached(t: TestContext, names: string) {
  const tls = certificate(names);
  t.after(() => tls.remove());
  const server = await RedisServer.start({ tls });
  t.after(() => server.close());
  return { url: server.url, prefix: 'protorelay', timeoutMs: 2000, tlsCaFile: tls.cert };
}

test('rediss://127.0.0.1: a certificate with that address is taken', { skip }, async (t) => {
  const access = await reached(t, 'IP:127.0.0.1');
  assert.match(access.url, /^rediss:\/\/127\.0\.0\.1:/);
  const client = openRedis(access, { lazyConnect: true });
  t.after(() => client.disconnect());
  await client.connect();
  assert.equal(await client.ping(), 'PONG');
});

test('one with a name only is refused, and the log says why, once', { skip }, async (t) => {
  const access = await reached(t, 'DNS:localhost');
  const said: [string, Record<string, unknown> | undefined][] = [];
  const agenda = new BullmqAgenda({
    ...access,
    forgetMs: 10_000,
    minProcesses: 1,
    name: 'node',
    works: true,
    log: { ...silentLog, warn: (event, fields) => said.push([event, fields]) },
  });
  t.after(() => agenda.close());
  agenda.start({ due: async () => {}, backlog: async () => [], changed() {} });
  await until(() => said.length > 0, 'a line');
  // It is tried again meanwhile.
  await new Promise((resolve) => setTimeout(resolve, 700));
  assert.equal(agenda.up, false);
  assert.equal(said.length, 1);
  const [event, fields] = said[0] ?? assert.fail();
  assert.equal(event, 'scheduler.redis_lost');
  assert.match(
    String(fields?.error),
    /does not match certificate's altnames: IP: 127\.0\.0\.1 is not in the cert's list/,
  );
});
