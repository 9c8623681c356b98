/** Several resolvers, some with a fault: real servers over UDP and TCP, every kind of question. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { after, before, test } from 'node:test';
import { type Config, configSchema } from '../../src/config/schema.ts';
import { Dns } from '../../src/delivery/dns.ts';
import { ValidatedDns } from '../../src/delivery/validated-dns.ts';
import { isUnanswered, Resolvers } from '../../src/dns/resolvers.ts';
import { PolicyDns } from '../../src/policy/dns.ts';
import { DNS_FAULTS, type DnsFault, DnsServer } from '../support/dns-server.ts';

const HEX = 'ab'.repeat(32);
const NAMES = {
  'm.test': { MX: [[1, 'a.test']] as [number, string][], TXT: ['v=STSv1; id=1'] },
  'a.test': { A: ['192.0.2.1'], AAAA: ['2001:db8::1'] },
  '1.2.0.192.in-addr.arpa': { PTR: ['a.test'] },
  '1.2.0.192.list.test': { A: ['127.0.0.2'] },
  '_25._tcp.a.test': { TLSA: [[3, 1, 1, HEX]] as [number, number, number, string][] },
  'alias.test': { CNAME: 'a.test' },
};

/** What is late because this machine is busy must not pass for silence. */
const ASK_MS = 20_000;

type Ask = (rules: Config['dns']) => Promise<unknown>;
/** Each kind of look-up that the relay does, and what it finds. */
const LOOKUPS: Record<string, [ask: Ask, found: string]> = {
  'MX of delivery': [(rules) => new Dns(rules).mx('m.test'), 'a.test'],
  'A of delivery': [(rules) => new Dns(rules).addresses('a.test', 4), '192.0.2.1'],
  'AAAA of delivery': [(rules) => new Dns(rules).addresses('a.test', 6), '2001:db8::1'],
  'an alias of delivery': [(rules) => new Dns(rules).addresses('alias.test', 4), '192.0.2.1'],
  'TXT of MTA-STS and TLS reports': [(rules) => new Dns(rules).txt('m.test'), 'v=STSv1; id=1'],
  'MX with DANE': [(rules) => new ValidatedDns({ rules }).mx('m.test'), 'a.test'],
  'A with DANE': [(rules) => new ValidatedDns({ rules }).addresses('a.test', 4), '192.0.2.1'],
  TLSA: [(rules) => new ValidatedDns({ rules }).tlsa('_25._tcp.a.test'), HEX],
  CNAME: [(rules) => new ValidatedDns({ rules }).alias('alias.test'), 'a.test'],
  'PTR of the policy': [
    async (rules) => new PolicyDns(rules).ask('PTR', '1.2.0.192.in-addr.arpa', ASK_MS),
    'a.test',
  ],
  'a DNS list': [async (rules) => new PolicyDns(rules).ask('A', '1.2.0.192.list.test', ASK_MS), '127.0.0.2'],
  'MX of the policy': [async (rules) => new PolicyDns(rules).ask('MX', 'm.test', ASK_MS), 'a.test'],
  'AAAA of the policy': [async (rules) => new PolicyDns(rules).ask('AAAA', 'a.test', ASK_MS), '2001:db8::1'],
};

/** One of each client of the layer. */
const ALONE = new Set(['MX of delivery', 'TLSA', 'PTR of the policy']);

const faulty = new Map<string, DnsServer>();
let good: DnsServer;
let nobody: string;

before(async () => {
  good = await DnsServer.start(NAMES);
  for (const fault of DNS_FAULTS) {
    if (fault === 'NXDOMAIN' || fault === 'truncate') continue;
    const names = Object.fromEntries(Object.entries(NAMES).map(([name, all]) => [name, { ...all, fault }]));
    faulty.set(fault, await DnsServer.start(names as Record<string, { fault: DnsFault }>));
  }
  const place = createServer().listen(0, '127.0.0.1');
  await once(place, 'listening');
  nobody = `127.0.0.1:${(place.address() as { port: number }).port}`;
  place.close();
});

after(async () => {
  await Promise.all([good, ...faulty.values()].map((server) => server?.stop()));
});

