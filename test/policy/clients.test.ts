/** Who the client is: PROXY, XCLIENT, XFORWARD; and what is decided about it before it says anything. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { parseIp } from '../../src/base/ip.ts';
import type { Accounts } from '../../src/policy/accounts.ts';
import { ConnectionGate } from '../../src/policy/gate.ts';
import { POLICY_REASONS } from '../../src/protocol/policy-reply.ts';
import { configOf, type LogLine, policyMemory, recordingLog } from '../session/dialog-fixture.ts';
import { PolicyFixture, unseen } from './policy-fixture.ts';

const MAIL = 'MAIL FROM:<a@there.net>';
const RCPT = 'RCPT TO:<b@here.net>';
const PROXY = '192.0.2.250';
const fixtures: PolicyFixture[] = [];

function fixture(policy: object, settings: object = {}): PolicyFixture {
  const f = new PolicyFixture(
    {
      xclient_networks: [PROXY],
      xforward_networks: [PROXY],
      proxy_protocol: { networks: ['192.0.2.251'] },
      ...policy,
    },
    {},
    settings,
  );
  fixtures.push(f);
  return f;
}

after(() => {
  const reasons = POLICY_REASONS.filter((reason) =>
    /^(ban|total|per_ip|per_network|connection_rate|x)/.test(reason),
  );
  assert.deepEqual(unseen(fixtures, reasons), [], 'every reply of these is seen');
});

/** The reply to XCLIENT from a new connection of the proxy. */
async function arrive(f: PolicyFixture, address: string): Promise<{ c: number; reply: string }> {
  const c = f.open(PROXY);
  return { c, reply: await f.talk(c, 'EHLO p.q', `XCLIENT ADDR=${address}`) };
}

const v1 = (source: string): string => `PROXY TCP4 ${source} 198.51.100.1 4000 25\r\n`;

function v2(source: number[], command = 0x21): Buffer {
  const header = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1');
  const fixed = Buffer.from([command, 0x11, 0, 12]);
  return Buffer.concat([header, fixed, Buffer.from([...source, 198, 51, 100, 1, 1, 2, 0, 25])]);
}

const connectionsOf = (accounts: Accounts, address: string): number =>
  accounts.of(accounts.accountOf(parseIp(address), false).client, 'connections');

test('PROXY: nothing is said before the header; then the client is the one in it', async () => {
  const f = fixture({}, { relay_networks: ['203.0.113.0/24'] });
  const c = f.open('192.0.2.251');
  assert.equal(f.reactor.sent[c], '');
  assert.equal(f.reactor.deadlineOf(c), 5000);
  assert.match(f.say(c, v1('203.0.113.9')), /^220 [^\r\n]*\r\n$/);
  const reply = await f.talk(c, 'EHLO a.b', MAIL, 'RCPT TO:<x@far.net>', 'DATA', 'x\r\n.');
  assert.match(reply, /^250 /, 'and may relay, as that address may');
  assert.equal(f.submitted[0]?.message.client.address, '203.0.113.9');
  assert.match(f.submitted[0]?.message.trace ?? '', /\[203\.0\.113\.9\]/);
  f.say(c, 'QUIT\r\n');
  assert.deepEqual(f.closedPeers, ['192.0.2.251'], 'the place of the peer is given back');
  assert.equal(f.memory.accounts.total('connections'), 0);
});

test('PROXY: version 2, LOCAL, split octets, commands in the same packet', async () => {
  const f = fixture({});
  const c = f.open('192.0.2.251');
  f.say(c, Buffer.concat([v2([203, 0, 113, 7]), Buffer.from(`EHLO a.b\r\n${MAIL}\r\n`)]));
  assert.match(f.reactor.sent[c] as string, /^220 .*\r\n250 2\.1\.0 Ok\r\n$/s);
  const split = f.open('192.0.2.251');
  for (const octet of v2([203, 0, 113, 7])) f.say(split, Buffer.from([octet]));
  assert.match(f.reactor.sent[split] as string, /^220 /);
  const local = f.open('192.0.2.251');
  assert.match(f.say(local, v2([1, 2, 3, 4], 0x20)), /^220 /);
  assert.deepEqual(
    f.server && connectionsOf(f.memory.accounts, '203.0.113.7'),
    2,
    'each of the client’s connections is counted, the proxy’s own is not',
  );
});

