/** Each form of a reply at each command has one stated reading: the tables below are those of docs/delivery.md. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fates, startSender, startSink } from './harness.ts';
import { Peer } from './peer.ts';

/** What a form is read as; '' passes: it is no reply, and one is still awaited. */
type Class = '2' | '3' | '4' | '5' | 'malformed' | '';

const FORMS: [lines: string[], read: Class][] = [
  [['250 ok'], '2'],
  [['250'], '2'],
  [['250 '], '2'],
  [['250OK'], '2'],
  [['250\tok'], '2'],
  [['250_ok'], '2'],
  [['250: ok'], '2'],
  [['250.'], '2'],
  [['250 \0\x1b[31mok'], '2'],
  [['250 2.0.0'], '2'],
  [['250 5.0.0 odd'], '2'],
  [['200 id'], '2'],
  [['221 ok'], '2'],
  [['299 ok'], '2'],
  [['250-ok', '200 id'], '2'],
  [['250-ok', '250'], '2'],
  [['250-', '250-', '250OK'], '2'],
  [['550-no', '250 yes after all'], '2'],
  [['250-ok', 'a line without its code', '250 id'], '2'],
  [['a line before it', '250 ok'], '2'],
  [[...Array<string>(300).fill('250-more'), '250 ok'], '2'],
  [[...Array<string>(100).fill(`250-${'x'.repeat(1000)}`), '250 ok'], '2'],
  [['354 go'], '3'],
  [['300'], '3'],
  [['399\tgo'], '3'],
  [['450 later'], '4'],
  [['450'], '4'],
  [['499NO'], '4'],
  [['550-no', '450 later'], '4'],
  [['250-ok', '451 later'], '4'],
  [['550 no'], '5'],
  [['599'], '5'],
  [['550\tno'], '5'],
  [['550-no', 'because', '550 so'], '5'],
  [['450-later', '550 no'], '5'],
  [['250-ok', '554 no'], '5'],
  [['000 x'], 'malformed'],
  [['150 wait'], 'malformed'],
  [['199'], 'malformed'],
  [['600 x'], 'malformed'],
  [['999-x'], 'malformed'],
  [['250-ok', '150 x'], 'malformed'],
  [[''], ''],
  [['ok'], ''],
  [['25'], ''],
  [['2x0 ok'], ''],
  [[' 250 ok'], ''],
  [['2500 ok'], ''],
  [['250-ok'], ''],
  [['250-ok', 'ok'], ''],
];

/** What comes of it: the next command, the fate of the one recipient, or how the session ended. */
type Reading = string;
type Readings = Record<Class, Reading>;

const READINGS: Record<string, Readings> = {
  greeting: {
    '2': 'EHLO',
    '3': 'connection_lost',
    '4': 'peer_4xx',
    '5': 'peer_refused',
    malformed: 'connection_lost',
    '': 'waits',
  },
  EHLO: {
    '2': 'MAIL',
    '3': 'connection_lost',
    '4': 'peer_4xx',
    '5': 'HELO',
    malformed: 'connection_lost',
    '': 'waits',
  },
  HELO: {
    '2': 'MAIL',
    '3': 'connection_lost',
    '4': 'peer_4xx',
    '5': 'peer_refused',
    malformed: 'connection_lost',
    '': 'waits',
  },
  STARTTLS: {
    '2': 'secure',
    '3': 'tls_failed',
    '4': 'MAIL',
    '5': 'MAIL',
    malformed: 'connection_lost',
    '': 'waits',
  },
  MAIL: { '2': 'RCPT', '3': 'deferred', '4': 'deferred', '5': 'bounced', malformed: 'deferred', '': 'waits' },
  RCPT: { '2': 'DATA', '3': 'deferred', '4': 'deferred', '5': 'bounced', malformed: 'deferred', '': 'waits' },
  DATA: {
    '2': 'deferred',
    '3': 'content',
    '4': 'deferred',
    '5': 'bounced',
    malformed: 'deferred',
    '': 'waits',
  },
  'end of data': {
    '2': 'delivered',
    '3': 'deferred',
    '4': 'deferred',
    '5': 'bounced',
    malformed: 'deferred',
    '': 'waits',
  },
};

