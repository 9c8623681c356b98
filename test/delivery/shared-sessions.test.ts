/** Connections that serve several domains of a site: which may, by what each domain wants of TLS; how many there are. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import type { Config } from '../../src/config/schema.ts';
import type { Host } from '../../src/delivery/route.ts';
import type { HostDane } from '../../src/delivery/security/dane.ts';
import { type OpenSession, servesToo } from '../../src/delivery/security/shared-session.ts';
import type { TlsMode, TlsPolicy } from '../../src/delivery/security/tls-policy.ts';
import { readRulesTexts } from '../../src/feedback/rules-text.ts';
import { ThreadReplies } from '../../src/feedback/thread-replies.ts';
import type { AttemptResult } from '../../src/mail/job.ts';
import type { ShapingData } from '../../src/shaping/shaping-data.ts';
import { DnsServer } from '../support/dns-server.ts';
import type { ScriptedSink, SinkOptions } from '../support/scripted-sink.ts';
import { fates, type Harness, startSender, startSink } from './harness.ts';

const HOST: Host = { name: 'mx1.test', address: '192.0.2.1', port: 25, preference: 10 };
const policy = (mode: TlsMode, own = false): TlsPolicy => ({
  mode,
  own,
  implicit: false,
  serverName: undefined,
});
const TLS = { version: 'TLSv1.3', cipher: 'x', verified: true };
const CLEAR: OpenSession = {
  host: HOST,
  tls: null,
  securedAs: null,
  fellBack: false,
  offered: { startTls: false },
};
const secured = (securedAs: OpenSession['securedAs'], verified: boolean, host: Host = HOST): OpenSession => ({
  ...CLEAR,
  host,
  offered: { startTls: true },
  tls: { ...TLS, verified },
  securedAs,
});
const dane = (hex: string, usage = 3, domain = 'a.test'): HostDane => ({
  base: HOST.name,
  names: [domain],
  usable: [{ usage, selector: 1, matching: 1, hex }],
  texts: [`${usage} 1 1 ${hex}`],
});
const withDane = (one: HostDane): Host => ({ ...HOST, dane: one });

describe('a connection serves another domain', () => {
  const rows: [name: string, session: OpenSession, host: Host, policy: TlsPolicy, may: boolean][] = [
    ['in the clear, of a host without TLS', CLEAR, HOST, policy('opportunistic'), true],
    [
      'in the clear, where TLS is to be tried',
      { ...CLEAR, offered: { startTls: true } },
      HOST,
      policy('opportunistic'),
      false,
    ],
    ['in the clear because TLS failed', { ...CLEAR, fellBack: true }, HOST, policy('opportunistic'), false],
    [
      'in the clear, for one that wants no TLS',
      { ...CLEAR, offered: { startTls: true } },
      HOST,
      policy('none'),
      true,
    ],
    ['with TLS, for one that wants none', secured('opportunistic', false), HOST, policy('none', true), false],
    [
      'with any TLS, where it is opportunistic',
      secured('opportunistic', false),
      HOST,
      policy('opportunistic'),
      true,
    ],
    ['with any TLS, where it is required', secured('opportunistic', false), HOST, policy('required'), true],
    ['in the clear, where TLS is required', CLEAR, HOST, policy('required'), false],
    [
      'verified by chance, where that is required',
      secured('opportunistic', true),
      HOST,
      policy('verify'),
      false,
    ],
    ['verified', secured('verify', true), HOST, policy('verify'), true],
    [
      'verified, for a policy of MTA-STS',
      secured('verify', true),
      { ...HOST, verify: true },
      policy('opportunistic'),
      true,
    ],
    [
      'not verified, for a policy of MTA-STS',
      secured('opportunistic', false),
      { ...HOST, verify: true },
      policy('opportunistic'),
      false,
    ],
    [
      'not verified, where the operator’s own word stands for that policy',
      secured('required', false),
      { ...HOST, verify: true },
      policy('required', true),
      true,
    ],
    [
      'verified by the same records',
      secured('dane', true, withDane(dane('aa'))),
      withDane(dane('aa', 3, 'b.test')),
      policy('opportunistic'),
      true,
    ],
    [
      'verified by other records',
      secured('dane', true, withDane(dane('aa'))),
      withDane(dane('bb')),
      policy('opportunistic'),
      false,
    ],
    [
      'verified by an authority, perhaps for the other domain',
      secured('dane', true, withDane(dane('aa', 2))),
      withDane(dane('aa', 2, 'b.test')),
      policy('opportunistic'),
      false,
    ],
    [
      'verified by DANE, where a chain is wanted',
      secured('dane', true, withDane(dane('aa'))),
      HOST,
      policy('verify'),
      false,
    ],
    [
      'verified by its chain, where there are records',
      secured('verify', true),
      withDane(dane('aa')),
      policy('opportunistic'),
      false,
    ],
    [
      'verified by DANE, where anything does',
      secured('dane', true, withDane(dane('aa'))),
      HOST,
      policy('opportunistic'),
      true,
    ],
    [
      'to another address',
      secured('verify', true),
      { ...HOST, address: '192.0.2.2' },
      policy('opportunistic'),
      false,
    ],
    [
      'to the same address by another name',
      secured('verify', true),
      { ...HOST, name: 'mx2.test' },
      policy('opportunistic'),
      false,
    ],
    ['to another port', secured('verify', true), { ...HOST, port: 26 }, policy('opportunistic'), false],
    [
      'to a host that wants a login',
      CLEAR,
      { ...HOST, auth: { username: 'u', password: 'p' } as never },
      policy('none'),
      false,
    ],
  ];
  for (const [name, session, host, one, may] of rows)
    test(`${name}: ${may ? 'yes' : 'no'}`, () => assert.equal(servesToo(session, host, one), may));

  test('whatever the connection and the policies: without verified TLS never for MTA-STS, DANE, or verify', () => {
    const hosts = fc.constantFrom<Host>(
      HOST,
      { ...HOST, verify: true },
      withDane(dane('aa')),
      withDane(dane('aa', 2)),
      withDane(dane('bb')),
    );
    const sessions = fc.record({
      host: hosts,
      tls: fc.constantFrom(null, { ...TLS, verified: false }, TLS),
      securedAs: fc.constantFrom<OpenSession['securedAs'][]>(
        null,
        'none',
        'opportunistic',
        'required',
        'verify',
        'dane',
      ),
      fellBack: fc.boolean(),
      offered: fc.record({ startTls: fc.boolean() }),
    });
    const modes = fc.constantFrom<TlsMode[]>('none', 'opportunistic', 'required', 'verify');
    let served = 0;
    fc.assert(
      fc.property(sessions, hosts, modes, fc.boolean(), (session, host, mode, own) => {
        if (!servesToo(session, host, policy(mode, own))) return;
        served++;
        const wantsChain = host.dane === undefined && (mode === 'verify' || (host.verify === true && !own));
        if (wantsChain) assert.ok(session.tls?.verified === true && session.securedAs === 'verify');
        if (host.dane !== undefined)
          assert.ok(session.tls?.verified === true && session.host.dane?.texts[0] === host.dane.texts[0]);
        if (mode !== 'none' && mode !== 'opportunistic') assert.ok(session.tls !== null);
      }),
      { numRuns: 3000 },
    );
    assert.ok(served > 100);
  });
});

const replies = new ThreadReplies(readRulesTexts(''), 10, (error) => {
  throw error;
});
let dns: DnsServer;
const DOMAINS = Array.from({ length: 50 }, (_, i) => `d${i}.test`);
const MX = {
  MX: [
    [10, 'mx1.site.test'],
    [10, 'mx2.site.test'],
  ] as [number, string][],
};
before(async () => {
  dns = await DnsServer.start({
    ...Object.fromEntries(DOMAINS.map((domain) => [domain, MX])),
    'mx1.site.test': { A: ['127.0.0.1'] },
    'mx2.site.test': { A: ['127.0.0.2'] },
  });
});
after(() => dns.stop());

async function withSite(
  limits: ShapingData['limits'],
  delivery: Partial<Config['delivery']>,
  options: SinkOptions,
  work: (sinks: ScriptedSink[], harness: Harness) => Promise<void>,
): Promise<void> {
  const first = await startSink({ ...options, host: '127.0.0.1' });
  const second = await startSink({ ...options, host: '127.0.0.2', port: first.port });
  const config = {
    dns: { servers: [`127.0.0.1:${dns.port}`] } as Config['dns'],
    delivery: { mx_port: first.port, refuse_loopback_mx: false, ...delivery },
  };
  const data: ShapingData = { rollup: 'mx_set', limits, total: {}, providers: [] };
  const harness = startSender(config, undefined, undefined, undefined, data);
  try {
    await work([first, second], harness);
    for (const { violations } of [first, second]) assert.deepEqual(violations, []);
  } finally {
    harness.stop();
    await Promise.all([first.stop(), second.stop()]);
  }
}

const toEach = (count: number) =>
  DOMAINS.flatMap((destination) =>
    Array.from({ length: count }, (_, i) => ({ recipients: [`u${i}@${destination}`], destination })),
  );
const connectionsOf = (sinks: ScriptedSink[]): number =>
  sinks.reduce((sum, { connections }) => sum + connections, 0);

/** Recipient domains of each connection's messages. */
function domainsOf(sinks: ScriptedSink[]): Set<string>[] {
  const all = new Map<string, Set<string>>();
  for (const [i, { messages }] of sinks.entries())
    for (const { connection, recipients } of messages) {
      const domains = new Set(recipients.map(({ address }) => address.split('@')[1] as string));
      assert.equal(domains.size, 1, 'never two domains in one transaction');
      const known = all.get(`${i} ${connection}`) ?? new Set();
      for (const domain of domains) known.add(domain);
      all.set(`${i} ${connection}`, known);
    }
  return [...all.values()];
}

