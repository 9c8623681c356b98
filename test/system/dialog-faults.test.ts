/**
 * An error of our own comes up in one dialog, at every place where one could, on the real threads of a real relay: that
 * dialog ends, the process lives, other dialogs go on, and nothing leaks. Limits are so low that a leak of a connection,
 * a content, a place in flight or a job would be felt within the test.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { Authority, lacksOpenssl } from '../support/authority.ts';
import { fate } from '../support/fates.ts';
import { RelayFixture } from '../support/relay-fixture.ts';
import { ScriptedSink } from '../support/scripted-sink.ts';
import { Talk } from '../support/talk.ts';

const PRELOAD = join(import.meta.dirname, '../support/fault-preload.ts');
const ROUNDS = 4;
const AUTH = Buffer.from('\0user\0password').toString('base64');
const STAGES = [
  'opened',
  'line-greeting',
  'line-hello',
  'line-mail',
  'line-rcpt',
  'line-data',
  'line-content',
];
const PLACES = [
  ...STAGES,
  'sent',
  'established',
  'idle',
  'next',
  'body',
  'connect',
  'route',
  'rejected',
  'accept',
  'draft',
];
/** With what the peer does there: the place, and the local part that makes it. */
const PROVOKED: Record<string, string> = {
  closed: 'drop-at-rcpt',
  timedout: 'hang-at-rcpt',
  ended: 'drop-at-data',
  settle: 'bounce-550',
};

const authority = lacksOpenssl === false ? new Authority() : null;
let sink: ScriptedSink;
let relay: RelayFixture;
let other: Talk;
const where = () => ({ port: relay.port, host: '127.0.0.1' });

before(async () => {
  sink = await ScriptedSink.start({ keepContent: false });
  const hop = { host: '127.0.0.1', port: sink.port };
  const routes = [...PLACES, ...Object.keys(PROVOKED)].map((place) => [`${place}.fault.test`, hop]);
  const identity = authority?.issue(['relay.test']) ?? null;
  relay = await RelayFixture.start(
    {
      listeners: [
        { host: '127.0.0.1', port: 0, auth: 'optional', ...(identity === null ? {} : { tls: 'optional' }) },
      ],
      ...(identity === null ? {} : { tls: { cert_file: identity.certFile, key_file: identity.keyFile } }),
      auth: {
        allow_without_tls: true,
        mechanisms: ['PLAIN', 'SCRAM-SHA-256'],
        backends: [{ type: 'memory', users: [{ username: 'user', password: 'password' }] }],
      },
      session_threads: 1,
      delivery_threads: 1,
      content_memory_mb: 4,
      persist_max_inflight_mails: 3,
      smtp: { max_connections: 4 },
      delivery: {
        routes: { ...Object.fromEntries(routes), 'good.test': hop },
        max_connections: 4,
        max_connections_per_destination: 1,
        max_handoff_messages: 6,
        command_timeout_ms: 300,
        suspend_after_failures: 1000,
      },
      retry: { initial_delay_ms: 60_000 },
    },
    { env: { NODE_OPTIONS: `--import=${PRELOAD}` } },
  );
  other = await Talk.hello(where());
});

after(async () => {
  other?.destroy();
  await relay?.destroy();
  await sink?.stop();
  authority?.remove();
});

async function armed(place: string): Promise<Talk> {
  const talk = await Talk.hello(where());
  assert.match(await talk.say(`NOOP arm ${place}`), /^250/);
  return talk;
}

/** The dialog ends with 421 4.3.0, and the others go on. */
async function endsAlone(place: string, cause: (talk: Talk) => Promise<unknown> | unknown): Promise<void> {
  const talk = await armed(place);
  await cause(talk);
  assert.match(await talk.reply(), /^421 4\.3\.0 relay\.test closes the connection: internal error/, place);
  await talk.closed();
  assert.match(await other.say('NOOP'), /^250/, `${place}: other dialogs`);
}

async function toContent(talk: Talk): Promise<void> {
  for (const line of ['MAIL FROM:<a@client.test>', 'RCPT TO:<a@good.test>'])
    assert.match(await talk.say(line), /^250/);
  assert.match(await talk.say('DATA'), /^354/);
}

/** As often as the limits would bear a leak, and more. */
async function often(work: () => Promise<void>): Promise<void> {
  for (let i = 0; i < ROUNDS; i++) await work();
}

const VERBS = [
  'EHLO x',
  'HELO x',
  'MAIL FROM:<a@b.test>',
  'RCPT TO:<a@good.test>',
  'DATA',
  'RSET',
  'NOOP',
  'VRFY a',
  'EXPN a',
  'HELP',
  'QUIT',
  'BDAT 1',
  'STARTTLS',
  `AUTH PLAIN ${AUTH}`,
  'XCLIENT ADDR=192.0.2.1',
  'XFORWARD ADDR=192.0.2.1',
  'ETRN x',
];

test('an error ends its dialog and is logged with its stack; of many in a second some are, the rest is counted', async () => {
  const logged = relay.logLine('session.fault');
  const left = relay.logLine('log.left_out', ({ of }) => of === 'session.fault');
  for (let i = 0; i < 10; i++) await endsAlone('check', (talk) => talk.write('NOOP\r\n'));
  const { level, error, client_address: client, at } = await logged;
  assert.deepEqual([level, client, at], ['error', '127.0.0.1', 'line']);
  assert.match(String((error as { stack: string }).stack), /injected fault[\s\S]*fault-preload/);
  assert.equal((await left).level, 'error');
});

