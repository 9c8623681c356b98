/** SMTP extensions end to end: what the next hop offers decides what it gets. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { fate } from '../support/fates.ts';
import { RelayFixture } from '../support/relay-fixture.ts';
import { ScriptedSink, type SinkMessage } from '../support/scripted-sink.ts';
import { type Mail, Talk } from '../support/talk.ts';

const FULL = ['PIPELINING', 'SIZE 1000000', '8BITMIME', 'SMTPUTF8', 'DSN', 'CHUNKING', 'BINARYMIME'];

let rich: ScriptedSink;
let poor: ScriptedSink;
let relay: RelayFixture;

before(async () => {
  rich = await ScriptedSink.start({ capabilities: FULL });
  poor = await ScriptedSink.start({ capabilities: ['SIZE 5000'] });
  relay = await RelayFixture.start({
    delivery: {
      routes: {
        'rich.test': { host: '127.0.0.1', port: rich.port },
        'poor.test': { host: '127.0.0.1', port: poor.port },
        'sender.test': { host: '127.0.0.1', port: rich.port },
      },
    },
  });
});

after(async () => {
  await relay?.destroy();
  await Promise.all([rich?.stop(), poor?.stop()]);
});

async function submit(mail: Mail): Promise<void> {
  const talk = await Talk.hello({ port: relay.port, host: '127.0.0.1' });
  await talk.accepted({ from: 'a@sender.test', ...mail });
  await talk.quit();
}

async function at(sink: ScriptedSink, address: string): Promise<SinkMessage> {
  const found = (message: SinkMessage) => message.recipients.some((to) => to.address === address);
  await sink.until(() => sink.messages.some(found));
  return sink.messages.find(found) as SinkMessage;
}

test('DSN parameters are passed on to a next hop that offers DSN', { timeout: 60_000 }, async () => {
  await submit({
    to: 'dsn@rich.test',
    mailParameters: ' RET=FULL ENVID=ab+2Bcd',
    rcptParameters: ' NOTIFY=SUCCESS,DELAY ORCPT=rfc822;orig+3D@x.test',
  });
  const message = await at(rich, 'dsn@rich.test');
  assert.ok(
    message.fromParams.includes('RET=FULL') && message.fromParams.includes('ENVID=ab+2Bcd'),
    String(message.fromParams),
  );
  const params = String(message.recipients[0]?.params);
  assert.match(params, /ORCPT=rfc822;orig\+3D@x\.test/);
  assert.match(params, /NOTIFY=SUCCESS,DELAY/);
  await fate(relay.events, 'dsn@rich.test', 'delivered');
  const own = relay.events.events.filter(
    (event) => event.type === 'accepted' && event.client_address === 'internal',
  );
  assert.equal(own.length, 0, 'the duty was passed on: no DSN of our own');
});

test('8BITMIME content goes as it is to a peer that offers it', { timeout: 60_000 }, async () => {
  const content = 'Subject: 8bit\r\n\r\näöü\r\n';
  await submit({ to: '8bit@rich.test', mailParameters: ' BODY=8BITMIME', content });
  const message = await at(rich, '8bit@rich.test');
  assert.ok(message.fromParams.includes('BODY=8BITMIME'), String(message.fromParams));
  assert.ok(message.content.toString('utf8').endsWith(content));
});

test('SMTPUTF8 mail for a peer without SMTPUTF8 bounces with 5.6.7', { timeout: 60_000 }, async () => {
  await submit({ to: 'grün@poor.test', mailParameters: ' SMTPUTF8', content: 'Subject: ü\r\n\r\nx\r\n' });
  const bounced = await fate(relay.events, 'grün@poor.test', 'bounced');
  assert.equal(bounced.reason, 'needs_smtputf8');
  assert.equal(bounced.status, '5.6.7');
});

test('a message above the SIZE of the peer bounces without being sent', { timeout: 60_000 }, async () => {
  await submit({
    to: 'big@poor.test',
    content: `Subject: big\r\n\r\n${`${'x'.repeat(76)}\r\n`.repeat(100)}`,
  });
  const bounced = await fate(relay.events, 'big@poor.test', 'bounced');
  assert.equal(bounced.reason, 'message_too_big');
  assert.match(String(bounced.status), /^5\.(3\.4|2\.3)$/);
  assert.ok(!poor.commands.some((line) => line.includes('big@poor.test')));
});

test('CHUNKING in: BDAT chunks are joined byte for byte', { timeout: 60_000 }, async () => {
  const talk = await Talk.hello({ port: relay.port, host: '127.0.0.1' });
  await talk.say('MAIL FROM:<a@sender.test>');
  await talk.say('RCPT TO:<chunks@rich.test>');
  const content = 'Subject: chunks\r\n\r\n.\r\n..\r\n.x\r\nend without stuffing\r\n';
  const parts = [content.slice(0, 10), content.slice(10, 21), content.slice(21)];
  for (const [index, part] of parts.entries()) {
    talk.write(`BDAT ${part.length}${index === 2 ? ' LAST' : ''}\r\n${part}`);
    assert.match(await talk.reply(), /^250/);
  }
  await talk.quit();
  const message = await at(rich, 'chunks@rich.test');
  assert.ok(message.content.toString('latin1').endsWith(content), message.content.toString('latin1'));
});

test('BINARYMIME is passed on by BDAT, and bounces for a peer without it', { timeout: 60_000 }, async () => {
  const bytes = Buffer.concat([
    Buffer.from('Subject: bin\r\n\r\n'),
    Buffer.from([0, 13, 10, 46, 13, 10, 255, 13, 0, 10]),
  ]);
  const talk = await Talk.hello({ port: relay.port, host: '127.0.0.1' });
  await talk.say('MAIL FROM:<a@sender.test> BODY=BINARYMIME');
  await talk.say('RCPT TO:<bin@rich.test>');
  await talk.say('RCPT TO:<bin@poor.test>');
  talk.write(Buffer.concat([Buffer.from(`BDAT ${bytes.length} LAST\r\n`), bytes]));
  assert.match(await talk.reply(), /^250/);
  await talk.quit();
  const message = await at(rich, 'bin@rich.test');
  assert.equal(message.via, 'BDAT');
  assert.ok(message.content.subarray(-bytes.length).equals(bytes));
  const bounced = await fate(relay.events, 'bin@poor.test', 'bounced');
  assert.equal(bounced.reason, 'needs_binarymime');
});

test('content of 5 MB passes byte for byte, through the spill file', { timeout: 60_000 }, async () => {
  const lines = Array.from(
    { length: 66_000 },
    (_, index) => `${index % 7 === 0 ? '.' : ''}${index} ${'y'.repeat(70)}`,
  );
  const content = `Subject: big\r\n\r\n${lines.join('\r\n')}\r\n`;
  rich.options.capabilities = FULL.filter((line) => !line.startsWith('SIZE'));
  rich.dropAll();
  await submit({ to: 'spill@rich.test', content });
  const message = await at(rich, 'spill@rich.test');
  rich.options.capabilities = FULL;
  assert.ok(message.content.toString('latin1').endsWith(content), `${message.content.length} bytes arrived`);
});
