/**
 * What becomes of a message where the first host does one thing and the second another: a table of pairs, over real
 * connections. docs/delivery.md says the same to operators.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import type { Config } from '../../src/config/schema.ts';
import { DnsServer } from '../support/dns-server.ts';
import type { ScriptedSink, SinkOptions } from '../support/scripted-sink.ts';
import { fates, type Harness, type JobInput, outcomeOf, startSender, startSink } from './harness.ts';

/**
 * ok: takes it. later: not now, another host may. no: not this message, no host. unknown: may have taken it. shut: talks to
 * us no further. never: takes no mail at all.
 */
type Kind = 'ok' | 'later' | 'no' | 'unknown' | 'shut' | 'never';

const HOSTS: Record<string, [kind: Kind, does: SinkOptions | 'absent']> = {
  'takes it': ['ok', {}],
  'does not listen': ['later', 'absent'],
  'greets with 421': ['later', { greeting: '421 4.3.2 busy' }],
  'greets with 450': ['later', { greeting: '450 4.3.2 busy' }],
  'greets with 354': ['later', { greeting: '354 what' }],
  'greets with 554': ['shut', { greeting: '554 5.7.1 not you' }],
  'greets with 521': ['never', { greeting: '521 no mail here' }],
  'hangs up at once': ['later', { greeting: 'drop' }],
  'says nothing': ['later', { greeting: 'hang' }],
  '421 to EHLO': ['later', { ehlo: '421 4.3.2 busy' }],
  '451 to EHLO': ['later', { ehlo: '451 4.3.0 busy' }],
  '5xx to EHLO and HELO': ['shut', { ehlo: '550 no', helo: '550 5.7.1 no' }],
  'hangs up at EHLO': ['later', { ehlo: 'drop' }],
  'silent at EHLO': ['later', { ehlo: 'hang' }],
  '421 to MAIL': ['later', { faults: { mail: '421' } }],
  '450 to MAIL': ['later', { faults: { mail: '450' } }],
  '354 to MAIL': ['later', { faults: { mail: '354' } }],
  '550 to MAIL': ['no', { faults: { mail: '550' } }],
  'hangs up at MAIL': ['later', { faults: { mail: 'drop' } }],
  'silent at MAIL': ['later', { faults: { mail: 'hang' } }],
  '421 to RCPT': ['later', { faults: { rcpt: '421' } }],
  '450 to RCPT': ['later', { faults: { rcpt: '450' } }],
  '452 too many to the first RCPT': ['later', { faults: { rcpt: '=452 4.5.3 too many' } }],
  '550 to RCPT': ['no', { faults: { rcpt: '550' } }],
  'hangs up at RCPT': ['later', { faults: { rcpt: 'drop' } }],
  'silent at RCPT': ['later', { faults: { rcpt: 'hang' } }],
  '421 to DATA': ['later', { faults: { data: '421' } }],
  '451 to DATA': ['later', { faults: { data: '451' } }],
  '554 to DATA': ['no', { faults: { data: '554' } }],
  '250 to DATA': ['later', { faults: { data: '250' } }],
  'hangs up at DATA': ['later', { faults: { data: 'drop' } }],
  'silent at DATA': ['later', { faults: { data: 'hang' } }],
  '421 to the end of the content': ['later', { faults: { dot: '421' } }],
  '451 to the end of the content': ['later', { faults: { dot: '451' } }],
  '554 to the end of the content': ['no', { faults: { dot: '554' } }],
  '354 to the end of the content': ['unknown', { faults: { dot: '354' } }],
  'hangs up at the end of the content': ['unknown', { faults: { dot: 'drop' } }],
  'silent at the end of the content': ['unknown', { faults: { dot: 'hang' } }],
  'no reply but a line at the end of the content': ['unknown', { faults: { dot: 'garbage' } }],
};

const IN_THE_DOCS: Record<Kind, string> = {
  ok: 'delivered',
  later: 'next host',
  no: 'bounced',
  unknown: 'deferred',
  shut: 'next host; refused by all: `greeting_refusal`',
  never: 'next host; refused by all: bounced',
};

/** One of each kind. */
const SECOND = [
  'takes it',
  'does not listen',
  'greets with 554',
  'greets with 521',
  '450 to MAIL',
  '550 to RCPT',
  '451 to the end of the content',
  'hangs up at the end of the content',
];