test('fifty domains on two hosts with two connections: a few connections serve them all', async () => {
  await withSite({ max_connections: 2 }, {}, {}, async (sinks, harness) => {
    const results = await harness.attemptAll(toEach(2));
    assert.deepEqual(new Set(results.flatMap(fates)), new Set(['delivered']));
    assert.ok(connectionsOf(sinks) <= 6, `${connectionsOf(sinks)} connections`);
    assert.ok(domainsOf(sinks).some(({ size }) => size > 10));
  });
});

test('messages over one connection are counted over all its domains', async () => {
  await withSite({ max_connections: 2, messages_per_connection: 10 }, {}, {}, async (sinks, harness) => {
    const results = await harness.attemptAll(toEach(2));
    assert.deepEqual(new Set(results.flatMap(fates)), new Set(['delivered']));
    for (const { messages } of sinks) {
      const carried = Map.groupBy(messages, ({ connection }) => connection);
      for (const { length } of carried.values()) assert.ok(length <= 10);
    }
    assert.ok(connectionsOf(sinks) >= 10);
    assert.ok(connectionsOf(sinks) <= 20, `${connectionsOf(sinks)} connections`);
  });
});

test('a connection that is idle serves the next domain, and no other is opened', async () => {
  await withSite({ max_connections: 5 }, { ip_family: 'ipv4' }, {}, async (sinks, harness) => {
    for (const destination of DOMAINS.slice(0, 10))
      await harness.attempt({ recipients: [`u@${destination}`], destination });
    assert.ok(connectionsOf(sinks) <= 2, `${connectionsOf(sinks)} connections`);
  });
});