const RULES = configSchema.parse({ dns: { timeout_ms: 10_000, tries: 1 } }).dns;
const rulesOf = (...servers: string[]): Config['dns'] => ({ ...RULES, servers });

test('whatever is wrong with the first resolver, the second is asked, for every kind of look-up', async () => {
  const places = [['nobody there', nobody], ...[...faulty].map(([name, { address }]) => [name, address])];
  const check = async (lookup: string, name: string, address: string): Promise<void> => {
    const [ask, found] = LOOKUPS[lookup] as [Ask, string];
    const answer = JSON.stringify(await ask(rulesOf(address, good.address)));
    assert.ok(answer.includes(`"${found}"`), `${lookup}, ${name}: ${answer}`);
    if (!ALONE.has(lookup)) return;
    const alone = await ask({ ...rulesOf(address), timeout_ms: 100 });
    const temporary = alone === null || (alone as { kind: string }).kind === 'temporary';
    assert.ok(temporary, `${lookup}, ${name} alone is a temporary failure: ${JSON.stringify(alone)}`);
  };
  for (let from = 0; from < places.length; from += 12) {
    const some = places.slice(from, from + 12);
    const pairs = some.flatMap((place) => Object.keys(LOOKUPS).map((lookup) => [lookup, ...place]));
    await Promise.all(pairs.map(([lookup, name, address]) => check(`${lookup}`, `${name}`, `${address}`)));
  }
});

test('NXDOMAIN and an empty answer are answers: nobody else is asked', async (t) => {
  const other = await DnsServer.start({});
  t.after(() => other.stop());
  const dns = new Dns(rulesOf(other.address, good.address));
  const before = good.queries.length;
  assert.deepEqual(await dns.mx('m.test'), { kind: 'no-name' });
  other.set('m.test', { A: ['192.0.2.9'] });
  assert.deepEqual(await dns.addresses('m.test', 6), { kind: 'no-record' });
  assert.equal(good.queries.length, before);
});

test('a silent resolver is asked after the others from then on, and each is named once all have failed', async () => {
  const silent = faulty.get('timeout') as DnsServer;
  const refusing = faulty.get('REFUSED') as DnsServer;
  const resolvers = new Resolvers({ ...rulesOf(silent.address, good.address), timeout_ms: 400 });
  const asked = silent.queries.length;
  for (let i = 0; i < 3; i++) assert.equal(typeof (await resolvers.ask('a.test', 'A')), 'object');
  // The first question is still open when the second is asked: its end is what tells.
  await new Promise((done) => setTimeout(done, 400));
  const known = silent.queries.length;
  for (let i = 0; i < 3; i++) assert.equal(typeof (await resolvers.ask('a.test', 'A')), 'object');
  assert.ok(known > asked);
  assert.equal(silent.queries.length, known, 'not asked again');
  const both = { ...rulesOf(silent.address, refusing.address), timeout_ms: 100 };
  const all = await new Resolvers(both).ask('a.test', 'A');
  assert.deepEqual(new Set(String(all).split(', ')), new Set(['REFUSED', 'ETIMEOUT']));
});

test('tries: only who was silent is asked again', async () => {
  const silent = faulty.get('timeout') as DnsServer;
  const failing = faulty.get('SERVFAIL') as DnsServer;
  const [before, others] = [silent.asked('A a.test'), failing.asked('A a.test')];
  const rules = { ...rulesOf(failing.address, silent.address), timeout_ms: 60, tries: 3 };
  await new Resolvers(rules).ask('a.test', 'A');
  assert.equal(silent.asked('A a.test') - before, 3);
  assert.equal(failing.asked('A a.test') - others, 1);
});

test('a resolver that knows no EDNS is asked without', async (t) => {
  for (const fault of ['FORMERR', 'NOTIMP'] as const) {
    const old = await DnsServer.start({ 'a.test': { A: ['192.0.2.5'], withoutEdns: fault } });
    t.after(() => old.stop());
    const answer = await new Dns(rulesOf(old.address)).addresses('a.test', 4);
    assert.deepEqual(answer, { kind: 'found', records: ['192.0.2.5'] });
  }
});