function fateOf(first: Kind, second: Kind): string {
  const decided: Partial<Record<Kind, string>> = {
    ok: 'delivered',
    no: 'bounced peer_5xx',
    unknown: 'deferred',
  };
  if (first === 'never' && second === 'never') return 'bounced peer_5xx';
  return decided[first] ?? decided[second] ?? 'deferred';
}

let dns: DnsServer;
/** Long for those that answer, for the machine may be busy; those that do not are waited for side by side. */
const WAIT_MS = 1000;
const LANES = 24;

before(async () => {
  const hosts = [1, 2, 3, 4].map((n) => [`mx${n}.test`, { A: [`127.0.0.${n}`] }] as const);
  dns = await DnsServer.start({
    ...Object.fromEntries(hosts),
    'one.test': { MX: [[10, 'mx1.test']] },
    'nobody.test': { A: ['127.0.0.9'] },
    'odd.test': { A: ['224.0.0.1'] },
    'odd-only.test': { MX: [[10, 'odd.test']] },
    'odd-first.test': {
      MX: [
        [10, 'odd.test'],
        [20, 'mx1.test'],
      ],
    },
    'two.test': {
      MX: [
        [10, 'mx1.test'],
        [20, 'mx2.test'],
      ],
    },
    'four.test': {
      MX: [
        [10, 'mx1.test'],
        [20, 'mx2.test'],
        [30, 'mx3.test'],
        [40, 'mx4.test'],
      ],
    },
    'first-away.test': {
      MX: [
        [10, 'nobody.test'],
        [20, 'mx2.test'],
      ],
    },
    'second-away.test': {
      MX: [
        [10, 'mx1.test'],
        [20, 'nobody.test'],
      ],
    },
    'both-away.test': {
      MX: [
        [10, 'nobody.test'],
        [20, 'nobody.test'],
      ],
    },
  });
});

after(() => dns?.stop());

/** Sinks that are mx1, mx2, … on one port. */
async function startHosts(count: number): Promise<ScriptedSink[]> {
  for (;;) {
    const sinks = [await startSink({ host: '127.0.0.1' })];
    const { port } = sinks[0] as ScriptedSink;
    try {
      for (let n = 2; n <= count; n++) sinks.push(await startSink({ host: `127.0.0.${n}`, port }));
      return sinks;
    } catch {
      // Somebody else has that port on another address.
      for (const sink of sinks) await sink.stop();
    }
  }
}

function sender(port: number, delivery: Partial<Config['delivery']> = {}): Harness {
  const rules = { mx_port: port, refuse_loopback_mx: false, connect_timeout_ms: 10_000, ...delivery };
  const dnsRules = { servers: [dns.address], timeout_ms: 1000, tries: 2 };
  return startSender({ delivery: rules, dns: dnsRules }, 8 * 1024 * 1024);
}

type Hosts = [ScriptedSink, ScriptedSink, ScriptedSink, ScriptedSink];

async function withHosts(
  count: number,
  delivery: Partial<Config['delivery']>,
  run: (harness: Harness, sinks: Hosts) => Promise<void>,
): Promise<void> {
  const sinks = await startHosts(count);
  const harness = sender((sinks[0] as ScriptedSink).port, delivery);
  await run(harness, sinks as Hosts);
  harness.stop();
  await Promise.all(sinks.map((sink) => sink.stop()));
}

const base: SinkOptions = {};

function does(sink: ScriptedSink, options: SinkOptions | 'absent'): void {
  for (const key of Object.keys(sink.options)) delete sink.options[key as keyof SinkOptions];
  Object.assign(sink.options, base, options === 'absent' ? {} : options);
}

const job = (over: Partial<JobInput> = {}): JobInput => ({
  recipients: ['a@two.test'],
  destination: 'two.test',
  ...over,
});

