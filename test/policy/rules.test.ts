import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { POLICY_REASONS } from '../../src/protocol/policy-reply.ts';
import type { FakeNames } from './fake-dns.ts';
import { PolicyFixture, unseen } from './policy-fixture.ts';

const CLIENT = '192.0.2.7';
const MAIL = 'MAIL FROM:<a@there.net>';
const RCPT = 'RCPT TO:<b@here.net>';
const fixtures: PolicyFixture[] = [];

/** The policy with these parts switched on, for everybody. */
function policy(parts: Record<string, object>, names: FakeNames = {}, settings: object = {}): PolicyFixture {
  const whole = Object.fromEntries(
    Object.entries(parts).map(([name, part]) => [
      name,
      Array.isArray(part) ? part : { enabled: true, exempt: [], ...part },
    ]),
  );
  const f = new PolicyFixture(whole, names, settings);
  fixtures.push(f);
  return f;
}

after(() => {
  const elsewhere = /^(ban|total|per_ip|per_network|connection_rate|x)/; // clients.test.ts
  const reasons = POLICY_REASONS.filter((reason) => !elsewhere.test(reason));
  assert.deepEqual(unseen(fixtures, reasons), [], 'every reply of these rules is seen');
});

test('reverse_dns: a name that has the address again passes, others are deferred or rejected at MAIL', async () => {
  const names = {
    'PTR 7.2.0.192.in-addr.arpa': ['mail.there.net'],
    'A mail.there.net': ['192.0.2.7'],
    'PTR 8.2.0.192.in-addr.arpa': ['mail.there.net'],
    'PTR 9.2.0.192.in-addr.arpa': 'fail',
    'PTR 1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa': ['mail6.there.net'],
    'AAAA mail6.there.net': ['2001:db8:0::1'],
  } satisfies FakeNames;
  const f = policy({ reverse_dns: { mode: 'defer' } }, names);
  assert.equal(await f.dialog(CLIENT, MAIL), '250 2.1.0 Ok');
  assert.equal(await f.dialog('2001:db8::1', MAIL), '250 2.1.0 Ok');
  assert.match(await f.dialog('192.0.2.8', MAIL), /^450 4\.7\.25 .*not an address of mail\.there\.net/);
  assert.match(await f.dialog('192.0.2.6', MAIL), /^450 4\.7\.25 .*192\.0\.2\.6 has no name/);
  assert.equal(await f.dialog('192.0.2.9', MAIL), '250 2.1.0 Ok', 'DNS fails: open');
  assert.deepEqual(f.hits(), [
    'reverse_dns defer: 192.0.2.8 is not an address of mail.there.net',
    'reverse_dns defer: 192.0.2.6 has no name',
  ]);
  const closed = policy({ reverse_dns: { mode: 'reject', on_failure: 'closed', require: 'name' } }, names);
  assert.match(await closed.dialog('192.0.2.9', MAIL), /^451 4\.4\.3 The name of your address/);
  assert.match(await closed.dialog('192.0.2.6', MAIL), /^550 5\.7\.25 /);
  assert.equal(await closed.dialog('192.0.2.8', MAIL), '250 2.1.0 Ok', 'any name will do');
});

