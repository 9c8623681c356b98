import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { type Config, configSchema } from '../../src/config/schema.ts';
import { Dns } from '../../src/delivery/names/dns.ts';
import { ownAddresses } from '../../src/delivery/names/own-addresses.ts';
import { type Route, Router } from '../../src/delivery/route.ts';
import { tlsPolicyOf } from '../../src/delivery/security/tls-policy.ts';
import { DnsServer } from '../support/dns-server.ts';
import { fates, outcomeOf, startSender, startSink } from './harness.ts';

let server: DnsServer;

before(async () => {
  server = await DnsServer.start({
    'two.test': {
      MX: [
        [20, 'b.two.test'],
        [10, 'A.Two.Test'],
      ],
    },
    'a.two.test': { A: ['192.0.2.1'], AAAA: ['2001:db8::1'] },
    'b.two.test': { A: ['192.0.2.2'] },
    'equal.test': {
      MX: [
        [5, 'e1.test'],
        [5, 'e2.test'],
        [5, 'e3.test'],
        [1, 'first.test'],
      ],
    },
    'e1.test': { A: ['192.0.2.11'] },
    'e2.test': { A: ['192.0.2.12'] },
    'e3.test': { A: ['192.0.2.13'] },
    'first.test': { A: ['192.0.2.10'] },
    // Names of exchangers that do not exist, or have more addresses than are asked, before one that is good.
    'gone40.test': {
      MX: [...Array.from({ length: 40 }, (_, i): [number, string] => [i, `gone${i}.test`]), [99, 'e1.test']],
    },
    'crowd.test': {
      MX: [
        [1, 'many.test'],
        [2, 'many2.test'],
        [3, 'e1.test'],
      ],
    },
    'many.test': { A: Array.from({ length: 60 }, (_, i) => `198.51.100.${i + 1}`) },
    'many2.test': { A: Array.from({ length: 60 }, (_, i) => `203.0.113.${i + 1}`) },
    'implicit.test': { A: ['192.0.2.3'] },
    'nulls.test': {
      MX: [
        [0, '.'],
        [5, '.'],
      ],
    },
    'null.test': { MX: [[0, '.']], A: ['192.0.2.4'] },
    'servfail.test': { fault: 'SERVFAIL' },
    'refused.test': { fault: 'REFUSED' },
    'slow.test': { fault: 'timeout' },
    'alias.test': { CNAME: 'two.test' },
    'mxalias.test': { MX: [[1, 'cname.test']] },
    'cname.test': { CNAME: 'a.two.test' },
    'partly.test': {
      MX: [
        [1, 'gone.test'],
        [2, 'b.two.test'],
      ],
    },
    'unresolved.test': {
      MX: [
        [1, 'gone.test'],
        [2, 'gone2.test'],
      ],
    },
    'temporarily.test': {
      MX: [
        [1, 'gone.test'],
        [2, 'servfail.test'],
      ],
    },
    'halfbroken.test': {
      MX: [
        [1, 'servfail.test'],
        [2, 'b.two.test'],
      ],
    },
    'family.test': { MX: [[1, 'half.test']] },
    'half.test': { A: ['192.0.2.5'], faults: { AAAA: 'SERVFAIL' } },
    'noaddress.test': { TXT: ['nothing here'] },
    'selfbest.test': {
      MX: [
        [10, 'relay.test'],
        [20, 'b.two.test'],
      ],
    },
    'selfmiddle.test': {
      MX: [
        [5, 'a.two.test'],
        [10, 'Relay.Test'],
        [10, 'e1.test'],
        [20, 'b.two.test'],
      ],
    },
    'loopback.test': {
      MX: [
        [1, 'localhost.test'],
        [2, 'b.two.test'],
      ],
    },
    'localhost.test': { A: ['127.0.0.1'] },
    'zero.test': { A: ['0.0.0.0'] },
    'own.test': { MX: [[1, 'ours.test']] },
    'ours.test': { A: ['192.0.2.99'] },
    'xn--bcher-kva.test': { A: ['192.0.2.6'] },
    'numeric.test': { MX: [[1, '192.0.2.7']] },
    'hop.test': { A: ['192.0.2.8'] },
    'large.test': { fault: 'truncate', MX: [[1, 'b.two.test']] },
  });
});
after(() => server.stop());
beforeEach(() => {
  server.queries.length = 0;
});

type Changes = { delivery?: Partial<Config['delivery']>; dns?: Partial<Config['dns']>; hostname?: string };