test('PROXY: from others it is no command, and from the listed ones nothing else is', () => {
  const f = fixture({});
  const other = f.open('192.0.2.7');
  assert.match(f.say(other, v1('203.0.113.9')), /^500 /);
  for (const bytes of [
    'EHLO a.b\r\n',
    'PROXY TCP4 1.2.3 4.5.6.7 1 2\r\n',
    'PROXY TCP4 1.2.3.4 4.5.6.7 1\n',
  ]) {
    const c = f.open('192.0.2.251');
    assert.equal(f.say(c, bytes), '', 'not a word');
    assert.equal(f.isClosed(c), true);
  }
  const silent = f.open('192.0.2.251');
  f.reactor.timeout(silent);
  assert.equal(f.isClosed(silent), true);
  assert.equal(f.reactor.sent[silent], '');
  const why = f.logged
    .filter(({ event }) => event === 'session.proxy_refused')
    .map(({ fields }) => fields.reason);
  assert.deepEqual(why, ['malformed', 'malformed', 'malformed', 'timeout']);
});

test('limits of open connections: all, per client, per network; IPv6 clients are their /64', async () => {
  const connections = {
    enabled: true,
    max_total: 5,
    max_per_ip: 1,
    max_per_network: 2,
    exempt: ['203.0.113.0/24'],
  };
  const f = fixture({ connections });
  const first = await arrive(f, '198.51.100.1');
  assert.match(first.reply, /^220 /);
  const second = await arrive(f, '198.51.100.1');
  assert.match(second.reply, /^421 4\.7\.0 .*too many connections from your address; /);
  assert.equal(f.isClosed(second.c), true);
  assert.match((await arrive(f, '198.51.100.2')).reply, /^220 /);
  assert.match((await arrive(f, '198.51.100.3')).reply, /^421 4\.7\.0 .*from your network; /);
  assert.match((await arrive(f, 'IPv6:2001:db8::1')).reply, /^220 /);
  assert.match((await arrive(f, 'IPv6:2001:db8::2')).reply, /^421 4\.7\.0 .*from your address; /);
  assert.match((await arrive(f, '203.0.113.1')).reply, /^220 /);
  assert.match((await arrive(f, '203.0.113.1')).reply, /^220 /, 'exempt');
  assert.match((await arrive(f, '192.0.2.77')).reply, /^421 4\.3\.2 .*as many connections as it takes; /);
  await f.talk(first.c, 'QUIT');
  assert.match((await arrive(f, '198.51.100.1')).reply, /^220 /, 'a place given back');
  for (const limit of ['max_total', 'max_per_ip', 'max_per_network']) {
    const none = { max_total: 0, max_per_ip: 0, max_per_network: 0 };
    const strict = fixture({ connections: { enabled: true, mode: 'reject', ...none, [limit]: 1 } });
    await arrive(strict, '198.51.100.1');
    assert.match((await arrive(strict, '198.51.100.1')).reply, /^554 5\.[37]\.[02] /);
  }
});