test('reverse_dns: the trace names the client as DNS confirms it, and nothing that DNS only claims', async () => {
  const names = {
    'PTR 7.2.0.192.in-addr.arpa': ['other.there.net', 'Mail.There.net.'],
    'A other.there.net': ['192.0.2.1'],
    'A mail.there.net': ['192.0.2.7'],
    'PTR 8.2.0.192.in-addr.arpa': ['mail.there.net'],
    'PTR 9.2.0.192.in-addr.arpa': ['x (evil) [192.0.2.1]\r\n\tby me'],
    'A x (evil) [192.0.2.1]\r\n\tby me': ['192.0.2.9'],
  } satisfies FakeNames;
  const trace = async (rules: object, address: string, ...before: string[]): Promise<string> => {
    const f = policy({ reverse_dns: { mode: 'log', ...rules }, xclient_networks: ['192.0.2.7'] }, names);
    await f.dialog(address, ...before, MAIL, RCPT, 'DATA', 'x\r\n.');
    return f.submitted[0]?.message.trace.split('\r\n')[0] ?? assert.fail('no message');
  };
  assert.equal(await trace({}, CLIENT), 'Received: from mail.there.net (mail.there.net [192.0.2.7])');
  assert.equal(await trace({}, '192.0.2.8'), 'Received: from mail.there.net ([192.0.2.8])');
  assert.equal(await trace({}, '192.0.2.9'), 'Received: from mail.there.net ([192.0.2.9])');
  assert.match(await trace({ require: 'name' }, CLIENT), /\(\[192\.0\.2\.7\]\)/, 'nobody asked further');
  assert.match(await trace({ enabled: false }, CLIENT), /\(\[192\.0\.2\.7\]\)/);
  const moved = await trace({}, CLIENT, 'XCLIENT ADDR=192.0.2.8', 'EHLO mail.there.net');
  assert.equal(moved, 'Received: from mail.there.net ([192.0.2.8])', 'the name was the proxy’s');
});

test('answers are cached: a second session asks nothing and waits for nothing', async () => {
  const f = policy(
    { reverse_dns: {}, dnsbl: { zones: [{ zone: 'bl.test' }] } },
    {
      'PTR 7.2.0.192.in-addr.arpa': ['mail.there.net'],
      'A mail.there.net': ['192.0.2.7'],
    },
  );
  await f.dialog(CLIENT, MAIL);
  const asked = f.asked.length;
  assert.ok(asked > 2);
  const second = f.open(CLIENT);
  assert.match(
    f.say(second, `EHLO mail.there.net\r\n${MAIL}\r\n`),
    /\r\n250 2\.1\.0 Ok\r\n$/,
    'in the same turn',
  );
  assert.equal(f.asked.length, asked);
});

test('dnsbl: scores of several zones, answers that count, allow lists, IPv6, sender domains', async () => {
  const zones = [
    { zone: 'bad.test', score: 2, answers: ['127.0.0.2', '127.0.0.4-127.0.0.7', '127.0.1.0/24'] },
    { zone: 'meh.test', score: 1 },
    { zone: 'good.test', score: -5 },
    { zone: 'dom.test', score: 3, lists: ['sender_domain'] },
  ];
  const f = policy(
    { dnsbl: { zones, threshold: 2, mode: 'reject' } },
    {
      'A 7.2.0.192.bad.test': ['127.0.0.5'],
      'A 8.2.0.192.bad.test': ['127.0.0.9'],
      'A 9.2.0.192.meh.test': ['127.0.0.2'],
      'A 10.2.0.192.bad.test': ['127.0.1.77'],
      'A 10.2.0.192.good.test': ['127.0.5.1'],
      'A 11.2.0.192.meh.test': ['127.255.255.254'],
      'A 11.2.0.192.bad.test': ['192.0.2.1'],
      'A 1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.bad.test': ['127.0.0.2'],
      'A evil.org.dom.test': ['127.0.0.2'],
    },
  );
  assert.match(
    await f.dialog(CLIENT, MAIL),
    /^550 5\.7\.1 You or your sender are listed: bad\.test 127\.0\.0\.5, score 2$/,
  );
  assert.equal(await f.dialog('192.0.2.8', MAIL), '250 2.1.0 Ok', 'an answer that does not count');
  assert.equal(await f.dialog('192.0.2.9', MAIL), '250 2.1.0 Ok', 'below the threshold');
  assert.equal(await f.dialog('192.0.2.10', MAIL), '250 2.1.0 Ok', 'a good list outweighs it');
  assert.equal(await f.dialog('192.0.2.11', MAIL), '250 2.1.0 Ok', 'errors of lists are none');
  assert.match(await f.dialog('2001:db8::1', MAIL), /^550 5\.7\.1 /);
  assert.match(await f.dialog('192.0.2.99', 'MAIL FROM:<x@evil.org>'), /^550 5\.7\.1 .*dom\.test/);
  assert.equal(await f.dialog('192.0.2.99', 'MAIL FROM:<>'), '250 2.1.0 Ok');
});