function router(changes: Changes = {}, random: () => number = Math.random): Router {
  const config = configSchema.parse({
    hostname: changes.hostname ?? 'relay.test',
    delivery: changes.delivery,
    dns: { servers: [server.address], timeout_ms: 5000, tries: 1, ...changes.dns },
  });
  const own = ownAddresses([{ address: '192.0.2.99', port: 25 }]);
  return new Router(config, { dns: new Dns(config.dns), own, random });
}

/** 'address …' in order, or 'kind reason status'. */
async function summary(route: Promise<Route>): Promise<string> {
  const found = await route;
  if (found.kind === 'hosts') return found.hosts.map(({ address }) => address).join(' ');
  return `${found.kind} ${found.reason}${found.kind === 'bounce' ? ` ${found.status}` : ''}`;
}

const CASES: [name: string, domain: string, expected: string][] = [
  ['exchangers in order of preference, IPv6 before IPv4', 'two.test', '2001:db8::1 192.0.2.1 192.0.2.2'],
  ['no MX: the implicit one', 'implicit.test', '192.0.2.3'],
  ['a null MX bounces 5.1.10, though there is an address', 'null.test', 'bounce null_mx 5.1.10'],
  ['twice a null MX is one', 'nulls.test', 'bounce null_mx 5.1.10'],
  ['a domain that does not exist bounces 5.1.2', 'nowhere.test', 'bounce no_such_domain 5.1.2'],
  ['a domain without MX and address bounces 5.4.4', 'noaddress.test', 'bounce no_such_domain 5.4.4'],
  ['SERVFAIL defers', 'servfail.test', 'defer dns_temporary'],
  ['REFUSED defers: it is us who are refused', 'refused.test', 'defer dns_unavailable'],
  ['no answer in time defers', 'slow.test', 'defer dns_unavailable'],
  ['an alias of a domain is followed', 'alias.test', '2001:db8::1 192.0.2.1 192.0.2.2'],
  ['an alias of an exchanger is followed', 'mxalias.test', '2001:db8::1 192.0.2.1'],
  ['an exchanger that does not exist is skipped', 'partly.test', '192.0.2.2'],
  ['no exchanger exists: bounce 5.4.4', 'unresolved.test', 'bounce no_such_domain 5.4.4'],
  ['one exchanger might exist: defer', 'temporarily.test', 'defer dns_temporary'],
  ['an exchanger that cannot be resolved now is passed over', 'halfbroken.test', '192.0.2.2'],
  ['one family broken: the other is used', 'family.test', '192.0.2.5'],
  ['ourselves as best exchanger: a loop', 'selfbest.test', 'bounce mail_loop 5.4.6'],
  ['ourselves in the middle: only better ones remain', 'selfmiddle.test', '2001:db8::1 192.0.2.1'],
  ['a loopback exchanger is ourselves', 'loopback.test', 'bounce mail_loop 5.4.6'],
  ['0.0.0.0 is ourselves', 'zero.test', 'bounce mail_loop 5.4.6'],
  ['an address we listen on at the MX port is ourselves', 'own.test', 'bounce mail_loop 5.4.6'],
  ['an internationalized domain is asked as A-labels', 'bücher.test', '192.0.2.6'],
  ['an address in an MX record is used', 'numeric.test', '192.0.2.7'],
  ['an answer too long for UDP comes over TCP', 'large.test', '192.0.2.2'],
  ['an IPv4 literal', '[192.0.2.77]', '192.0.2.77'],
  ['an IPv6 literal', '[ipv6:2001:db8::77]', '2001:db8::77'],
  ['a literal of ourselves', '[127.0.0.1]', 'bounce mail_loop 5.4.6'],
  ['a literal of another kind', '[x400:abc]', 'bounce no_such_domain 5.1.2'],
  ['a name DNS cannot carry', `${'a'.repeat(64)}.test`, 'bounce no_such_domain 5.1.2'],
];

for (const [name, domain, expected] of CASES) {
  test(name, async () => {
    const dns = domain === 'slow.test' ? { timeout_ms: 100 } : {};
    assert.equal(await summary(router({ dns }).route(domain)), expected);
  });
}

test('an exchanger behind many that are gone, or have many addresses, is among the hosts', async () => {
  const hosts = async (domain: string) => {
    const route = await router().route(domain);
    assert.ok(route.kind === 'hosts', domain);
    return route.hosts.map(({ address }) => address);
  };
  assert.deepEqual(await hosts('gone40.test'), ['192.0.2.11']);
  const crowd = await hosts('crowd.test');
  assert.equal(crowd.at(-1), '192.0.2.11');
  assert.deepEqual([crowd[0], crowd[15]], ['198.51.100.1', '203.0.113.1']);
  assert.equal(crowd.length <= 32, true);
});

