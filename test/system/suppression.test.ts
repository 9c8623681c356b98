/** The suppression list of a relay of two processes: `protorelay suppression`, and what becomes of mail. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fate, isFinal } from '../support/fates.ts';
import { RelayFixture } from '../support/relay-fixture.ts';
import { ScriptedSink } from '../support/scripted-sink.ts';
import { Talk } from '../support/talk.ts';

let sink: ScriptedSink;
let relay: RelayFixture;

before(async () => {
  sink = await ScriptedSink.start({ keepContent: false });
  relay = await RelayFixture.start({
    accept_processes: 2,
    attributes: { trusted_networks: ['127.0.0.1/32'] },
    suppression: { filter_bits_per_entry: 32 },
    delivery: { smarthost: { host: '127.0.0.1', port: sink.port } },
  });
});

after(async () => {
  await relay?.destroy();
  await sink?.stop();
});

async function deposit(to: string | string[], parameters = {}): Promise<string> {
  const talk = await Talk.hello({ port: relay.port, host: '127.0.0.1' });
  const id = await talk.accepted({ from: 'news@shop.test', to, ...parameters });
  await talk.quit();
  return id;
}

async function command(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await relay.command('suppression', ...args);
  assert.equal(code, 0, `${args.join(' ')}: ${stdout}${stderr}`);
  return stdout;
}

const reached = (address: string): boolean =>
  sink.messages.some(({ recipients }) => recipients.some((one) => one.address === address));

test('who is on the list gets nothing, the others of a message get it; there is one event and no report', async () => {
  await command('add', 'Gone@One.test', 'two.test', '--detail', 'they asked');
  const id = await deposit(['gone@one.test', 'here@one.test', 'any@two.test', 'gone@three.test']);
  for (const to of ['gone@one.test', 'any@two.test']) {
    const event = await fate(relay.events, to, 'suppressed');
    assert.deepEqual([event.reason, event.status, event.queue_id], ['suppressed', '5.7.1', id]);
    assert.match(String(event.detail), / is suppressed: operator, operator, since /);
    assert.ok(!reached(to));
  }
  for (const to of ['here@one.test', 'gone@three.test']) await fate(relay.events, to, 'delivered');
  assert.match((await relay.queue('show', id)).stdout, /gone@one\.test.*suppressed/);
  // A report is made where the message asks for one.
  await deposit('GONE@one.test', { rcptParameters: ' NOTIFY=FAILURE' });
  await fate(relay.events, 'GONE@one.test', 'suppressed');
  await fate(relay.events, 'news@shop.test', 'delivered');
  assert.equal(relay.events.events.filter((event) => event.recipient === 'news@shop.test').length, 1);
});

test('a report goes to its sender, whatever list that is on', async () => {
  await command('add', 'lists@shop.test');
  await deposit('bounce-550@one.test', { from: 'lists@shop.test' });
  await fate(relay.events, 'lists@shop.test', 'delivered');
});

test('check, list, remove: as text and as JSON; what is not on the list is said', async () => {
  assert.match(
    await command('check', 'x@two.test'),
    /^two\.test {2}operator \(operator\) {2}since .*: they asked\n$/,
  );
  const { checked } = JSON.parse(await command('check', 'gone@ONE.test', 'here@one.test', '--json'));
  assert.deepEqual(
    checked.map((one: { address: string; suppressed: boolean }) => [one.address, one.suppressed]),
    [
      ['gone@one.test', true],
      ['here@one.test', false],
    ],
  );
  await command('remove', 'gone@one.test');
  await deposit('gone@one.test');
  await fate(relay.events, 'gone@one.test', 'delivered');
  const again = await relay.command('suppression', 'remove', 'gone@one.test');
  assert.deepEqual([again.code, again.stdout], [65, '']);
  assert.match(again.stderr, /gone@one\.test is not on the list/);
  const { suppressions } = JSON.parse(await command('list', '--json'));
  assert.deepEqual(
    suppressions.map((one: { address: string }) => one.address),
    ['two.test', 'lists@shop.test'],
  );
});

test('a host that knows no such user puts it on the list; one that blocks us, or defers, does not', async () => {
  const refused = async (to: string, reply: string): Promise<void> => {
    sink.options.faults = { rcpt: `=${reply}` };
    await deposit(to, { rcptParameters: ' NOTIFY=NEVER' });
    await fate(relay.events, to, 'bounced');
    sink.options.faults = {};
  };
  await refused('nobody@six.test', '550 5.1.1 <nobody@six.test>: Recipient address rejected: User unknown');
  await refused('spam@six.test', '550 5.7.1 Message rejected as spam');
  await deposit('Nobody@six.test');
  await deposit('spam@six.test');
  const { detail } = await fate(relay.events, 'Nobody@six.test', 'suppressed');
  assert.match(String(detail), /nobody@six\.test is suppressed: invalid_recipient, reply, since/);
  await fate(relay.events, 'spam@six.test', 'delivered');
  const checked = await command('check', 'nobody@six.test');
  assert.match(checked, /until it is removed: 550 5\.1\.1 <nobody@six\.test>/);

  // Exact when the relay is killed as soon as the fate is told.
  sink.options.faults = { rcpt: '=550 5.1.1 User unknown' };
  await deposit('killed@six.test', { rcptParameters: ' NOTIFY=NEVER' });
  await fate(relay.events, 'killed@six.test', 'bounced');
  await relay.kill();
  sink.options.faults = {};
  await relay.start();
  await deposit('killed@six.test');
  await fate(relay.events, 'killed@six.test', 'suppressed');
  await command('remove', 'nobody@six.test', 'killed@six.test');
});

test('an entry for a class or a list holds back only such mail, by campaign or List-Id', async () => {
  const to = 'some@eight.test';
  const said = await command('add', to, '--scope', 'bulk');
  assert.match(said, /^some@eight\.test {2}for bulk {2}operator/);
  await command('add', to, '--scope', 'list:Spring');
  await command('add', 'eight.test', '--scope', 'list:<News.Shop.test>');
  const sent = async (fields: string, type: string): Promise<void> => {
    const id = await deposit(to, { content: `${fields}Subject: x\r\n\r\nx\r\n` });
    const event = await relay.events.one(`fate of ${id}`, (one) => one.queue_id === id && isFinal(one));
    assert.equal(event.type, type, fields);
  };
  await sent('', 'delivered');
  await sent('X-ProtoRelay-Class: bulk\r\n', 'suppressed');
  await sent('X-ProtoRelay-Class: urgent\r\n', 'delivered');
  await sent('X-ProtoRelay-Campaign: SPRING\r\n', 'suppressed');
  await sent('X-ProtoRelay-Campaign: autumn\r\n', 'delivered');
  await sent('List-Id: The news\r\n <news.shop.test>\r\n', 'suppressed');
  await sent('List-Id: <other.shop.test>\r\n', 'delivered');
  const { checked } = JSON.parse(await command('check', to, '--json'));
  assert.equal(checked[0].suppressed, false, 'it gets other mail');
  assert.deepEqual(checked[0].entries.map((one: { scope: string }) => one.scope).sort(), [
    'bulk',
    'list:news.shop.test',
    'list:spring',
  ]);
  assert.match(await command('export'), /\r\nsome@eight\.test,,list:spring,operator,/);
  await command('remove', to, '--scope', 'bulk');
  await sent('X-ProtoRelay-Class: bulk\r\n', 'delivered');
  await command('remove', to, 'eight.test');
  await sent('X-ProtoRelay-Campaign: spring\r\n', 'delivered');
});

test('full mailboxes are counted over the processes, and a kill neither loses nor adds one', async () => {
  const to = 'full@nine.test';
  const isOn = async (): Promise<boolean> =>
    JSON.parse(await command('check', to, '--json')).checked[0].suppressed;
  sink.options.faults = { rcpt: '=552 5.2.2 Mailbox is full' };
  for (let message = 1; message <= 5; message++) {
    assert.equal(await isOn(), false);
    const id = await deposit(to, { rcptParameters: ' NOTIFY=NEVER' });
    await relay.events.one(`bounce of ${id}`, (one) => one.queue_id === id && one.type === 'bounced');
    if (message % 2 === 1) continue;
    await relay.kill();
    await relay.start();
  }
  assert.equal(await isOn(), true);
  sink.options.faults = {};
  await command('remove', to);
});

test('with at_rcpt refuse the client hears of it; who is not on the list, and reports, are taken', async () => {
  relay.configure({ suppression: { at_rcpt: 'refuse' } });
  await relay.reload();
  const talk = await Talk.hello({ port: relay.port, host: '127.0.0.1' });
  await talk.say('MAIL FROM:<news@shop.test>');
  assert.match(await talk.say('RCPT TO:<any@TWO.test>'), /^550 5\.7\.1 Recipient is on the suppression list/);
  assert.match(await talk.say('RCPT TO:<any@seven.test>'), /^250/);
  await talk.say('RSET');
  await talk.say('MAIL FROM:<>');
  assert.match(await talk.say('RCPT TO:<any@two.test>'), /^250/);
  await talk.quit();
  relay.configure({ suppression: { at_rcpt: 'accept' } });
  await relay.reload();
});

test('a file is imported beside the relay, and holds at once in both processes; what waits ends as suppressed', async () => {
  const held = Array.from({ length: 4 }, (_, i) => `defer-451+${i}@four.test`);
  for (const to of held) await deposit(to);
  for (const to of held) await fate(relay.events, to, 'deferred');
  const file = join(relay.dir, 'list.csv');
  const lines = Array.from({ length: 3000 }, (_, i) => `u${i}@many.test,unsubscribe,"said ""no"""`);
  writeFileSync(
    file,
    `Email,Reason,Detail\r\n${lines.join('\r\n')}\r\n${held.join('\r\n')}\r\nno address\r\n`,
  );
  const imported = await relay.command('suppression', 'import', file, '--json');
  assert.equal(imported.code, 65, imported.stderr);
  assert.match(imported.stderr, /line 3006: "no address" is no address, and no domain/);
  assert.deepEqual(JSON.parse(imported.stdout), { lines: 3005, added: 3004, changed: 0, refused: 1 });
  for (let i = 0; i < 6; i++) await deposit(`u${i}@many.test`);
  for (let i = 0; i < 6; i++) {
    const { detail } = await fate(relay.events, `u${i}@many.test`, 'suppressed');
    assert.match(String(detail), /unsubscribe, import/);
  }
  await relay.queue('flush', '--all', '--yes');
  for (const to of held) await fate(relay.events, to, 'suppressed');
});

test('the list outlives a restart, the filter with it; without that file the list holds all the same', async () => {
  await relay.stop();
  await command('add', 'stopped@five.test', '--for', '1d');
  const exported = await command('export', '--reason', 'unsubscribe');
  assert.equal(exported.split('\r\n').length, 3002);
  assert.match(exported, /^address,tenant,scope,reason,source,detail,created_at,ends_at\r\n/);
  assert.match(exported, /u1@many\.test,,all,unsubscribe,import,"said ""no""",20/);
  const choice = ['--reason', 'unsubscribe'];
  const { suppressions } = JSON.parse(await command('export', ...choice, '--json'));
  assert.equal(suppressions.length, 3000);
  const file = join(relay.dir, 'exported.csv');
  const written = JSON.parse(await command('export', file, ...choice, '--json'));
  assert.deepEqual(written, { file, entries: 3000 });
  assert.equal(readFileSync(file, 'utf8'), exported);
  assert.equal(await command('export', file, ...choice), '3000 entries\n');
  await relay.start();
  await deposit(['stopped@five.test', 'u7@many.test', 'free@five.test']);
  await fate(relay.events, 'stopped@five.test', 'suppressed');
  await fate(relay.events, 'u7@many.test', 'suppressed');
  await fate(relay.events, 'free@five.test', 'delivered');
  await relay.stop();
  writeFileSync(join(relay.dataDir, 'suppression.filter'), 'no filter');
  const made = relay.logLine('suppression.filter_made');
  await relay.start();
  await deposit('u8@many.test');
  await fate(relay.events, 'u8@many.test', 'suppressed');
  const { suppressed_entries, file_bytes } = await made;
  assert.ok(Number(suppressed_entries) > 3000);
  assert.equal(file_bytes, 65_536 * 4 + 16_384);
});