test('dnsbl: what a list says when it refuses us is no listing, and is said loudly', async () => {
  const listed = [
    '127.0.0.2',
    '127.0.0.11',
    '127.0.0.254',
    '127.0.1.2',
    '127.0.1.106',
    '127.0.4.0',
    '127.0.255.254',
  ];
  const refusals = [
    '127.0.0.1',
    '127.0.0.255',
    '127.0.1.255',
    '127.255.255.252',
    '127.255.255.255',
    '192.0.2.1',
    '10.0.0.2',
  ];
  const nothing = ['127.0.0.0', '127.1.0.2'];
  const answering = (answer: string, zone: object = {}, more: object = {}): PolicyFixture =>
    policy(
      { dnsbl: { zones: [{ zone: 'bl.test', ...zone }], mode: 'reject', ...more } },
      { 'A 7.2.0.192.bl.test': [answer] },
    );
  const warned = (f: PolicyFixture): unknown[] =>
    f.logged.filter(({ event }) => event === 'policy.dnsbl_refuses').map(({ fields }) => fields.answer);
  for (const answer of [...listed, ...refusals, ...nothing]) {
    const isListed = listed.includes(answer);
    const isRefusal = refusals.includes(answer);
    const f = answering(answer);
    const reply = await f.dialog('192.0.2.7', MAIL);
    assert.match(reply, isListed ? /^550 5\.7\.1 / : /^250 /, answer);
    await f.dialog('192.0.2.7', MAIL);
    assert.deepEqual(warned(f), isRefusal ? [answer] : [], 'once');
    const closed = answering(answer, {}, { on_failure: 'closed' });
    const then = await closed.dialog('192.0.2.7', MAIL);
    assert.match(then, isListed ? /^550 / : isRefusal ? /^451 / : /^250 /, `${answer}, as no answer`);
    // All of them, as some wrote it before: what refuses still does.
    const all = answering(answer, { answers: ['127.0.0.0/8'] });
    assert.match(await all.dialog('192.0.2.7', MAIL), isRefusal ? /^250 / : /^550 /, answer);
  }
  const named = ['127.0.0.1', '127.0.0.1-127.0.0.4', '127.0.0.0-127.0.0.1'];
  for (const entry of named)
    assert.match(
      await answering('127.0.0.1', { answers: [entry] }).dialog('192.0.2.7', MAIL),
      /^550 /,
      entry,
    );
  const errors = { answers: ['127.255.255.0/24'] };
  assert.match(await answering('127.255.255.254', errors).dialog('192.0.2.7', MAIL), /^550 /);
});

test('dnsbl: a list that does not answer in time is open or closed, and the refusal can be temporary', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const names: FakeNames = { 'A 7.2.0.192.bl.test': null, 'A 8.2.0.192.bl.test': ['127.0.0.2'] };
  const zones = [{ zone: 'bl.test' }];
  const cases = [
    ['open', '250 2.1.0 Ok'],
    ['closed', '451 4.4.3 Lists of senders do not answer now; try again later'],
  ] as const;
  for (const [on_failure, reply] of cases) {
    const f = policy({ dnsbl: { zones, on_failure, timeout_ms: 700, mode: 'defer' } }, names);
    const c = f.open(CLIENT);
    assert.equal(await f.talk(c, 'EHLO x.there.net', MAIL), '', 'waits');
    assert.equal(f.say(c, 'NOOP\r\n'), '', 'and so does what comes behind');
    t.mock.timers.tick(700);
    await f.settled();
    assert.match(f.reactor.sent[c] as string, new RegExp(`\r\n${reply}\r\n250 2\\.0\\.0 Ok\r\n$`));
    assert.match(await f.dialog('192.0.2.8', MAIL), /^450 4\.7\.1 /);
  }
});

