/** `queue why` and `route` on a running relay: each thing that keeps mail is named with its number and who set it, and goes when it is lifted. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { after, test } from 'node:test';
import { openQueue } from '../../src/cli/open-queue.ts';
import { sayWhyOf, selectionMeant } from '../../src/cli/why.ts';
import { ControlClient } from '../../src/control/client.ts';
import type { OperateAction, Selection } from '../../src/database/database.ts';
import { DnsServer } from '../support/dns-server.ts';
import { RelayFixture } from '../support/relay-fixture.ts';
import { ScriptedSink } from '../support/scripted-sink.ts';
import { Talk } from '../support/talk.ts';
import { eventually } from '../support/wait.ts';

const sink = await ScriptedSink.start({ host: '127.0.0.1' });
const { port } = sink;
const refusing = await ScriptedSink.start({ host: '127.0.0.2', port });
const dns = await DnsServer.start({
  'mx1.test': { A: ['127.0.0.1'] },
  'mx2.test': { A: ['127.0.0.2'] },
  'mx3.test': { A: ['127.0.0.1'] },
  'mx4.test': { A: ['127.0.0.1'] },
  'good.test': { MX: [[10, 'mx1.test']] },
  'cut.test': { MX: [[10, 'mx2.test']] },
  'hourly.test': { MX: [[10, 'mx3.test']] },
  'warmed.test': { MX: [[10, 'mx4.test']] },
  'pooled.test': { MX: [[10, 'mx1.test']] },
});
const relay = new RelayFixture({
  delivery: { mx_port: port, suspend_after_failures: 1000 },
  dns: { servers: [dns.address] },
  retry: { initial_delay_ms: 60_000 },
  adaptive: { first_probe_ms: 60_000 },
  shaping: { overrides_file: 'own.json' },
  warmup: [{ source: '', providers: ['mx:mx4.test'], plan_messages_per_day: [50], window: '00:00-24:00' }],
  egress: {
    sources: [{ name: 'off', enabled: false }],
    pools: [{ name: 'shut', members: [{ source: 'off', weight: 1 }] }],
    routing: [{ match: { recipient_domain: ['pooled.test'] }, pool: 'shut' }],
  },
  rules: [
    {
      name: 'stop',
      match: { reply: 'xyzzy' },
      threshold: { count: 1 },
      action: 'pause',
      target: 'from_domain',
      for_ms: 3_600_000,
    },
  ],
});
const own = join(relay.dataDir, 'own.json');
writeFileSync(
  own,
  JSON.stringify({
    providers: { acme: { match: { mx_exact: ['mx3.test'] }, messages_per_h: 60 } },
  }),
);
after(async () => {
  await relay.destroy();
  await Promise.all([sink.stop(), refusing.stop(), dns.stop()]);
});

interface Cause {
  kind: string;
  key: string | null;
  limit: number | null;
  used: number | null;
  until: string | null;
  since: string | null;
  set_by: string | null;
}

async function submit(to: string, from = 'a@x.test'): Promise<void> {
  const talk = await Talk.hello({ port: relay.port, host: '127.0.0.1' });
  await talk.accepted({ from, to: [to] });
  await talk.quit();
}

async function causes(what: string): Promise<Cause[]> {
  const out = new PassThrough();
  const source = await openQueue(relay.dataDir, () => assert.fail('the relay runs'));
  const meant = selectionMeant(what);
  assert.ok(meant !== null);
  await sayWhyOf(
    source,
    what,
    meant,
    { json: true, limit: 20 },
    { out, err: new PassThrough(), nowMs: Date.now() },
  );
  source.close();
  const { messages } = JSON.parse(String(out.read())) as { messages: { entries: { causes: Cause[] }[] }[] };
  return messages.flatMap(({ entries }) => entries.flatMap((entry) => entry.causes));
}

/** As `protorelay queue …` does it, without a new process each time. */
async function operate(action: OperateAction, selection: Selection = {}): Promise<void> {
  const client = await ControlClient.connect(join(relay.dataDir, 'control.sock'));
  await client?.operate(action, selection, '');
  client?.close();
}

/** Waits until mail is kept by this, first. */
async function firstIs(what: string, kind: string): Promise<Cause> {
  let found: Cause | undefined;
  await eventually(async () => {
    const [first] = await causes(what);
    assert.equal(first?.kind, kind);
    found = first;
  }, 10_000);
  return found as Cause;
}