test('an error in any verb ends that dialog', async () => {
  for (const verb of VERBS) await endsAlone('check', (talk) => talk.write(`${verb}\r\n`));
  for (const step of ['admit', 'apply', 'screen', 'late', 'rejected'])
    await endsAlone(step, (talk) => talk.write('MAIL FROM:<a@client.test>\r\n'));
});

test('an error in any event ends that dialog', async () => {
  await endsAlone('line', (talk) => talk.write('NOOP\r\n'));
  await endsAlone('ask', (talk) => talk.write(`AUTH PLAIN ${AUTH}\r\n`));
  await endsAlone('authenticated', (talk) => talk.write(`AUTH PLAIN ${AUTH}\r\n`));
});

test('an error around content gives back the content and its place in flight', async () => {
  for (const place of ['content', 'message', 'submit', 'verdict']) {
    await often(() =>
      endsAlone(place, async (talk) => {
        await toContent(talk);
        talk.write('Subject: x\r\n\r\nx\r\n.\r\n');
      }),
    );
  }
  await often(() =>
    endsAlone('chunk', async (talk) => {
      for (const line of ['MAIL FROM:<a@client.test>', 'RCPT TO:<a@good.test>']) await talk.say(line);
      talk.write('BDAT 3\r\nabc');
    }),
  );
});

test('an error before there is a session, and one at its end, leave no connection counted', async () => {
  await often(async () => {
    const first = await armed('constructor');
    const second = await Talk.open(where());
    assert.equal(second.greeting, '');
    await first.quit();
  });
  await often(async () => {
    const talk = await armed('closed');
    await talk.quit();
  });
});

test('an error once TLS stands ends that dialog', { skip: lacksOpenssl }, async () => {
  const talk = await armed('resumed');
  assert.match(await talk.say('STARTTLS'), /^220/);
  const secure = connectTls({ socket: talk.socket, rejectUnauthorized: false });
  secure.on('error', () => {});
  await once(secure.resume(), 'close');
});

test('a name that is no mechanism is refused, with TLS as well', { skip: lacksOpenssl }, async () => {
  const names = [
    'PLAIN-PLUS',
    'LOGIN-PLUS',
    'CRAM-MD5-PLUS',
    'SCRAM-SHA-256-PLUS-PLUS',
    '-PLUS',
    'constructor',
    '__proto__',
  ];
  const talk = await Talk.hello(where());
  assert.match(await talk.say('STARTTLS'), /^220/);
  const secure = connectTls({ socket: talk.socket, rejectUnauthorized: false });
  let read = '';
  const told = (count: number) =>
    new Promise<void>((resolve) => {
      const look = () => void (read.split('\r\n').length > count && resolve());
      secure.on('data', look);
      look();
    });
  secure.setEncoding('utf8').on('data', (text: string) => {
    read += text;
  });
  secure.write('HELO x\r\n');
  await told(1);
  read = '';
  secure.write(names.map((name) => `AUTH ${name}\r\n`).join(''));
  await told(names.length);
  for (const line of read.trimEnd().split('\r\n')) assert.match(line, /^50[14] 5\.5\.4/);
  secure.destroy();
});

test('an error at any place of a delivery defers what it carried, and everything else is delivered', async () => {
  const talk = await Talk.hello(where());
  const logged = relay.logLine('delivery.fault');
  const withMessage = relay.logLine('delivery.fault', ({ queue_id }) => queue_id !== undefined);
  const places = Object.entries({
    ...Object.fromEntries(PLACES.map((place) => [place, 'user'])),
    ...PROVOKED,
  });
  for (let round = 0; round < ROUNDS; round++) {
    for (const [place, local] of places) {
      const recipient = `${local}+${round}@${place}.fault.test`;
      const kind = place === 'idle' || place === 'draft' ? 'delivered' : 'deferred';
      const logged = relay.logLine(
        'delivery.fault',
        ({ destination }) => destination === `${place}.fault.test`,
      );
      logged.catch(() => {});
      await talk.accepted({ to: recipient });
      const event = await fate(relay.events, recipient, kind);
      if (kind === 'deferred')
        assert.equal(event.reason, place === 'ended' ? 'connection_lost' : 'internal_error', place);
      await talk.accepted({ to: `beside-${place}-${round}@good.test` });
      await fate(relay.events, `beside-${place}-${round}@good.test`, 'delivered');
    }
  }
  const { level, error, destination, session_id: sessionId } = await logged;
  assert.match(String(sessionId), /^d0\.\d+-/);
  assert.match(String((await withMessage).queue_id), /^[0-9A-Za-z]{16}$/);
  assert.deepEqual([level, destination], ['error', 'opened.fault.test']);
  assert.match(String((error as { stack: string }).stack), /injected fault[\s\S]*fault-preload/);
  talk.destroy();
});

test('after all that the relay runs, delivers, and has nothing open', async () => {
  const talk = await Talk.hello(where());
  for (let i = 0; i < 80; i++) await talk.accepted({ to: `after-${i}@good.test` });
  for (let i = 0; i < 80; i++) await fate(relay.events, `after-${i}@good.test`, 'delivered');
  const { scheduler } = await relay.queueJson<{
    scheduler: { sending_entries: number; faults: { sessions: number; deliveries: number } };
  }>('stats');
  assert.equal(scheduler.sending_entries, 0);
  assert.ok(
    scheduler.faults.sessions >= VERBS.length && scheduler.faults.deliveries >= PLACES.length * ROUNDS,
  );
  assert.match((await relay.queue('stats')).stdout, /^Faults {6}\d+ dialogs with clients/m);
  assert.deepEqual(await relay.stop(), { code: 0, signal: null });
});