test('a literal asks no DNS', async () => {
  await router().route('[192.0.2.77]');
  assert.deepEqual(server.queries, []);
});

test('equal preferences come in every order, the better one always first', async () => {
  const orders = new Set<string>();
  let state = 1;
  const random = () => {
    state = (state * 48_271) % 2_147_483_647;
    return state / 2_147_483_647;
  };
  const one = router({}, random);
  for (let i = 0; i < 100; i++) orders.add(await summary(one.route('equal.test')));
  assert.equal(orders.size, 6);
  for (const order of orders) assert.match(order, /^192\.0\.2\.10 /);
});

test('ip_family keeps to one family', async () => {
  const of = (ip_family: 'ipv4' | 'ipv6') => router({ delivery: { ip_family } });
  assert.equal(await summary(of('ipv4').route('two.test')), '192.0.2.1 192.0.2.2');
  assert.equal(
    server.queries.some((query) => query.startsWith('AAAA')),
    false,
  );
  assert.equal(await summary(of('ipv6').route('two.test')), '2001:db8::1');
});

test('refuse_loopback_mx off lets tests deliver to loopback', async () => {
  const one = router({ delivery: { refuse_loopback_mx: false } });
  assert.equal(await summary(one.route('loopback.test')), '127.0.0.1 192.0.2.2');
});

test('MX hosts are asked at mx_port, next hops at their own', async () => {
  const one = router({
    delivery: { mx_port: 2526, routes: { 'static.test': { host: 'hop.test', port: 10_025 } } },
  });
  const mx = await one.route('implicit.test');
  assert.deepEqual(mx, {
    kind: 'hosts',
    hosts: [
      {
        name: 'implicit.test',
        address: '192.0.2.3',
        port: 2526,
        preference: 0,
        policy: { domain: 'implicit.test', type: 'no-policy-found', strings: [], mx: [] },
      },
    ],
  });
  const hop = await one.route('static.test');
  assert.deepEqual(hop, { kind: 'hosts', hosts: [{ name: 'hop.test', address: '192.0.2.8', port: 10_025 }] });
});

test('a route goes before the smarthost, the smarthost before MX', async () => {
  const one = router({
    delivery: {
      smarthost: { host: '192.0.2.50', port: 587 },
      routes: { 'static.test': { host: '[2001:db8::51]', port: 25 } },
    },
  });
  assert.equal(await summary(one.route('static.test')), '2001:db8::51');
  assert.equal(await summary(one.route('smarthost')), '192.0.2.50');
  assert.equal(await summary(one.route('two.test')), '192.0.2.50');
  assert.deepEqual(server.queries, []);
});

test('a next hop that cannot be resolved defers: an operator’s slip must not bounce mail', async () => {
  for (const host of ['gone.test', 'servfail.test', 'noaddress.test']) {
    const one = router({ delivery: { smarthost: { host, port: 25 } } });
    assert.equal(await summary(one.route('smarthost')), 'defer dns_temporary');
  }
});

test('without dns.servers a next hop is looked up as the system does', async () => {
  const config = configSchema.parse({ delivery: { smarthost: { host: 'mail.lan', port: 25 } } });
  const asked: string[] = [];
  const one = new Router(config, {
    dns: new Dns(config.dns),
    own: ownAddresses([]),
    random: Math.random,
    systemLookup: async (name) => {
      asked.push(name);
      return ['192.0.2.60'];
    },
  });
  assert.equal(await summary(one.route('smarthost')), '192.0.2.60');
  assert.deepEqual(asked, ['mail.lan']);
});

test('localhost needs no DNS', async () => {
  const one = router({ delivery: { smarthost: { host: 'localhost', port: 25 }, ip_family: 'ipv4' } });
  assert.equal(await summary(one.route('smarthost')), '127.0.0.1');
});

test('a next hop that is ourselves, or a smarthost that is gone from the config, defers', async () => {
  const self = router({ delivery: { smarthost: { host: '192.0.2.99', port: 25 } } });
  assert.equal(await summary(self.route('smarthost')), 'defer internal');
  assert.equal(await summary(router().route('smarthost')), 'defer internal');
});