test('a domain whose word on TLS a connection does not meet has its own turn and connection', async () => {
  const own = { 'd7.test': { mode: 'required' as const } };
  await withSite(
    { max_connections: 2 },
    { tls: { ...({} as Config['delivery']['tls']), destinations: own } },
    {},
    async (sinks, harness) => {
      const results = await harness.attemptAll(toEach(2));
      const byFate = Map.groupBy(results, (result) => fates(result)[0]);
      // The hosts have no TLS, so mail that needs it waits; its connections show that it got its turn.
      assert.deepEqual([...byFate.keys()].sort(), ['deferred tls_failed', 'delivered']);
      assert.equal(byFate.get('delivered')?.length, 98);
      for (const domains of domainsOf(sinks)) assert.ok(!domains.has('d7.test'));
    },
  );
});

for (const reply of [
  '550 5.7.1 relaying denied',
  '550 no',
  '451 4.3.0 not here',
  '421 4.3.0 go away',
  'drop',
])
  test(`a host that on a connection for one domain says to another: ${reply}`, async () => {
    await withSite(
      { max_connections: 2 },
      { ip_family: 'ipv4', max_hosts_per_attempt: 1 },
      { otherDomainOfConnection: reply },
      async (sinks, harness) => {
        harness.classify = (one) => replies.classify(one);
        // The second time it is known: no connection of another domain is tried, so none ends for it.
        for (const opened of [2, 2]) {
          const before = connectionsOf(sinks);
          for (const destination of ['d1.test', 'd2.test']) {
            const [result] = await harness.attemptAll([{ recipients: [`u@${destination}`], destination }]);
            assert.deepEqual(
              [fates(result as AttemptResult), result?.attempts],
              [['delivered'], 1],
              destination,
            );
          }
          assert.ok(connectionsOf(sinks) - before <= opened);
        }
        for (const { size } of domainsOf(sinks)) assert.equal(size, 1);
      },
    );
  });

test('what a host says of a recipient counts on any connection of the site', async () => {
  await withSite({ max_connections: 2 }, { ip_family: 'ipv4' }, {}, async (sinks, harness) => {
    harness.classify = (one) => replies.classify({ ...one, enhanced: '5.1.1', text: 'user unknown' });
    await harness.attempt({ recipients: ['u@d1.test'], destination: 'd1.test' });
    const refused = await harness.attempt({ recipients: ['bounce-550@d2.test'], destination: 'd2.test' });
    assert.deepEqual(fates(refused), ['bounced peer_5xx']);
    assert.equal(connectionsOf(sinks), 1);
  });
});