test('two hundred questions at a time share few sockets, and each gets its own answer', async (t) => {
  const names = Object.fromEntries(
    Array.from({ length: 200 }, (_, i) => [`n${i}.test`, { A: [`10.0.0.${i}`] }]),
  );
  const many = await DnsServer.start(names);
  t.after(() => many.stop());
  const resolvers = new Resolvers({ ...rulesOf(many.address), timeout_ms: 5000, tries: 2 });
  const replies = await Promise.all(Object.keys(names).map((name) => resolvers.ask(name, 'A')));
  for (const [i, reply] of replies.entries()) {
    assert.ok(reply !== null && typeof reply === 'object', `${i}: ${reply}`);
    assert.equal((reply.answers[0] as { value: string }).value, `10.0.0.${i}`);
  }
  assert.ok(many.ports.size <= 20, `${many.ports.size} sockets`);
});

test('what says nothing of a name is told from what does, whoever says it first', async () => {
  const empty = new Resolvers(rulesOf(), () => []);
  assert.equal(isUnanswered(String(await empty.ask('a.test', 'A'))), true);
  const OURS = new Set([
    'REFUSED',
    'timeout',
    'truncate-only',
    'referral',
    'garbage',
    'other-id',
    'other-name',
  ]);
  for (const [fault, { address }] of faulty) {
    // Who answers may be late on a busy machine.
    const timeout_ms = OURS.has(fault) ? 100 : 10_000;
    for (const servers of [[address], [nobody, address]]) {
      const said = await new Resolvers({ ...rulesOf(...servers), timeout_ms }).ask('a.test', 'A');
      assert.equal(isUnanswered(String(said)), OURS.has(fault), `${fault} of ${servers.length}: ${said}`);
    }
  }
  for (const code of ['EHOSTUNREACH', 'ENETUNREACH', 'EPERM', 'EMFILE', 'EAI_AGAIN'])
    assert.equal(isUnanswered(code), true, code);
  for (const said of [
    'SERVFAIL, ETIMEOUT',
    'ETIMEOUT, SERVFAIL',
    'EBADRESP',
    'ENOTFOUND',
    'too many aliases',
  ])
    assert.equal(isUnanswered(said), false, said);
});

test('an alias whose target is left out of the answer is followed, with all that may be wrong there', async (t) => {
  const alias = (CNAME: string) => ({ CNAME, aliasOnly: true });
  const names = {
    ...NAMES,
    'one.test': alias('two.test'),
    'two.test': alias('m.test'),
    'host.test': alias('a.test'),
  };
  const odd = {
    'gone.test': alias('nowhere.test'),
    'ill.test': alias('sick.test'),
    'sick.test': { fault: 'SERVFAIL' as const },
    'round.test': alias('trip.test'),
    'trip.test': alias('round.test'),
    'self.test': alias('self.test'),
  };
  const far = Object.fromEntries(
    Array.from({ length: 30 }, (_, i) => [`f${i}.test`, alias(`f${i + 1}.test`)]),
  );
  const server = await DnsServer.start({ ...names, ...odd, ...far });
  t.after(() => server.stop());
  const kinds = async (dns: Dns | ValidatedDns): Promise<string[]> => {
    const all = ['one', 'two', 'gone', 'ill', 'round', 'self', 'f0'].map((name) => dns.mx(`${name}.test`));
    return (await Promise.all(all)).map(({ kind }) => kind);
  };
  const rules = rulesOf(server.address);
  for (const dns of [new Dns(rules), new ValidatedDns({ rules })])
    assert.deepEqual(await kinds(dns), ['found', 'found', 'no-name', ...Array(4).fill('temporary')]);
  assert.equal((await new Dns(rules).addresses('host.test', 4)).kind, 'found');
  assert.equal((await new Dns(rules).txt('host.test')).kind, 'no-record');
  assert.ok(JSON.stringify(await new PolicyDns(rules).ask('MX', 'one.test', ASK_MS)).includes('a.test'));
  assert.ok(server.queries.length < 100, `${server.queries.length} questions`);
});