test('helo: syntax, literals, our own name, DNS', async () => {
  const checks = ['syntax', 'literal', 'own_name', 'resolves', 'matches'];
  const f = policy(
    { helo: { mode: 'reject', checks } },
    {
      'MX mail.there.net': [],
      'A mail.there.net': ['192.0.2.7'],
      'A elsewhere.net': ['192.0.2.99'],
      'A broken.net': 'fail',
    },
  );
  const say = async (name: string): Promise<string> => {
    const c = f.open(CLIENT);
    return f.talk(c, `EHLO ${name}`, MAIL);
  };
  assert.equal(await say('mail.there.net'), '250 2.1.0 Ok');
  assert.equal(await say('[192.0.2.7]'), '250 2.1.0 Ok');
  assert.match(await say('[192.0.2.8]'), /^550 5\.7\.1 The name you gave .*not your address/);
  assert.match(await say('localhost'), /^550 .*no full host name/);
  assert.match(await say('192.0.2.7'), /^550 .*no full host name/);
  assert.match(await say('Relay.Example.Test'), /^550 .*is our name/);
  assert.match(await say('elsewhere.net'), /^550 .*has another address/);
  assert.match(await say('nowhere.net'), /^550 .*has another address/);
  const closed = policy(
    { helo: { mode: 'defer', checks: ['resolves'], on_failure: 'closed' } },
    { 'MX broken.net': 'fail' },
  );
  assert.match(
    await closed.talk(closed.open(CLIENT), 'EHLO broken.net', MAIL),
    /^451 4\.4\.3 The name you gave/,
  );
  assert.match(
    await closed.talk(closed.open(CLIENT), 'EHLO nowhere.net', MAIL),
    /^450 4\.7\.1 .*is not in DNS/,
  );
});

test('sender_domain: MX or address, null MX, temporary failures', async () => {
  const names: FakeNames = {
    'MX there.net': ['mx.there.net'],
    'AAAA v6.net': ['2001:db8::5'],
    'MX null.net': [''],
    'MX broken.net': 'fail',
  };
  const f = policy({ sender_domain: { mode: 'reject' } }, names);
  const from = (domain: string): Promise<string> => f.dialog(CLIENT, `MAIL FROM:<a@${domain}>`);
  assert.equal(await from('there.net'), '250 2.1.0 Ok');
  assert.equal(await from('v6.net'), '250 2.1.0 Ok');
  assert.equal(await from('broken.net'), '250 2.1.0 Ok');
  assert.equal(await f.dialog(CLIENT, 'MAIL FROM:<>'), '250 2.1.0 Ok');
  assert.match(await from('null.net'), /^550 5\.1\.8 .*null\.net has a null MX$/);
  assert.match(await from('nowhere.net'), /^550 5\.1\.8 .*nowhere\.net is not in DNS$/);
  const closed = policy({ sender_domain: { mode: 'defer', on_failure: 'closed' } }, names);
  assert.match(
    await closed.dialog(CLIENT, 'MAIL FROM:<a@broken.net>'),
    /^451 4\.4\.3 The domain of the sender/,
  );
  assert.match(await closed.dialog(CLIENT, 'MAIL FROM:<a@nowhere.net>'), /^450 4\.1\.8 /);
});

