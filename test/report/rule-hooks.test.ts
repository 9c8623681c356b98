/** What tells web addresses that a rule acted, with a real server and a clock of the test's. */
import assert from 'node:assert/strict';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, test } from 'node:test';
import { post } from '../../src/base/web-post.ts';
import { addressToCall } from '../../src/relay/address-to-call.ts';
import { RuleHooks } from '../../src/report/rule-hooks.ts';
import { until } from '../support/wait.ts';

let answer: (request: IncomingMessage, response: ServerResponse) => void = (_, response) => response.end();
const came: { url: string | undefined; type: string | undefined; body: string }[] = [];
const server = createServer((request, response) => {
  let body = '';
  request.on('data', (part) => (body += part));
  request.on('end', () => {
    came.push({ url: request.url, type: request.headers['content-type'], body });
    answer(request, response);
  });
});
await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
after(() => {
  server.closeAllConnections();
  server.close();
});

function setUp() {
  const failed: string[] = [];
  const timers: { ms: number; fire: () => void }[] = [];
  const hooks = new RuleHooks({
    post,
    addressOf: (host, allowPrivate) => addressToCall({ addresses: () => assert.fail() }, host, allowPrivate),
    setTimer: (ms, fire) => void timers.push({ ms, fire }),
    failed: (url, error) => failed.push(`${url}: ${(error as Error).message}`),
  });
  came.length = 0;
  return { hooks, failed, timers };
}
const hook = (path = '/', allowPrivate = true) => ({ url: `${base}${path}`, allowPrivate, body: '{"a":1}' });

test('an address is sent the object once', async () => {
  const { hooks, failed, timers } = setUp();
  answer = (_, response) => response.writeHead(204).end();
  hooks.tell(hook('/hook?key=1'));
  await until(() => came.length === 1, 'came.length === 1');
  assert.deepEqual(came, [{ url: '/hook?key=1', type: 'application/json', body: '{"a":1}' }]);
  assert.deepEqual([failed, timers], [[], []]);
});

test('one that refuses, or sends us elsewhere, is tried three times more, then given up', async () => {
  const { hooks, failed, timers } = setUp();
  answer = (_, response) => response.writeHead(302, { location: `${base}/other` }).end();
  hooks.tell(hook());
  for (const pause of [1000, 10_000, 60_000]) {
    await until(() => timers.length === 1, 'timers.length === 1');
    const [timer] = timers.splice(0);
    assert.equal(timer?.ms, pause);
    timer?.fire();
  }
  await until(() => failed.length === 1, 'failed.length === 1');
  assert.equal(failed[0], `${base}/: answered 302`);
  assert.deepEqual(
    came.map(({ url }) => url),
    ['/', '/', '/', '/'],
  );
});

test('a private address is not called unless the rule allows it', async () => {
  const { hooks, timers } = setUp();
  hooks.tell(hook('/', false));
  await until(() => timers.length === 1, 'timers.length === 1');
  assert.equal(came.length, 0);
});

test('addresses that stand still are asked four at a time, and no more than a thousand wait', async () => {
  const { hooks, failed } = setUp();
  const open: ServerResponse[] = [];
  answer = (_, response) => void open.push(response);
  for (let i = 0; i < 1005; i++) hooks.tell(hook(`/${i}`));
  await until(() => open.length === 4, 'open.length === 4');
  assert.deepEqual(failed, [`${base}/1004: 1000 others wait`]);
  answer = (_, response) => response.end();
  hooks.close();
  for (const response of open) response.end();
});