async function pair(sinks: ScriptedSink[], first: string, second: string): Promise<void> {
  const [a, b] = sinks as [ScriptedSink, ScriptedSink];
  const [[kindA, doesA], [kindB, doesB]] = [HOSTS[first], HOSTS[second]] as [
    [Kind, SinkOptions],
    [Kind, SinkOptions],
  ];
  does(a, doesA);
  does(b, doesB);
  const took = [a.messages.length, b.messages.length];
  const away = [doesA, doesB].map((one) => (one as unknown) === 'absent');
  const destination =
    away[0] && away[1]
      ? 'both-away.test'
      : away[0]
        ? 'first-away.test'
        : away[1]
          ? 'second-away.test'
          : 'two.test';
  const waitMs = isSilent(first) || isSilent(second) ? WAIT_MS : 30_000;
  const harness = sender(a.port, { command_timeout_ms: waitMs, final_reply_timeout_ms: waitMs });
  const result = await harness.attempt(job({ destination }));
  const where = `first ${first}, second ${second}: ${JSON.stringify(result.groups)}`;
  const fate = fateOf(kindA, kindB);
  assert.equal(fates(result)[0]?.replace(/^deferred .*/, 'deferred'), fate, where);
  assert.equal(result.attempts, 1, where);
  const expected = [kindA === 'ok', fate === 'delivered' && kindA !== 'ok'].map(Number);
  for (const [i, sink] of [a, b].entries())
    if ((i === 0 ? kindA : kindB) !== 'unknown')
      assert.equal(sink.messages.length - (took[i] as number), expected[i], where);
  // Who may have it gets it from us no second time within the attempt, nor does anybody else (I6).
  if (kindA === 'unknown')
    assert.equal(b.commands.some((line) => line.includes('MAIL')) && b.open.size > 0, false, where);
  harness.stop();
}

const isSilent = (host: string) =>
  JSON.stringify(HOSTS[host]).includes('hang') || host.startsWith('no reply but');
const silent = (a: string, b: string) => Number(isSilent(a)) + Number(isSilent(b));

async function pairs(list: [first: string, second: string][]): Promise<void> {
  const lanes: ScriptedSink[][] = [];
  for (let i = 0; i < LANES; i++) lanes.push(await startHosts(2));
  const left = list.sort(([a, b], [c, d]) => silent(c, d) - silent(a, b));
  await Promise.all(
    lanes.map(async (sinks) => {
      for (let one = left.shift(); one !== undefined; one = left.shift()) {
        for (const sink of sinks) sink.commands.length = 0;
        await pair(sinks, ...one);
      }
    }),
  );
  for (const sink of lanes.flat()) await sink.stop();
}

test('docs/delivery.md has the same table', () => {
  const page = readFileSync(new URL('../../docs/delivery.md', import.meta.url), 'utf8');
  const rows = Object.entries(HOSTS).map(([name, [kind]]) => `| ${name} | ${IN_THE_DOCS[kind]} |`);
  const table = /\n\| the host \| then \|\n\|---\|---\|\n((?:\|.*\n)*)/.exec(page)?.[1];
  assert.deepEqual(table?.trim().split('\n'), rows);
});

test('each pair of a first and a second host gives its fate, in one attempt', {
  timeout: 60_000,
}, async () => {
  const all = Object.keys(HOSTS).flatMap((first) =>
    SECOND.map((second): [string, string] => [first, second]),
  );
  // Every first host with one that takes it, and a part of the rest: each kind meets each. HOST_PAIRS=all takes all.
  const column = (i: number) => i + Math.floor(i / SECOND.length);
  const chosen = all.filter(
    ([, second], i) => process.env.HOST_PAIRS === 'all' || second === 'takes it' || column(i) % 4 === 0,
  );
  await pairs(chosen);
});

test('whatever the second host does after a 450 of the first', { timeout: 60_000 }, async () => {
  await pairs(Object.keys(HOSTS).map((second) => ['450 to MAIL', second]));
});

test('where the first host may have taken it, a later attempt begins at the second', async () => {
  for (const dot of ['drop', '354']) {
    await withHosts(2, {}, async (harness, [a, b]) => {
      does(a, { faults: { dot } });
      assert.match(fates(await harness.attempt(job()))[0] as string, /^deferred/);
      assert.equal(b.messages.length, 0);
      assert.deepEqual(fates(await harness.attempt(job())), ['delivered']);
      assert.deepEqual([a.connections, b.messages.length], [1, 1]);
    });
  }
});