test('address_validation: stages in their order, for senders and recipients', async () => {
  const stages = ['basic', 'extended', 'dns_mx'];
  const names: FakeNames = {
    'MX there.net': ['mx.there.net'],
    'MX here.net': ['mx.here.net'],
    'MX broken.net': 'fail',
  };
  const f = policy({ address_validation: { mode: 'reject', stages } }, names);
  const from = (address: string): Promise<string> => f.dialog(CLIENT, `MAIL FROM:<${address}>`);
  assert.equal(await from('a+b=c@there.net'), '250 2.1.0 Ok');
  assert.match(await from('a@nodot'), /^550 5\.1\.7 .*\(basic\)$/);
  assert.match(await from('a@sub.example.com'), /^550 5\.1\.7 .*reserved \(extended\)$/);
  assert.match(await from('a@host.123'), /^550 5\.1\.7 .*top-level domain \(extended\)$/);
  assert.match(await from('a@[192.0.2.7]'), /^550 5\.1\.7 .*literal \(extended\)$/);
  assert.match(await from('"a b"@there.net'), /^550 5\.1\.7 .*local part \(extended\)$/);
  assert.match(await from('a@nowhere.net'), /^550 5\.1\.7 .*\(dns_mx\)$/);
  assert.equal(await f.dialog(CLIENT, MAIL, RCPT), '250 2.1.5 Ok');
  assert.match(await f.dialog(CLIENT, MAIL, 'RCPT TO:<"x y"@here.net>'), /^550 5\.1\.3 .*\(extended\)$/);
  assert.match(await f.dialog(CLIENT, MAIL, 'RCPT TO:<postmaster>'), /^550 5\.7\.1 /);
  const other = policy(
    {
      address_validation: {
        mode: 'defer',
        stages: ['dns_mx'],
        applies_to: ['recipient'],
        on_failure: 'closed',
      },
    },
    names,
    { relay_domains: ['here.net', 'broken.net', 'gone.net'] },
  );
  assert.equal(
    await other.dialog(CLIENT, 'MAIL FROM:<a@nowhere.net>'),
    '250 2.1.0 Ok',
    'senders are not looked at',
  );
  assert.match(await other.dialog(CLIENT, MAIL, 'RCPT TO:<x@broken.net>'), /^451 4\.4\.3 /);
  assert.match(await other.dialog(CLIENT, MAIL, 'RCPT TO:<x@gone.net>'), /^450 4\.1\.3 /);
  const both = policy({ address_validation: { mode: 'defer', stages: ['basic'] } });
  assert.match(await both.dialog(CLIENT, 'MAIL FROM:<a@nodot>'), /^450 4\.1\.7 /);
});

test('greylist: refused at first, taken after the delay, known afterwards; clients become known', async () => {
  const greylist = { delay_ms: 300_000, retry_window_ms: 3_600_000, keep_ms: 86_400_000, client_passes: 2 };
  const f = policy({ greylist });
  const to = (name: string): Promise<string> => f.dialog(CLIENT, MAIL, `RCPT TO:<${name}@here.net>`);
  const minutes = (n: number): number => (f.nowMs += n * 60_000);
  assert.match(await to('b'), /^451 4\.7\.1 Greylisted: try again in 300 s$/);
  minutes(2);
  assert.match(await to('b'), /^451 4\.7\.1 Greylisted: try again in 180 s$/);
  minutes(3);
  assert.equal(await to('B'), '250 2.1.5 Ok', 'case does not matter');
  minutes(60 * 20);
  assert.equal(await to('b'), '250 2.1.5 Ok', 'kept since it was seen last');
  assert.match(await to('c'), /^451 /, 'one pass is not enough to be known');
  minutes(61);
  assert.match(await to('c'), /^451 .*300 s$/, 'came back too late');
  minutes(5);
  assert.equal(await to('c'), '250 2.1.5 Ok');
  assert.equal(await to('new'), '250 2.1.5 Ok', 'the client is known now');
  assert.equal(await f.dialog('192.0.2.200', MAIL, RCPT), '250 2.1.5 Ok', 'with its neighbours');
  assert.match(await f.dialog('198.51.100.1', MAIL, RCPT), /^451 /);
  minutes(60 * 25);
  assert.match(await to('other'), /^451 /, 'and forgotten after keep_ms');
  const rejects = policy({ greylist: { mode: 'reject' } });
  assert.match(await rejects.dialog(CLIENT, MAIL, RCPT), /^550 5\.7\.1 Greylisted/);
});