test('what keeps mail is named, and mail goes when that is lifted', { timeout: 60_000 }, async () => {
  await relay.start();

  // A suspension of an operator, and one entry on hold.
  await relay.command('suspend', '--domain', 'good.test', '--reason', 'moves house');
  await submit('one@good.test');
  const rule = await firstIs('one@good.test', 'suspend');
  assert.match(String(rule.set_by), /moves house/);
  assert.ok(rule.since !== null && rule.key !== null);
  await operate('hold', { recipients: ['one@good.test'] });
  await relay.command('resume', '--domain', 'good.test');
  await firstIs('one@good.test', 'hold');
  await operate('release', { recipients: ['one@good.test'] });
  await sink.received(1);
  await eventually(async () => assert.deepEqual(await causes('good.test'), []));

  // No source of the pool.
  await submit('two@pooled.test');
  await eventually(async () => {
    const all = await causes('pooled.test');
    assert.equal(all.find(({ kind }) => kind === 'source_paused')?.set_by, 'off disabled');
  });
  relay.configure({ egress: { sources: [{ name: 'off', enabled: true }] } });
  await relay.reload();
  await operate('flush');
  await sink.received(2);

  // The hour of a provider.
  await submit('three@hourly.test');
  await sink.received(3);
  await submit('four@hourly.test');
  const hourly = await firstIs('hourly.test', 'provider_limit');
  assert.equal(hourly.key, 'messages_per_h of acme');
  assert.deepEqual([hourly.limit, hourly.used], [60, 1]);
  assert.match(String(hourly.set_by), /own\.json:1$/);
  assert.ok(Date.parse(String(hourly.until)) > Date.now());
  writeFileSync(own, JSON.stringify({ providers: { acme: { match: { mx_exact: ['mx3.test'] } } } }));
  await relay.reload();
  await operate('flush');
  await sink.received(4);

  // What a peer refused, and a rule about that.
  refusing.options.faults = { mail: '=421 4.7.28 unusual rate of mail xyzzy' };
  await submit('five@cut.test');
  await eventually(async () => {
    await operate('flush');
    const all = await causes('cut.test');
    const cut = all.find(({ kind }) => kind === 'adaptive');
    assert.match(String(cut?.set_by), /^adaptive, rate_limit: 421 4\.7\.28 unusual/);
    assert.ok(cut?.since !== null && cut?.until !== null);
    assert.equal(all.find(({ kind }) => kind === 'sender_limit')?.set_by, 'rule stop');
  });

  // A warm-up that an operator paused.
  await submit('six@warmed.test');
  await sink.received(5);
  await relay.command('warmup', 'pause', 'default', '--reason', 'too young');
  await submit('seven@warmed.test');
  await eventually(async () => {
    await operate('flush', { destinations: ['warmed.test'] });
    const warm = (await causes('warmed.test')).find(({ kind }) => kind === 'warmup');
    assert.match(String(warm?.set_by), /^warmup of mx:mx4\.test, step 1, paused: too young/);
    assert.deepEqual([warm?.limit, warm?.used], [50, 1]);
  }, 10_000);
  await relay.command('warmup', 'set', 'default', 'mx:mx4.test', '1');

  const text = await relay.queue('why', 'five@cut.test');
  assert.match(text.stdout, /site_limit_used_up +adaptive +until .* 421 4\.7\.28 unusual/);

  // The way of a recipient, by the relay and, once it has stopped, by its files.
  const route = async (): Promise<Record<string, unknown>> => {
    const ran = await relay.command('route', 'x@cut.test', '--from', 'a@y.test', '--json');
    assert.equal(ran.code, 0, ran.stderr);
    return JSON.parse(ran.stdout);
  };
  const running = await route();
  assert.deepEqual(
    [running.way, running.site, running.source, running.relay_running],
    ['mx', 'mx:mx2.test', '', true],
  );
  const cut = (running.limits as { set_by: string }[]).find(({ set_by }) => /421 4\.7\.28/.test(set_by));
  assert.ok(cut !== undefined);
  assert.deepEqual((running.blockers as { kind: string }[])[0]?.kind, 'adaptive');
  await relay.stop();
  const stopped = await route();
  assert.equal(stopped.relay_running, false);
  assert.match(String((stopped.learned as { reply: string }[])[0]?.reply), /^421 4\.7\.28/);
  const pooled = await relay.command('route', 'x@pooled.test');
  assert.match(pooled.stdout, /Pool +shut \(egress\.routing\[0\]\): off 100 %/);
  const acme = await relay.command('route', 'x@hourly.test');
  assert.match(acme.stdout, /Provider +acme, by mx_exact mx3\.test \(.*own\.json:1\)/);
});