/** Replies that bring a session to where the reply to the command is awaited. */
const BEFORE: Record<string, string[]> = {
  greeting: [],
  EHLO: ['220 hello'],
  HELO: ['220 hello', '500 what'],
  STARTTLS: ['220 hello', '250-mx.test', '250 STARTTLS'],
  MAIL: ['220 hello', '250 mx.test'],
  RCPT: ['220 hello', '250 mx.test', '250 ok'],
  DATA: ['220 hello', '250 mx.test', '250 ok', '250 ok'],
  'end of data': ['220 hello', '250 mx.test', '250 ok', '250 ok', '354 go'],
};

function readingOf(command: string, lines: string[]): Reading {
  const peer = new Peer();
  const attempt = peer.attempt(1, 'a@x.test');
  peer.session.opened('192.0.2.8');
  for (const line of BEFORE[command] as string[]) {
    peer.say(line);
    if (line.startsWith('354')) peer.session.sent();
  }
  peer.take();
  peer.say(...lines);
  const [fault] = peer.failed;
  if (fault !== undefined) return fault.reason;
  const [group] = attempt.groups;
  if (group !== undefined) return group.outcome.kind;
  return peer.take()[0]?.split(' ')[0] ?? 'waits';
}

for (const [command, readings] of Object.entries(READINGS)) {
  test(`each form of a reply to ${command} has its reading`, () => {
    for (const [lines, read] of FORMS) {
      const shown = JSON.stringify(lines.length > 9 ? lines.slice(-2) : lines);
      assert.equal(readingOf(command, lines), readings[read], shown);
    }
  });
}

test('where several replies are awaited, what is no reply ends the session: it could stand for any of them', () => {
  for (const stray of ['', 'ok', '25', '2500 ok']) {
    const peer = new Peer();
    const attempt = peer.attempt(1, 'a@x.test');
    peer.hello('PIPELINING');
    peer.say(stray);
    assert.equal(peer.log.at(-1), 'close now');
    assert.match(peer.ended[0]?.detail ?? '', /malformed reply: "/);
    assert.deepEqual(peer.returned, [attempt], 'a new connection, where nothing is sent ahead, shows');
    assert.equal(peer.careful.has({ address: '192.0.2.1', port: 25 }, 1000), true);
  }
});

test('between the lines of a reply a line without a code is text of it, however many replies are awaited', () => {
  for (const text of ['', 'ok', '25', '2500 ok']) {
    const peer = new Peer();
    const attempt = peer.attempt(1, 'a@x.test');
    peer.hello('PIPELINING');
    for (const code of ['250', '250', '354']) peer.say(`${code}-so`, text, `${code} ok`);
    peer.session.sent();
    peer.say('250-so', text, '250 ok');
    assert.deepEqual([peer.ended, peer.returned], [[], []], text);
    assert.equal(attempt.groups[0]?.outcome.kind, 'delivered', text);
  }
});

test('over the wire: a host that writes all its 250s in an odd way gets one copy of many mails on one connection', async () => {
  for (const [lines, read] of FORMS) {
    if (read !== '2') continue;
    const sink = await startSink();
    sink.options.faults = { dot: `=${lines.join('\r\n')}` };
    const harness = startSender({
      delivery: {
        smarthost: { host: '127.0.0.1', port: sink.port },
        max_connections_per_destination: 1,
        command_timeout_ms: 5000,
      },
    });
    const mails = Array.from({ length: 5 }, (_, i) => harness.attempt({ recipients: [`u${i}@x.test`] }));
    const shown = JSON.stringify(lines.slice(-2)).slice(0, 80);
    for (const mail of mails) assert.deepEqual(fates(await mail), ['delivered'], shown);
    assert.equal(sink.messages.length + sink.unaccepted.length, mails.length, shown);
    harness.stop();
    await sink.stop();
  }
});

test('over the wire: odd forms of a 250 to the end of data are one copy, line ends without CR included', async () => {
  const forms = FORMS.filter(([, read]) => read === '2').map(([lines]) => lines.join('\r\n'));
  forms.push('250-ok\n250 id', '250\n', `250 ${'x'.repeat(20_000)}`);
  const sink = await startSink();
  const harness = startSender({
    delivery: {
      smarthost: { host: '127.0.0.1', port: sink.port },
      max_messages_per_connection: 1,
      command_timeout_ms: 5000,
    },
  });
  for (const [i, form] of forms.entries()) {
    sink.options.faults = { dot: `=${form}` };
    const result = await harness.attempt({ recipients: [`u${i}@x.test`] });
    assert.deepEqual(fates(result), ['delivered'], JSON.stringify(form).slice(0, 80));
  }
  assert.equal(sink.messages.length + sink.unaccepted.length, forms.length);
  harness.stop();
  await sink.stop();
});