test('greylist: whichever way an address is spelt, it is the one that came before', async () => {
  const f = policy({ greylist: { delay_ms: 300_000 } });
  const send = (from: string, to: string): Promise<string> =>
    f.dialog(CLIENT, `MAIL FROM:<${from}>`, `RCPT TO:<${to}>`);
  assert.match(await send('a@there.net', 'b.c@here.net'), /^451 /);
  f.nowMs += 300_000;
  for (const [from, to] of [
    ['a@There.NET.', 'b.c@here.net'],
    ['a@there.net', 'B.C@HERE.net.'],
    ['"a"@there.net', '"b.\\c"@here.net'],
  ] as const)
    assert.equal(await send(from, to), '250 2.1.5 Ok', `${from} ${to}`);
  assert.match(await send('a@there.net', 'bc@here.net'), /^451 /);
  assert.match(await send('', 'b.c@here.net'), /^451 /);
});

test('rates: messages, recipients and commands, per client, network, user and sender domain', async () => {
  const limits = [
    { count: 'messages', per: 'ip', limit: 2, interval_ms: 60_000 },
    { count: 'messages', per: 'network', limit: 3, interval_ms: 60_000 },
    { count: 'recipients', per: 'sender_domain', limit: 2, interval_ms: 10_000, burst: 3 },
  ];
  const f = policy({ rates: { limits } });
  const mail = (address: string): Promise<string> => f.dialog(address, MAIL);
  assert.equal(await mail(CLIENT), '250 2.1.0 Ok');
  assert.equal(await mail(CLIENT), '250 2.1.0 Ok');
  assert.match(await mail(CLIENT), /^450 4\.7\.0 Too many messages in this time; try again in 30 s$/);
  assert.equal(await mail('192.0.2.8'), '250 2.1.0 Ok');
  assert.match(await mail('192.0.2.9'), /^450 4\.7\.0 /, 'the network has used its three');
  f.nowMs += 30_000;
  assert.equal(await mail(CLIENT), '250 2.1.0 Ok');
  const rcpts = [RCPT, RCPT, RCPT, RCPT];
  assert.match(
    await f.dialog('198.51.100.1', 'MAIL FROM:<x@one.net>', ...rcpts),
    /^450 4\.7\.0 Too many recipients .* 5 s$/,
  );
  assert.equal(await f.dialog('198.51.100.1', 'MAIL FROM:<x@two.net>', RCPT), '250 2.1.5 Ok');
  const strict = policy({
    rates: {
      mode: 'reject',
      limits: [
        { count: 'messages', per: 'all', limit: 1 },
        { count: 'recipients', limit: 1 },
        { count: 'commands', per: 'ip', limit: 4 },
      ],
    },
  });
  assert.match(await strict.dialog(CLIENT, MAIL, RCPT, RCPT), /^550 5\.7\.0 Too many recipients/);
  assert.match(await strict.dialog('198.51.100.1', MAIL), /^550 5\.7\.0 Too many messages/);
  const c = strict.open('198.51.100.9');
  assert.match(
    await strict.talk(c, ...Array(5).fill('NOOP')),
    /^554 5\.7\.0 .* too many commands in this time$/,
  );
  assert.equal(strict.isClosed(c), true);
  const soft = policy({ rates: { limits: [{ count: 'commands', limit: 1 }] } });
  assert.match(await soft.talk(soft.open(CLIENT), 'NOOP', 'NOOP'), /^421 4\.7\.0 .*too many commands/);
});