test('the rate of connections, and bans of operators, which hold for everybody', async () => {
  const limits = [{ count: 'connections', limit: 2, interval_ms: 10_000 }];
  for (const [mode, reply] of [
    ['defer', /^421 4\.7\.0 /],
    ['reject', /^554 5\.7\.0 /],
  ] as const) {
    const f = fixture({ rates: { enabled: true, mode, limits } });
    await arrive(f, '198.51.100.1');
    await arrive(f, '198.51.100.1');
    assert.match((await arrive(f, '198.51.100.1')).reply, reply);
    assert.match((await arrive(f, '198.51.100.2')).reply, /^220 /);
    f.nowMs += 5000;
    assert.match((await arrive(f, '198.51.100.1')).reply, /^220 /);
  }
  const tagged = fixture({
    rates: { enabled: true, mode: 'tag', limits: [{ count: 'connections', limit: 1 }] },
  });
  await arrive(tagged, '198.51.100.1');
  const { c } = await arrive(tagged, '198.51.100.1');
  await tagged.talk(c, 'EHLO a.b', MAIL, RCPT, 'DATA', 'x\r\n.');
  assert.match(tagged.submitted[0]?.message.trace ?? '', /^X-ProtoRelay-Policy: connection_rate \(/);
  const f = fixture({ bans: { exempt: ['198.51.100.0/24'] } });
  const ban = { kind: 'operator', sinceMs: f.nowMs, untilMs: f.nowMs + 60_000, times: 1 } as const;
  f.memory.bans.put({ ip: [0, 0, 0xffff, 0xc6336400], bits: 120 }, ban);
  assert.match((await arrive(f, '198.51.100.9')).reply, /^554 5\.7\.1 .*takes no mail from your address$/);
  const soft = fixture({ bans: { enabled: true, mode: 'defer' } });
  soft.memory.bans.put({ ip: [0, 0, 0xffff, 0xc6336409], bits: 128 }, { ...ban, kind: 'auth' });
  assert.match((await arrive(soft, '198.51.100.9')).reply, /^421 4\.7\.0 .*for a while$/);
});

test('XCLIENT: only listed clients may, it is offered to them, and attributes are checked', async () => {
  const f = fixture({});
  assert.match(await f.dialog('192.0.2.7', 'XCLIENT ADDR=1.2.3.4'), /^550 5\.7\.1 XCLIENT is not for you$/);
  assert.match(await f.dialog('192.0.2.7', 'XFORWARD ADDR=1.2.3.4'), /^550 5\.7\.1 XFORWARD is not for you$/);
  assert.doesNotMatch(await f.dialog('192.0.2.7'), /XCLIENT|XFORWARD/);
  assert.match(await f.dialog(PROXY), /250-XCLIENT NAME ADDR .*\r\n250 XFORWARD NAME ADDR/);
  for (const bad of [
    '',
    'ADDR',
    'COLOR=red',
    'ADDR=1.2.3',
    'PROTO=HTTP',
    'HELO=a(b)',
    'NAME=+0D+0A',
    'LOGIN=+zz',
  ])
    assert.match(await f.dialog(PROXY, `XCLIENT ${bad}`), /^501 5\.5\.4 Syntax: XCLIENT/, bad);
  assert.match(await f.dialog(PROXY, 'XFORWARD ADDR=x'), /^501 5\.5\.4 Syntax: XFORWARD/);
  assert.match(await f.dialog(PROXY, MAIL, 'XCLIENT ADDR=1.2.3.4'), /^503 5\.5\.1 XCLIENT/);
  assert.match(await f.dialog(PROXY, MAIL, 'XFORWARD ADDR=1.2.3.4'), /^503 5\.5\.1 XFORWARD/);
});

test('XCLIENT: behind a PROXY header the client needs to be listed, not the proxy', async () => {
  const f = fixture({ xclient_networks: ['192.0.2.251', '203.0.113.1'], xforward_networks: ['192.0.2.251'] });
  const others = f.open('192.0.2.251');
  f.say(others, v1('203.0.113.9'));
  assert.doesNotMatch(await f.talk(others, 'EHLO a.b'), /XCLIENT|XFORWARD/);
  assert.match(await f.talk(others, 'XCLIENT ADDR=10.0.0.1'), /^550 5\.7\.1 /);
  const listed = f.open('192.0.2.251');
  f.say(listed, v1('203.0.113.1'));
  assert.match(await f.talk(listed, 'EHLO a.b', 'XCLIENT ADDR=10.0.0.1'), /^220 /);
  assert.match(await f.talk(listed, 'EHLO a.b', 'XCLIENT ADDR=10.0.0.2'), /^220 /, 'and again for another');
});

test('XCLIENT: the session begins anew as that client’s; LOGIN counts per user', async () => {
  const limits = [{ count: 'messages', per: 'user', limit: 1 }];
  const f = fixture({ rates: { enabled: true, limits } }, { relay_networks: ['203.0.113.5', PROXY] });
  const c = f.open(PROXY);
  const told = 'XCLIENT ADDR=198.51.100.7 NAME=mail.there.net PROTO=SMTP HELO=x.y LOGIN=al+2Bice';
  assert.match(await f.talk(c, 'EHLO p.q', told), /^220 /);
  assert.match(await f.talk(c, MAIL), /^503 /, 'HELO first, again');
  assert.match(
    await f.talk(c, 'EHLO mail.there.net', MAIL, 'RCPT TO:<x@far.net>'),
    /^550 5\.7\.1 Relaying denied/,
  );
  await f.talk(c, 'RSET');
  assert.match(await f.talk(c, MAIL), /^450 4\.7\.0 Too many messages/);
  assert.deepEqual(f.hits(), ['message_rate defer: more than 1 messages in 60 s per user al+ice']);
  assert.match(await f.talk(c, 'XCLIENT ADDR=203.0.113.5 LOGIN=[UNAVAILABLE]'), /^220 /);
  assert.match(await f.talk(c, 'EHLO a.b', MAIL, 'RCPT TO:<x@far.net>'), /^250 2\.1\.5/);
  await f.talk(c, 'DATA', 'x\r\n.', 'QUIT');
  assert.equal(f.submitted[0]?.message.client.address, '203.0.113.5');
  assert.deepEqual(f.closedPeers, [PROXY]);
});

test('users who proved who they are can be exempt', async () => {
  const f = fixture({ sender_domain: { enabled: true, exempt: ['authenticated'] } });
  const c = f.open(PROXY);
  await f.talk(c, 'EHLO p.q', 'XCLIENT ADDR=198.51.100.7 LOGIN=alice');
  assert.equal(await f.talk(c, 'EHLO a.b', MAIL), '250 2.1.0 Ok');
  const d = f.open(PROXY);
  await f.talk(d, 'EHLO p.q', 'XCLIENT ADDR=198.51.100.7');
  assert.match(await f.talk(d, 'EHLO a.b', MAIL), /^550 5\.1\.8 /);
});

test('XFORWARD: the records name the client, the trace names the peer; for one message', async () => {
  const f = fixture({});
  const c = f.open(PROXY);
  assert.equal(await f.talk(c, 'EHLO p.q', 'XFORWARD ADDR=198.51.100.7 HELO=mail.there.net'), '250 2.0.0 Ok');
  await f.talk(c, 'XFORWARD IDENT=abc SOURCE=REMOTE');
  const send = [MAIL, RCPT, 'DATA', 'x\r\n.'];
  await f.talk(c, ...send, ...send);
  const [first, second] = f.submitted.map(({ message }) => message);
  assert.deepEqual([first?.client.address, first?.client.helo], ['198.51.100.7', 'mail.there.net']);
  assert.match(first?.trace ?? '', /from p\.q \(\[192\.0\.2\.250\]\)/);
  assert.deepEqual([second?.client.address, second?.client.helo], [PROXY, 'p.q']);
});

test('at accept: those to come by PROXY are not judged yet, refusals are logged within bounds', () => {
  const config = configOf({
    policy: {
      connections: { enabled: true, max_per_ip: 1 },
      proxy_protocol: { networks: ['192.0.2.251'] },
    },
  });
  const logged: LogLine[] = [];
  const memory = policyMemory(config);
  const gate = new ConnectionGate(config, memory, recordingLog(logged));
  for (let i = 0; i < 5; i++) assert.equal(gate.accept('192.0.2.251', 1000), null);
  assert.equal(gate.accept('unix', 1000), null);
  assert.equal(gate.accept('192.0.2.1', 1000), null);
  for (let i = 0; i < 100; i++) assert.equal(gate.accept('192.0.2.1', 1000)?.reason, 'per_ip_defer');
  assert.equal(logged.length, 20);
  assert.equal(gate.accept('192.0.2.1', 2000)?.code, 421);
  assert.deepEqual(logged[20], {
    level: 'info',
    event: 'log.left_out',
    fields: { of: 'policy.hit', lines: 80, kinds: { per_ip: 80 } },
  });
  gate.leave('192.0.2.251');
  gate.leave('192.0.2.1');
  assert.equal(gate.accept('192.0.2.1', 3000), null);
  assert.equal(memory.accounts.total('connections'), 1);
});

/** Version 2 with this command and family, and twelve octets of some address. */
const header2 = (command: number, family: number): Buffer => {
  const header = v2([192, 0, 2, 251], command);
  header[13] = family;
  return header;
};
const wide = Buffer.concat([header2(0x21, 0x31), Buffer.alloc(204)]);
wide.writeUInt16BE(216, 14);

test('a client that its proxy does not know has none of the proxy’s rights', async () => {
  const peer = '192.0.2.251';
  const settings = { relay_networks: ['192.0.2.0/24'], relay_domains: ['here.net'] };
  const policy = {
    proxy_protocol: { networks: [peer] },
    xclient_networks: ['192.0.2.0/24'],
    xforward_networks: ['192.0.2.0/24'],
    rates: {
      enabled: true,
      exempt: [peer, 'relay_networks'],
      limits: [{ count: 'messages', limit: 1, interval_ms: 60_000 }],
    },
    greylist: { enabled: true, exempt: [peer, 'relay_networks'] },
  };
  const proxied: Record<string, string | Buffer> = {
    'UNKNOWN of version 1': 'PROXY UNKNOWN\r\n',
    'UNKNOWN with addresses': `PROXY UNKNOWN ${peer} ${peer} 1 2\r\n`,
    LOCAL: header2(0x20, 0x11),
    'LOCAL, unspecified': header2(0x20, 0),
    'unspecified family': header2(0x21, 0),
    'a Unix socket': wide,
  };
  const unknown: [string, (f: PolicyFixture) => Promise<number>][] = [
    ...Object.entries(proxied).map(([name, header]): [string, (f: PolicyFixture) => Promise<number>] => [
      name,
      async (f) => {
        const c = f.open(peer);
        assert.match(f.say(c, header), /^220 /, name);
        return c;
      },
    ]),
    ...['[UNAVAILABLE]', '[TEMPUNAVAIL]', ''].map((word): [string, (f: PolicyFixture) => Promise<number>] => [
      `XCLIENT ADDR=${word}`,
      async (f) => {
        const c = f.open('192.0.2.9');
        assert.match(await f.talk(c, 'EHLO a.b', `XCLIENT ADDR=${word}`), /^220 /, word);
        return c;
      },
    ]),
  ];
  for (const [name, arriveUnknown] of unknown) {
    const f = fixture(policy, settings);
    const c = await arriveUnknown(f);
    const xclient = await f.talk(c, 'EHLO a.b', 'XCLIENT ADDR=192.0.2.77');
    if (!name.startsWith('XCLIENT')) assert.match(xclient, /^5/, `${name}: it speaks for nobody`);
    else continue;
    assert.equal(await f.talk(c, MAIL), '250 2.1.0 Ok', name);
    assert.equal(await f.talk(c, 'RCPT TO:<x@far.net>'), '550 5.7.1 Relaying denied', name);
    assert.match(await f.talk(c, RCPT), /^451 4\.7\.1 /, `${name}: greylisted`);
    assert.match(await f.talk(c, 'RSET', MAIL), /^45\d 4\.7\.\d /, `${name}: its like share the rate`);
    const next = await arriveUnknown(f);
    assert.match(await f.talk(next, 'EHLO a.b', MAIL), /^45\d 4\.7\.\d /, `${name}: also over connections`);
  }
  for (const [name, arriveUnknown] of unknown) {
    const f = fixture({ ...policy, rates: {}, greylist: {} }, settings);
    const c = await arriveUnknown(f);
    assert.equal(await f.talk(c, 'EHLO a.b', MAIL, 'RCPT TO:<x@far.net>'), '550 5.7.1 Relaying denied', name);
    assert.match(await f.talk(c, RCPT, 'DATA', 'x\r\n.'), /^250 /, name);
    assert.equal(f.submitted[0]?.message.client.address, 'unknown', name);
    assert.match(f.submitted[0]?.message.trace ?? '', /^Received: from a\.b \(unknown\)\r\n/, name);
  }
});

test('a mapped address is the address it maps, however a peer writes it', async () => {
  const f = fixture({}, { relay_networks: ['203.0.113.0/24'] });
  const mapped = f.open('192.0.2.251');
  f.say(mapped, 'PROXY TCP6 ::ffff:203.0.113.9 ::1 1 2\r\n');
  const told = await arrive(f, 'IPv6:::FFFF:203.0.113.9');
  for (const c of [mapped, told.c])
    assert.equal(await f.talk(c, 'EHLO a.b', MAIL, 'RCPT TO:<x@far.net>'), '250 2.1.5 Ok');
  assert.equal(connectionsOf(f.memory.accounts, '203.0.113.9'), 2);
});

test('what a peer got by AUTH is not for those it speaks for', async () => {
  const users = [{ username: 'u', password: 'secret' }];
  const f = fixture(
    {},
    {
      auth: { backends: [{ type: 'memory', users }], allow_without_tls: true },
      listeners: [{ host: '127.0.0.1', port: 25, auth: 'optional' }],
    },
  );
  const c = f.open(PROXY);
  const plain = Buffer.from('\0u\0secret').toString('base64');
  assert.match(await f.talk(c, 'EHLO a.b', `AUTH PLAIN ${plain}`), /^235 /);
  assert.match(await f.talk(c, 'XCLIENT HELO=other.net'), /^220 /);
  assert.equal(await f.talk(c, 'EHLO a.b', MAIL, 'RCPT TO:<x@far.net>'), '550 5.7.1 Relaying denied');
});