test('a host that failed is tried last until its time is over, or until it takes a message', async () => {
  await withHosts(2, { failed_host_ttl_ms: 60_000, idle_connection_ms: 0 }, async (harness, [a, b]) => {
    const sent = async () => {
      assert.deepEqual(fates(await harness.attempt(job())), ['delivered']);
      return [a.messages.length, b.messages.length];
    };
    does(a, { faults: { mail: 'drop' } });
    assert.deepEqual(await sent(), [0, 1]);
    does(a, {});
    assert.deepEqual(await sent(), [0, 2]);
    harness.clockOffsetMs = 61_000;
    assert.deepEqual(await sent(), [1, 2]);
    does(a, { faults: { mail: 'drop' } });
    assert.deepEqual(await sent(), [1, 3]);
    does(a, {});
    does(b, { greeting: '421 busy' });
    assert.deepEqual(await sent(), [2, 3], 'tried last is tried nevertheless');
    does(b, {});
    assert.deepEqual(await sent(), [3, 3], 'it takes messages again');
  });
});

test('an attempt asks max_hosts_per_attempt hosts; the next one asks the others', async () => {
  await withHosts(4, { max_hosts_per_attempt: 2 }, async (harness, [a, b, c, d]) => {
    for (const sink of [a, b, c]) does(sink, { faults: { mail: '450' } });
    const four = () => harness.attempt({ recipients: ['a@four.test'], destination: 'four.test' });
    const asked = () => [a, b, c, d].map(({ connections }) => connections);
    assert.deepEqual(fates(await four()), ['deferred peer_4xx']);
    assert.deepEqual(asked(), [1, 1, 0, 0]);
    assert.deepEqual(fates(await four()), ['delivered']);
    assert.deepEqual(asked(), [1, 1, 1, 1]);
  });
});

test('an attempt that took longer than max_attempt_ms asks no further host', async () => {
  await withHosts(2, { max_attempt_ms: 0 }, async (harness, [a, b]) => {
    does(a, { faults: { mail: '450' } });
    assert.deepEqual(fates(await harness.attempt(job())), ['deferred peer_4xx']);
    assert.equal(b.connections, 0);
  });
});

test('each recipient has its own fate: what one host defers the next one takes, and only that', async () => {
  await withHosts(2, {}, async (harness, [a, b]) => {
    const late = 'once-defer-450@x.test';
    b.seen.add(late);
    const recipients = ['a@x.test', late, 'bounce-550@x.test', 'defer-451@x.test', 'b@x.test'];
    const result = await harness.attempt(job({ recipients }));
    const expected = ['delivered', 'delivered', 'bounced peer_5xx', 'deferred peer_4xx', 'delivered'];
    assert.deepEqual(fates(result), expected);
    const got = (sink: ScriptedSink) =>
      sink.messages.map((one) => one.recipients.map(({ address }) => address));
    assert.deepEqual(got(a), [['a@x.test', 'b@x.test']]);
    assert.deepEqual(got(b), [[late]]);
    const outcome = outcomeOf(result, 3);
    assert.ok(outcome.kind === 'deferred');
    assert.match(outcome.reply?.peer.host ?? '', /mx2/, 'the last host has the last word');
  });
});

test('one connection at a time is enough to turn from one host to the next, for many messages', async () => {
  await withHosts(2, { max_connections_per_destination: 1 }, async (harness, [a, b]) => {
    does(a, { faults: { dot: '451' } });
    const results = await harness.attemptAll(Array.from({ length: 20 }, () => job()));
    assert.deepEqual([...new Set(results.flatMap(fates))], ['delivered']);
    assert.equal(b.messages.length, 20);
    assert.equal(a.peakConnections, 1);
  });
});

test('what does not fit one host goes to another that it fits; it bounces when it fits none', async () => {
  const UTF8 = { smtpUtf8: true, recipients: ['é@x.test'], content: 'Subject: é\r\n\r\nx\r\n' };
  const cases: [lacking: string[], input: Partial<JobInput>, reason: string][] = [
    [['SIZE 100', '8BITMIME'], { content: 'x'.repeat(500) }, 'message_too_big'],
    [['PIPELINING'], { body: '8BITMIME', content: 'Subject: x\r\n\r\nüü\r\n' }, 'needs_8bitmime'],
    [['8BITMIME'], { ...UTF8, body: '8BITMIME' }, 'needs_smtputf8'],
    [['CHUNKING'], { body: 'BINARYMIME' }, 'needs_binarymime'],
  ];
  const able = ['8BITMIME', 'SMTPUTF8', 'SIZE 100000', 'CHUNKING', 'BINARYMIME'];
  for (const [lacking, input, reason] of cases) {
    await withHosts(2, {}, async (harness, [a, b]) => {
      does(a, { capabilities: lacking });
      does(b, { capabilities: able });
      assert.deepEqual(fates(await harness.attempt(job(input))), ['delivered'], reason);
      assert.equal(b.messages.length, 1);
      const away = await harness.attempt(job({ ...input, destination: 'second-away.test' }));
      assert.deepEqual(fates(away), ['deferred connect_failed'], `${reason}: the other may come back`);
    });
    await withHosts(2, {}, async (harness, [a, b]) => {
      for (const sink of [a, b]) does(sink, { capabilities: lacking });
      assert.deepEqual(fates(await harness.attempt(job(input))), [`bounced ${reason}`]);
    });
    await withHosts(2, {}, async (harness, [a, b]) => {
      does(a, { faults: { mail: '450' }, capabilities: able });
      does(b, { capabilities: lacking });
      const result = await harness.attempt(job(input));
      assert.deepEqual(fates(result), ['deferred peer_4xx'], `${reason}: the first may`);
    });
  }
});