test('modes: log says so, tag adds a header field above Received, both let pass', async () => {
  const zones = [{ zone: 'bl.test' }];
  const names: FakeNames = { 'A 7.2.0.192.bl.test': ['127.0.0.2'] };
  const send = [MAIL, RCPT, 'DATA', 'Subject: x\r\n\r\nx\r\n.'];
  const log = policy({ dnsbl: { mode: 'log', zones } }, names);
  assert.match(await log.dialog(CLIENT, ...send), /^250 2\.0\.0 Ok: queued/);
  assert.deepEqual(log.hits(), ['dnsbl log: bl.test 127.0.0.2, score 1']);
  assert.match(log.submitted[0]?.message.trace ?? '', /^Received: /);
  const tag = policy({ dnsbl: { mode: 'tag', zones }, helo: { mode: 'tag', checks: ['syntax'] } }, names);
  const c = tag.open(CLIENT);
  await tag.talk(c, 'EHLO nodot', ...send, ...send);
  const trace =
    /^X-ProtoRelay-Policy: helo \(nodot is no full host name\);\r\n\tdnsbl \(bl\.test 127\.0\.0\.2, score 1\)\r\nReceived: /;
  assert.match(tag.submitted[0]?.message.trace ?? '', trace);
  assert.match(tag.submitted[1]?.message.trace ?? '', trace);
  assert.equal(tag.hits().length, 2, 'the second message told nothing new');
  const named = new PolicyFixture({ tag_header: 'X-Seen', helo: { enabled: true, mode: 'tag' } });
  await named.talk(named.open(CLIENT), 'EHLO nodot', ...send);
  assert.match(named.submitted[0]?.message.trace ?? '', /^X-Seen: helo /);
});

test('exemptions: networks, relay_networks, sender domains', async () => {
  const f = policy({
    sender_domain: { exempt: ['192.0.2.0/24', 'relay_networks', 'good.net', '.better.net'] },
  });
  const from = (address: string, domain: string): Promise<string> =>
    f.dialog(address, `MAIL FROM:<a@${domain}>`);
  assert.equal(await from(CLIENT, 'nowhere.net'), '250 2.1.0 Ok');
  assert.equal(await from('10.1.2.3', 'nowhere.net'), '250 2.1.0 Ok');
  assert.equal(await from('198.51.100.1', 'good.net'), '250 2.1.0 Ok');
  assert.equal(await from('198.51.100.1', 'much.better.net'), '250 2.1.0 Ok');
  assert.match(await from('198.51.100.1', 'nowhere.net'), /^550 /);
  assert.match(await from('198.51.100.1', 'not-good.net'), /^550 /);
});

test('early talkers: those who wait are greeted, those who do not are turned away', async () => {
  const f = policy({ early_talker: { greet_delay_ms: 1500 } });
  const patient = f.open(CLIENT);
  assert.equal(f.reactor.sent[patient], '');
  assert.equal(f.reactor.deadlineOf(patient), 1500);
  f.reactor.timeout(patient);
  assert.match(f.reactor.sent[patient] as string, /^220 /);
  assert.match(await f.talk(patient, 'EHLO a.b'), /^250-/);
  const early = f.open(CLIENT);
  assert.match(f.say(early, 'EHLO a.b\r\nMAIL FROM:<a@b.net>\r\n'), /^554 5\.5\.1 [^\r\n]*\r\n$/);
  assert.equal(f.isClosed(early), true);
  const half = f.open(CLIENT);
  assert.equal(f.say(half, 'EHLO a.'), '', 'not a line yet');
  f.reactor.timeout(half);
  assert.match(f.reactor.sent[half] as string, /^554 5\.5\.1 /);
  const defer = policy({ early_talker: { mode: 'defer' } });
  assert.match(defer.say(defer.open(CLIENT), 'QUIT\r\n'), /^421 4\.5\.1 /);
  const tag = policy({ early_talker: { mode: 'tag' } });
  const c = tag.open(CLIENT);
  assert.equal(tag.say(c, `EHLO a.b\r\n${MAIL}\r\n${RCPT}\r\nDATA\r\n`), '', 'nothing before the banner');
  tag.reactor.timeout(c);
  assert.match(tag.reactor.sent[c] as string, /^220 .*\r\n250 2\.1\.5 Ok\r\n354 [^\r\n]*\r\n$/s);
  assert.match(tag.say(c, 'x\r\n.\r\n'), /^250 /);
  assert.match(
    tag.submitted[0]?.message.trace ?? '',
    /^X-ProtoRelay-Policy: early_talker \(before the banner\)\r\n/,
  );
});