test('mail that was rerouted goes to that next hop, with the login and TLS rules that the config has for it', async () => {
  const hop = {
    host: '192.0.2.50',
    port: 587,
    auth: { username: 'u', password: 'p' },
    tls: { mode: 'verify' },
  };
  const { delivery } = configSchema.parse({
    delivery: { smarthost: { host: '192.0.2.51', port: 25 }, routes: { 'two.test': hop } },
  });
  const one = router({ delivery });
  const hosts = async (key: string) => {
    const route = await one.route(key);
    return route.kind === 'hosts' ? route.hosts : [];
  };
  assert.deepEqual(await hosts('via:192.0.2.60:2525'), [
    { name: '192.0.2.60', address: '192.0.2.60', port: 2525 },
  ]);
  assert.deepEqual(await hosts('via:[2001:db8::1]:25'), [
    { name: '2001:db8::1', address: '2001:db8::1', port: 25 },
  ]);
  assert.equal((await hosts('via:192.0.2.50:587'))[0]?.auth?.username, 'u');
  assert.equal((await hosts('via:192.0.2.50:25'))[0]?.auth, undefined);
  assert.equal(tlsPolicyOf(delivery, 'via:192.0.2.50:587').mode, 'verify');
  assert.equal(tlsPolicyOf(delivery, 'via:192.0.2.60:587').mode, 'opportunistic');
  assert.equal(await summary(one.route('via:192.0.2.99:25')), 'defer internal', 'this relay itself');
  assert.equal(await summary(router().route('via:b.two.test:25')), '192.0.2.2', 'by its address, not by MX');
  assert.equal(await summary(router().route('via:gone.test:25')), 'defer dns_temporary');
});

test('listeners on all addresses make every address of the machine ours', () => {
  const own = ownAddresses([{ address: '::', port: 25 }], () => ['192.0.2.200', 'fe80::1']);
  assert.equal(own.isListener('192.0.2.200', 25), true);
  assert.equal(own.isListener('::ffff:192.0.2.200', 25), true);
  assert.equal(own.isListener('192.0.2.200', 26), false);
  assert.equal(own.isListener('192.0.2.201', 25), false);
});

test('when the first exchanger does not answer, mail goes to the next, and it is remembered', async () => {
  const sink = await startSink({ host: '127.0.0.3' });
  const busy = await startSink({ host: '127.0.0.2', port: sink.port, greeting: '421 4.3.2 busy' });
  server.set('fallback.test', {
    MX: [
      [1, 'm1.test'],
      [2, 'm2.test'],
      [3, 'm3.test'],
    ],
  });
  server.set('m1.test', { A: ['127.0.0.1'] }); // nobody listens there
  server.set('m2.test', { A: ['127.0.0.2'] }); // 421
  server.set('m3.test', { A: ['127.0.0.3'] });
  const harness = startSender({
    delivery: { mx_port: sink.port, refuse_loopback_mx: false, idle_connection_ms: 0, ip_family: 'ipv4' },
    dns: { servers: [server.address] },
  });
  for (let i = 0; i < 2; i++) {
    const result = await harness.attempt({ destination: 'fallback.test', recipients: ['a@fallback.test'] });
    assert.deepEqual(fates(result), ['delivered']);
    const outcome = outcomeOf(result);
    assert.ok(outcome.kind === 'delivered');
    assert.deepEqual([outcome.reply.peer.host, outcome.reply.peer.address], ['m3.test', '127.0.0.3']);
    assert.equal(result.attempts, 1);
    await sink.until(() => sink.open.size === 0);
  }
  assert.equal(busy.connections, 1);
  harness.stop();
  await sink.stop();
  await busy.stop();
});

test('what DNS says of a domain is the fate of all that waits for it', async () => {
  const harness = startSender({ dns: { servers: [server.address] } });
  const results = await harness.attemptAll([
    { destination: 'nowhere.test', recipients: ['a@nowhere.test', 'b@nowhere.test'] },
    { destination: 'nowhere.test', recipients: ['c@nowhere.test'] },
    { destination: 'null.test', recipients: ['d@null.test'] },
    { destination: 'servfail.test', recipients: ['e@servfail.test'] },
  ]);
  assert.deepEqual(results.map(fates), [
    ['bounced no_such_domain', 'bounced no_such_domain'],
    ['bounced no_such_domain'],
    ['bounced null_mx'],
    ['deferred dns_temporary'],
  ]);
  assert.deepEqual(
    results.map(({ attempts }) => attempts),
    [1, 1, 1, 1],
  );
  harness.stop();
});