test('with greeting_refusal bounce a destination whose every host refuses us bounces; with one away it waits', async () => {
  for (const options of [{ greeting: '554 5.7.1 not you' }, { ehlo: '550 no', helo: '550 5.7.1 no' }]) {
    await withHosts(2, { greeting_refusal: 'bounce' }, async (harness, [a, b]) => {
      for (const sink of [a, b]) does(sink, options);
      assert.deepEqual(fates(await harness.attempt(job())), ['bounced peer_5xx']);
      for (const destination of ['first-away.test', 'second-away.test'])
        assert.deepEqual(fates(await harness.attempt(job({ destination }))), ['deferred connect_failed']);
    });
  }
});

test('hosts that fail one after another suspend the destination only when none is left', async () => {
  await withHosts(2, { suspend_after_failures: 1 }, async (harness, [a, b]) => {
    does(a, { faults: { mail: 'drop' } });
    const results = await harness.attemptAll(Array.from({ length: 5 }, () => job()));
    assert.deepEqual([...new Set(results.flatMap(fates))], ['delivered']);
    const suspended = harness.posted.some(({ type }) => type === 'destination');
    assert.equal(suspended, false);
    assert.equal(b.messages.length, 5);
  });
});

test('the only host suspends its destination after EHLO too, remembered or not', async () => {
  for (const failed_host_ttl_ms of [0, 3_600_000])
    await withHosts(1, { suspend_after_failures: 1, failed_host_ttl_ms }, async (harness, [a]) => {
      does(a, { faults: { mail: 'drop' } });
      const results = await harness.attemptAll(
        Array.from({ length: 3 }, () => job({ destination: 'one.test' })),
      );
      assert.equal(
        results.flatMap(fates).filter((one) => one === 'deferred destination_suspended').length,
        2,
      );
    });
});

test('a lease of ours that lapsed is no fault of the host it was to go to', async () => {
  await withHosts(2, { idle_connection_ms: 0 }, async (harness, [a, b]) => {
    harness.leasesHold = false;
    assert.deepEqual(fates(await harness.attempt(job())), ['deferred lease_lapsed']);
    harness.leasesHold = true;
    assert.deepEqual(fates(await harness.attempt(job())), ['delivered']);
    assert.deepEqual([a.messages.length, b.messages.length], [1, 0]);
  });
});

test('an address that no host can have is passed over, and counts as the attempt it was', async () => {
  await withHosts(1, {}, async (harness, [a]) => {
    const to = (destination: string) => harness.attempt(job({ destination }));
    assert.deepEqual(fates(await to('odd-first.test')), ['delivered']);
    assert.equal(a.messages.length, 1);
    const result = await to('odd-only.test');
    assert.deepEqual(fates(result), ['deferred connect_failed']);
    assert.equal(result.attempts, 1);
  });
});

for (const [how, options] of [
  ['refuse', { greeting: '554 5.7.1 not you' }],
  ['are silent', { greeting: 'hang' }],
] as const)
  test(`with one connection in all, hosts that all ${how} are asked once each, and the mail waits`, {
    timeout: 60_000,
  }, async () => {
    await withHosts(2, { max_connections: 1, command_timeout_ms: 100 }, async (harness, [a, b]) => {
      for (const sink of [a, b]) does(sink, options);
      assert.match(fates(await harness.attempt(job()))[0] as string, /^deferred (peer_refused|timeout)$/);
      assert.deepEqual([a.connections, b.connections], [1, 1]);
    });
  });