test('tarpit: each error makes the client wait longer, until the session ends', async () => {
  const tarpit = { mode: 'defer', after_errors: 1, delay_ms: 1000, max_delay_ms: 3000 };
  const f = policy({ tarpit });
  const c = f.open(CLIENT);
  assert.match(f.say(c, 'BAD\r\n'), /^500 /);
  assert.match(f.say(c, 'BAD\r\nNOOP\r\n'), /^500 [^\r\n]*\r\n$/, 'the next command waits');
  assert.equal(f.reactor.deadlineOf(c), 1000);
  const before = (f.reactor.sent[c] as string).length;
  f.reactor.timeout(c);
  assert.equal((f.reactor.sent[c] as string).slice(before), '250 2.0.0 Ok\r\n');
  f.say(c, 'BAD\r\n');
  assert.equal(f.reactor.deadlineOf(c), 2000);
  f.reactor.timeout(c);
  assert.match(f.say(c, 'BAD\r\n'), /^500 .*\r\n421 4\.7\.0 .*errors again and again\r\n$/);
  assert.equal(f.isClosed(c), true);
  const log = policy({ tarpit: { ...tarpit, mode: 'log' } });
  const d = log.open(CLIENT);
  assert.match(log.say(d, 'BAD\r\n'.repeat(6)), /^(500 [^\r\n]*\r\n){6}$/);
  assert.equal(log.hits()[0], 'tarpit log: 2 errors');
  const reject = policy({ tarpit: { ...tarpit, mode: 'reject', after_errors: 0, max_delay_ms: 1000 } });
  assert.match(reject.say(reject.open(CLIENT), 'BAD\r\n'), /\r\n554 5\.7\.0 .*errors again/);
});

test('bans: failures of a client add up, and it is told at MAIL and at its next connection', async () => {
  const bans = {
    max_failures: { protocol: 3, unknown_user: 1 },
    duration_ms: 60_000,
    growth: 10,
    mode: 'defer',
  };
  const f = policy({ bans, xclient_networks: ['192.0.2.250'] });
  const c = f.open(CLIENT);
  await f.talk(c, 'EHLO a.b', 'BAD', 'BAD', 'BAD');
  assert.equal(await f.talk(c, MAIL), '250 2.1.0 Ok', 'three are forgiven');
  await f.talk(c, 'RSET', 'BAD');
  assert.match(await f.talk(c, MAIL), /^421 4\.7\.0 .* takes no mail from your address for a while$/);
  const [ban] = f.memory.bans.list(f.nowMs);
  assert.deepEqual([ban?.network, ban?.kind, ban?.times], [CLIENT, 'protocol', 1]);
  f.nowMs += 61_000;
  const spammer = f.open('198.51.100.4');
  await f.talk(spammer, 'EHLO a.b', MAIL, 'RCPT TO:<x@far.net>', 'RCPT TO:<y@far.net>');
  assert.equal(f.memory.bans.find([0, 0, 0xffff, 0xc6336404], f.nowMs)?.kind, 'unknown_user');
  assert.equal(await f.dialog(CLIENT, MAIL), '250 2.1.0 Ok', 'the ban is over');
  const proxy = f.open('192.0.2.250');
  assert.match(await f.talk(proxy, 'EHLO p.q', 'XCLIENT ADDR=198.51.100.4'), /^421 4\.7\.0 .*for a while$/);
  const strict = policy({ bans: { ...bans, max_failures: { protocol: 1 }, mode: 'reject' } });
  assert.match(
    await strict.dialog(CLIENT, 'BAD', 'BAD', MAIL),
    /^554 5\.7\.1 .* takes no mail from your address$/,
  );
});
