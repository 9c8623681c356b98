/** Rules of operators on a relay of two processes: `protorelay suspend`, `resume` and `suspensions`. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { WhyAnswer } from '../../src/control/why.ts';
import { fate } from '../support/fates.ts';
import { oneFateEach } from '../support/one-fate.ts';
import { RelayFixture } from '../support/relay-fixture.ts';
import { ScriptedSink } from '../support/scripted-sink.ts';
import { SteadyLoad } from '../support/steady-load.ts';
import { Talk } from '../support/talk.ts';
import { eventually } from '../support/wait.ts';

let sink: ScriptedSink;
let relay: RelayFixture;

before(async () => {
  sink = await ScriptedSink.start({ keepContent: false });
  const next = { host: '127.0.0.1', port: sink.port };
  relay = await RelayFixture.start({
    accept_processes: 2,
    delivery: { smarthost: next, routes: { 'own.test': next } },
  });
});

after(async () => {
  await relay?.destroy();
  await sink?.stop();
});

const local = () => ({ port: relay.port, host: '127.0.0.1' });

/** Messages on connections of their own, so that both processes get some. */
async function deposit(...to: (string | string[])[]): Promise<string[]> {
  const ids: string[] = [];
  for (const one of to) {
    const talk = await Talk.hello(local());
    ids.push(await talk.accepted({ to: one }));
    await talk.quit();
  }
  return ids;
}

async function command(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await relay.command(...args);
  assert.equal(code, 0, `${args.join(' ')}: ${stdout}${stderr}`);
  return stdout;
}

const suspend = async (...args: string[]): Promise<string> =>
  (await command('suspend', ...args)).split(' ')[0] as string;

const delivered = (address: string): boolean =>
  sink.messages.some(({ recipients }) => recipients.some((one) => one.address === address));

test('a suspended destination keeps what comes later, over a restart; resumed, all goes at once', {
  timeout: 60_000,
}, async () => {
  const id = await suspend('--destination', 'OWN.test', '--reason', 'they asked');
  const held = Array.from({ length: 8 }, (_, i) => `r${i}@own.test`);
  const queueIds = await deposit(...held);
  // Other destinations go on.
  await deposit('free@else.test');
  await fate(relay.events, 'free@else.test', 'delivered');
  assert.match(await command('suspensions'), new RegExp(`${id} +destination own\\.test .* they asked`));
  const cause = async (queueId: string): Promise<unknown[]> => {
    const { entries } = await relay.queueJson<WhyAnswer>('why', queueId);
    return (entries[0]?.causes ?? []).map((one) => [one.cause, one.detail]);
  };
  assert.deepEqual(await cause(queueIds[0] as string), [['suspended', `${id}: they asked`]]);
  assert.match((await relay.queue('show', queueIds[0] as string)).stdout, new RegExp(`suspended by ${id}`));
  await relay.stop();
  // A relay that does not run says it as well.
  assert.deepEqual(await cause(queueIds[0] as string), [
    ['relay_not_running', null],
    ['suspended', `${id}: they asked`],
  ]);
  assert.match(await command('suspensions', '--json'), new RegExp(`"id": "${id}"`));
  await relay.start();
  assert.equal((await relay.queueEntries('--destination', 'own.test')).length, held.length);
  await relay.queue('flush', '--all');
  await deposit('late@own.test');
  assert.deepEqual(held.filter(delivered), []);
  await command('resume', id);
  await oneFateEach([relay], [...held, 'late@own.test'], 20_000);
  assert.equal(await command('suspensions'), 'nothing is suspended\n');
});

test('of an entry at the smarthost only the recipients that a rule means wait, without an attempt', {
  timeout: 60_000,
}, async () => {
  const id = await suspend('--domain', '*.slow.test', '--reason', 'penalty box');
  const [queueId] = await deposit(['one@mx.slow.test', 'two@fast.test', 'three@mx.slow.test']);
  const waits = await fate(relay.events, 'one@mx.slow.test', 'deferred');
  assert.equal(waits.reason, 'suspended');
  assert.equal(waits.detail, `rule ${id}: penalty box`);
  assert.equal(waits.attempt, 1, 'the attempt for the others is the only one');
  await fate(relay.events, 'two@fast.test', 'delivered');
  assert.equal(delivered('one@mx.slow.test'), false);
  await deposit('alone@mx.slow.test');
  assert.equal((await fate(relay.events, 'alone@mx.slow.test', 'deferred')).attempt, 0);
  for (let flushes = 1; flushes <= 3; flushes++) {
    await relay.queue('flush', '--all');
    await eventually(async () => {
      const { scheduler } = await relay.queueJson<{ scheduler: { waiting_entries: number } }>('stats');
      assert.equal(scheduler.waiting_entries, 2, `after ${flushes} flushes`);
      assert.equal((await relay.queueEntries('--state', 'deferred')).length, 2);
    });
  }
  await command('resume', '--domain', '*.SLOW.test');
  await oneFateEach(
    [relay],
    ['one@mx.slow.test', 'two@fast.test', 'three@mx.slow.test', 'alone@mx.slow.test'],
    20_000,
  );
  assert.equal((await relay.queue('show', queueId as string)).code, 65);
});

test('a campaign under way stops when the command returns, but for what is on the wire', {
  timeout: 60_000,
}, async (t) => {
  sink.options.delays = { mail: 20 };
  const load = new SteadyLoad(() => [relay.port], 8, 'campaign.test');
  t.after(() => load.stop());
  await load.more(200);
  await command('suspend', '--sender', 'sender@*', '--sender', '*@client.test');
  // What had begun by then is over within the time of a transaction.
  const begun = sink.open.size;
  const before = sink.messages.length;
  await load.more(100);
  await load.stop();
  const stray = sink.messages.length - before;
  assert.ok(stray <= begun * 2, `${stray} messages on ${begun} connections`);
  await command('resume', '--all-rules');
  await oneFateEach([relay], load.acknowledged, 30_000);
  sink.options.delays = {};
});

test('a rule ends by time, and its mail goes then', { timeout: 60_000 }, async () => {
  await suspend('--all', '--for', '1s');
  await deposit('timed@own.test', 'timed@else.test');
  assert.equal(delivered('timed@own.test'), false);
  await fate(relay.events, 'timed@own.test', 'delivered');
  await fate(relay.events, 'timed@else.test', 'delivered');
});

test('what makes no sense is refused', { timeout: 60_000 }, async () => {
  const refused: [number, ...string[]][] = [
    [64, 'suspend'],
    [64, 'suspend', '--all', '--domain', 'a.test'],
    [64, 'suspend', '--all', '--until', 'tomorrow'],
    [64, 'suspend', '--all', '--until', '2020-01-01T00:00:00Z'],
    [65, 'resume', 'nosuchid'],
    [65, 'resume', '--domain', 'a.test'],
    [64, 'resume'],
  ];
  const codes = await Promise.all(refused.map(async ([, ...args]) => (await relay.command(...args)).code));
  assert.deepEqual(
    codes,
    refused.map(([code]) => code),
  );
});
