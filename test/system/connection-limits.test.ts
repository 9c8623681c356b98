/** Peers that take so many messages over a connection, or so many connections, and do not say so before: what a relay learns of it. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { DnsServer } from '../support/dns-server.ts';
import { RelayFixture } from '../support/relay-fixture.ts';
import { ScriptedSink } from '../support/scripted-sink.ts';
import { Talk } from '../support/talk.ts';
import { until } from '../support/wait.ts';

const ALLOWED = 20;
const FORMS = { closes: 'close', refuses: '421', drops: 'drop' } as const;

const first = await ScriptedSink.start({ host: '127.0.0.1', maxMessages: ALLOWED, atMaxMessages: 'close' });
const { port } = first;
const [second, third, few] = await Promise.all([
  ScriptedSink.start({ host: '127.0.0.2', port, maxMessages: ALLOWED, atMaxMessages: '421' }),
  ScriptedSink.start({ host: '127.0.0.3', port, maxMessages: ALLOWED, atMaxMessages: 'drop' }),
  ScriptedSink.start({ host: '127.0.0.4', port, delays: { dot: 20 } }),
]);
const sinks = { closes: first, refuses: second, drops: third };
const dns = await DnsServer.start(
  Object.fromEntries(
    ['closes', 'refuses', 'drops', 'few'].flatMap((name, i) => [
      [`${name}.test`, { MX: [[10, `mx.${name}.test`]] as [number, string][] }],
      [`mx.${name}.test`, { A: [`127.0.0.${i + 1}`] }],
    ]),
  ),
);
second.options.tooManyReply = '421 4.7.0 too many messages in this session';
const relay = new RelayFixture({
  delivery: { mx_port: port, backlog_per_connection: 10, backlog_wait_ms: 50, suspend_ms: 100 },
  dns: { servers: [dns.address] },
  retry: { initial_delay_ms: 100, max_delay_ms: 200, max_attempts: 100 },
});
after(async () => {
  await relay.destroy();
  await Promise.all([first, second, third, few, dns].map((one) => one.stop()));
});

let submitted = 0;
async function submit(domain: string, count: number): Promise<void> {
  const talk = await Talk.hello({ port: relay.port, host: '127.0.0.1' });
  for (let i = 0; i < count; i++) await talk.accepted({ from: 'a@x.test', to: `r${submitted++}@${domain}` });
  await talk.quit();
}

/** Messages over each connection. */
function carried({ messages }: ScriptedSink): Map<number, number> {
  const all = new Map<number, number>();
  for (const { connection } of messages) all.set(connection, (all.get(connection) ?? 0) + 1);
  return all;
}

const learnedOf = (domain: string) =>
  relay.events.one(
    `learned of ${domain}`,
    ({ type, by, site }) => type === 'limit_changed' && by === 'learned' && site === `mx:mx.${domain}`,
  );

for (const [name, form] of Object.entries(FORMS))
  test(`a peer that takes ${ALLOWED} messages (${form}) gets one fewer over each connection, none twice, and none refused`, {
    timeout: 90_000,
  }, async () => {
    const sink = sinks[name as keyof typeof sinks];
    const domain = `${name}.test`;
    if (!relay.running) await relay.start();
    await submit(domain, 130);
    await sink.received(130);
    const learned = await learnedOf(domain);
    assert.deepEqual(
      [learned.messages_per_connection, learned.messages_per_connection_before, learned.value],
      [ALLOWED - 1, null, ''],
    );
    assert.equal(learned.cause, form === '421' ? 'per_connection_limit' : 'closed');
    const day = Date.parse(String(learned.ends_at)) - Date.parse(String(learned.time));
    assert.ok(Math.abs(day - 86_400_000) < 10_000);
    const before = sink.connections;
    await submit(domain, 100);
    await sink.received(230);
    const since = [...carried(sink)].filter(([connection]) => connection > before);
    assert.ok(since.length > 0);
    for (const [, count] of since) assert.ok(count < ALLOWED, `${count} over one connection`);
    assert.equal(sink.violations.length, 0);
    const got = sink.messages.flatMap(({ recipients }) => recipients.map(({ address }) => address));
    assert.equal(new Set(got).size, 230);
    assert.equal(got.length, 230, 'none twice');
    for (const to of got) {
      const delivered = await relay.events.one(
        to,
        ({ type, recipient }) => type === 'delivered' && recipient === to,
      );
      assert.equal(delivered.attempt, 1, 'no attempt is lost on a connection that is used up');
    }
    const { limits } = JSON.parse((await relay.command('route', `a@${domain}`, '--json')).stdout);
    const limit = limits.find((one: { limit: string }) => one.limit === 'messages_per_connection');
    assert.equal(limit.value, ALLOWED - 1);
    assert.match(limit.set_by, /^learned until /);
    assert.equal(limit.until, learned.ends_at);
  });

test('a restart forgets none of it, and it is shown of a relay that has stopped', {
  timeout: 60_000,
}, async () => {
  const file = join(relay.dataDir, 'learned.jsonl');
  // A change is written ten seconds after the last one at the latest.
  await until(
    () => existsSync(file) && readFileSync(file, 'utf8').includes('drops'),
    'what was learned in its file',
  );
  await relay.kill();
  const shown = JSON.parse((await relay.command('shaping', 'show', 'mx:mx.drops.test', '--json')).stdout);
  const { learned_limits: learned } = shown[0];
  assert.deepEqual(
    [learned[0].limit, learned[0].value, learned[0].cause],
    ['messages_per_connection', ALLOWED - 1, 'closed'],
  );
  const route = JSON.parse((await relay.command('route', 'a@drops.test', '--json')).stdout);
  assert.equal(route.learned_limits[0].until, learned[0].until);
  assert.match(
    (await relay.command('shaping', 'show')).stdout,
    /learned: source \(default\) messages_per_connection 19/,
  );
  await relay.start();
  const before = third.connections;
  await submit('drops.test', 60);
  await third.received(290);
  for (const [connection, count] of carried(third)) assert.ok(connection <= before || count < ALLOWED);
});

test('a peer that serves three connections at once, and refuses further ones, has no more than three', {
  timeout: 60_000,
}, async () => {
  const refuse = '421 4.7.0 too many concurrent connections from your host';
  const usual = '220 mx ESMTP';
  // Each connection that is opened or closed sets what the next one is told.
  const look = (): void => {
    few.options.greeting = few.open.size >= 3 ? refuse : usual;
    void few.until(() => few.open.size >= 3 !== (few.options.greeting === refuse)).then(look);
  };
  look();
  const feed = async (): Promise<void> => {
    for (let i = 0; i < 40; i++) await submit('few.test', 25);
  };
  const [learned] = await Promise.all([learnedOf('few.test'), feed()]);
  assert.ok(Number(learned.connections) <= 4, `${learned.connections}`);
  assert.match(String(learned.reply), /too many concurrent/);
});
