/** AUTH as a client: the test is the peer, with the server side of the mechanisms and whatever a bad one may do. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { type Config, configSchema } from '../../src/config/schema.ts';
import { Attempt } from '../../src/delivery/attempt.ts';
import type { ClientPort, SessionOwner } from '../../src/delivery/client/owner.ts';
import { ClientSession } from '../../src/delivery/client/session.ts';
import type { Fault } from '../../src/delivery/client/state.ts';
import type { DialogLine } from '../../src/delivery/client/transcript.ts';
import { byFirstDigit } from '../../src/delivery/outcome.ts';
import { RememberedHosts } from '../../src/delivery/remembered-hosts.ts';
import { tlsPolicyOf } from '../../src/delivery/security/tls-policy.ts';
import type { Job } from '../../src/mail/job.ts';
import type { Arena } from '../../src/native.ts';
import { isCramDigest, parseCramResponse } from '../../src/protocol/sasl/cram-md5.ts';
import { parsePlain } from '../../src/protocol/sasl/plain.ts';
import {
  authMessage,
  type ChannelBinding,
  isBoundTo,
  parseClientFinal,
  parseClientFirst,
  proveClient,
  scramKeys,
  serverFirst,
} from '../../src/protocol/sasl/scram.ts';
import { startSender, startSink } from './harness.ts';

const dir = mkdtempSync(join(tmpdir(), 'delivery-auth-'));
after(() => rmSync(dir, { recursive: true, force: true }));

const base64 = (text: string | Buffer): string => Buffer.from(text).toString('base64');
const decoded = (text: string): Buffer => Buffer.from(text, 'base64');

const peers: Peer[] = [];

interface PeerAuth {
  tls?: { bindings: ChannelBinding[]; verified: boolean };
  [key: string]: unknown;
}

class Peer {
  /** What the client has to send. */
  job: Job = JOB;
  readonly session: ClientSession;
  readonly failed: Fault[] = [];
  turn = 0;
  /** What the log says of the dialog. */
  readonly transcript: DialogLine[] = [];
  /** What went over the wire in exchanges of AUTH, but for the name of the mechanism and codes. */
  readonly exchanged: string[] = [];
  readonly #lines: string[] = [];
  #wake: () => void = () => {};

  /** @param tls that the connection has, as far as AUTH looks at it. */
  constructor({ tls, ...auth }: PeerAuth, ...offers: string[]) {
    const smarthost = { host: 'mx.test', auth: { username: 'user', ...auth } };
    const rules: Config['delivery'] = configSchema.parse({ delivery: { smarthost } }).delivery;
    peers.push(this);
    const take = (_: number, text: string): void => {
      if (this.session?.state.phase === 'auth')
        this.exchanged.push(text.trim().replace(/^AUTH [A-Z0-9-]+ ?/, ''));
      this.#lines.push(...text.split('\r\n').slice(0, -1));
      this.#wake();
    };
    const port: ClientPort = {
      sendLatin1: take,
      sendUtf8: take,
      sendContent: () => {},
      expectLines: () => {},
      deadline: () => {},
      secure: () => {},
      close: () => take(0, 'close\r\n'),
    };
    let taken = false;
    const peer = this;
    const owner: SessionOwner = {
      get turn() {
        return peer.turn;
      },
      careful: new RememberedHosts(),
      returnPaths: null,
      classify: byFirstDigit,
      slowDown: () => {},
      hasOthers: () => false,
      works: () => {},
      keepApart: () => {},
      arena: {} as Arena,
      rules,
      ehloName: 'relay.test',
      tls: { policy: tlsPolicyOf(rules, 'x.test'), broken: new RememberedHosts(), slot: 0, record: () => {} },
      recipientLimit: 1000,
      messageLimit: 1000,
      idleMs: 5000,
      outside: (work) => work(),
      guard: (session, _at, work) => work(session),
      leaseHolds: () => true,
      now: () => 1000,
      next: () => {
        const attempt = taken ? null : new Attempt(this.job);
        taken = true;
        return attempt;
      },
      lookAhead: () => null,
      finished: () => {},
      returned: () => {},
      established: (session) => session.work(),
      notEstablished: (_, fault) => void this.failed.push(fault),
      idle: () => {},
      ended: () => {},
    };
    const host = { name: 'mx.test', address: '192.0.2.1', port: 25, auth: rules.smarthost?.auth };
    this.session = new ClientSession(7, host as never, port, owner, {
      sessionId: 'd0.0-7',
      destination: 'x.test',
      take: (line) => void this.transcript.push(line),
    });
    if (tls !== undefined)
      Object.assign(this.session, {
        secure: true,
        channelBindings: tls.bindings,
        tls: { version: 'TLSv1.3', cipher: 'x', verified: tls.verified },
      });
    this.session.opened('192.0.2.8');
    this.say('220 ready');
    this.#lines.pop();
    const lines = ['mx.test', ...offers];
    this.say(...lines.map((line, i) => `250${i === lines.length - 1 ? ' ' : '-'}${line}`));
  }

  say(...lines: string[]): void {
    for (const line of lines) {
      this.turn++;
      if (/^(334|235)/.test(line)) this.exchanged.push(line.slice(4));
      const text = Buffer.from(line);
      this.session.line(text, 0, text.length, 0);
    }
  }

  /** Next line of the client. */
  async heard(): Promise<string> {
    while (this.#lines.length === 0)
      await new Promise<void>((wake) => {
        this.#wake = wake;
      });
    return this.#lines.shift() as string;
  }

  /** The client has authenticated and goes on with its message. */
  async sendsMail(): Promise<void> {
    assert.equal(await this.heard(), 'MAIL FROM:<a@x.test> AUTH=<>');
    assert.deepEqual(this.failed, []);
  }

  fault(): Fault {
    const [fault] = this.failed;
    assert.ok(fault, 'the session failed');
    assert.equal(fault.reason, 'auth_failed');
    return fault;
  }
}

const JOB: Job = {
  queueId: '0123456789abcde',
  destination: 'smarthost',
  attempts: 0,
  fence: 1,
  reversePath: 'a@x.test',
  body: '7BIT',
  smtpUtf8: false,
  trace: '',
  content: 1,
  sizeBytes: 10,
  receivedAtMs: 0,
  delayNotified: false,
  recipients: [{ seq: 0, address: 'b@x.test', notify: 0 }],
};

const READABLE = { password: 'pass', allow_without_tls: true };

test('the first of auth.mechanisms that the peer offers is used', async () => {
  const all = 'AUTH XOAUTH2 LOGIN PLAIN CRAM-MD5 SCRAM-SHA-256';
  assert.match(await new Peer(READABLE, all).heard(), /^AUTH SCRAM-SHA-256 /);
  assert.match(await new Peer(READABLE, 'AUTH LOGIN PLAIN CRAM-MD5').heard(), /^AUTH CRAM-MD5$/);
  assert.match(await new Peer({ ...READABLE, mechanisms: ['LOGIN', 'PLAIN'] }, all).heard(), /^AUTH LOGIN$/);
  assert.match(await new Peer(READABLE, 'AUTH=LOGIN', 'AUTH XOAUTH2').heard(), /^AUTH LOGIN$/);
});

test('PLAIN goes along with AUTH, unless it is too long for a command', async () => {
  const peer = new Peer(READABLE, 'AUTH PLAIN');
  const [, , response = ''] = (await peer.heard()).split(' ');
  assert.deepEqual(parsePlain(decoded(response)), { authorize: '', username: 'user', password: 'pass' });
  peer.say('235 2.7.0 ok');
  await peer.sendsMail();

  const password = 'p'.repeat(600);
  const long = new Peer({ password, allow_without_tls: true }, 'AUTH PLAIN');
  assert.equal(await long.heard(), 'AUTH PLAIN');
  long.say('334 ');
  assert.equal(parsePlain(decoded(await long.heard()))?.password, password);
  long.say('235 ok');
  await long.sendsMail();
});

test('LOGIN: whatever the prompts say', async () => {
  const peer = new Peer(READABLE, 'AUTH LOGIN');
  assert.equal(await peer.heard(), 'AUTH LOGIN');
  peer.say(`334 ${base64('Who?')}`);
  assert.equal(await peer.heard(), base64('user'));
  peer.say(`334 ${base64('Passcode')}`);
  assert.equal(await peer.heard(), base64('pass'));
  peer.say('235 2.7.0 ok');
  await peer.sendsMail();
});

test('CRAM-MD5', async () => {
  const peer = new Peer({ password: 'pass' }, 'AUTH CRAM-MD5');
  assert.equal(await peer.heard(), 'AUTH CRAM-MD5');
  peer.say(`334 ${base64('<1.2@mx.test>')}`);
  const response = parseCramResponse(decoded(await peer.heard()));
  assert.equal(response?.username, 'user');
  assert.ok(isCramDigest('<1.2@mx.test>', 'pass', response.digest));
  peer.say('235 2.7.0 ok');
  await peer.sendsMail();
});

/** Plays the server until the proof is checked; returns what the server would say last. */
async function scram(peer: Peer): Promise<string> {
  const [, , initial = ''] = (await peer.heard()).split(' ');
  const first = parseClientFirst(decoded(initial));
  assert.ok(first);
  const keys = scramKeys('pass', Buffer.from('salt'), 4096);
  const said = serverFirst(`${first.nonce}xyz`, keys);
  peer.say(`334 ${base64(said)}`);
  const final = parseClientFinal(decoded(await peer.heard()));
  assert.ok(final);
  const signature = proveClient(keys, authMessage(first.bare, said, final.withoutProof), final.proof);
  assert.ok(signature, 'the proof holds');
  return `v=${signature.toString('base64')}`;
}

test('SCRAM-SHA-256: both sides prove that they know the password', async () => {
  const peer = new Peer({ password: 'pass' }, 'AUTH SCRAM-SHA-256');
  peer.say(`334 ${base64(await scram(peer))}`);
  assert.equal(await peer.heard(), '');
  peer.say('235 2.7.0 ok');
  await peer.sendsMail();
});

test('SCRAM-SHA-256: a peer that proves nothing gets no mail', async () => {
  const silent = new Peer({ password: 'pass' }, 'AUTH SCRAM-SHA-256');
  await scram(silent);
  silent.say('235 2.7.0 come in');
  assert.equal(await silent.heard(), 'close');
  assert.match(silent.fault().detail, /did not prove that it knows the password/);

  const wrong = new Peer({ password: 'pass' }, 'AUTH SCRAM-SHA-256');
  await scram(wrong);
  wrong.say(`334 ${base64(`v=${base64(Buffer.alloc(32))}`)}`);
  assert.equal(await wrong.heard(), 'close');
  assert.match(wrong.fault().detail, /does not keep to SCRAM-SHA-256/);
});

test('XOAUTH2: the token of the config or of a file read for each connection, and the explained refusal', async () => {
  const file = join(dir, 'token');
  const auth = { access_token_file: file, allow_without_tls: true };
  writeFileSync(file, 'first\n');
  const peer = new Peer(auth, 'AUTH XOAUTH2');
  assert.equal(await peer.heard(), `AUTH XOAUTH2 ${base64('user=user\x01auth=Bearer first\x01\x01')}`);
  peer.say('235 ok');
  await peer.sendsMail();
  writeFileSync(file, 'second');
  const refused = new Peer(auth, 'AUTH XOAUTH2');
  assert.match(decoded((await refused.heard()).split(' ')[2] as string).toString(), /Bearer second/);
  refused.say(`334 ${base64('{"status":"401"}')}`);
  assert.equal(await refused.heard(), '');
  refused.say('535 5.7.8 bad token');
  assert.match(refused.fault().detail, /AUTH XOAUTH2: 535 5\.7\.8 bad token/);
  const given = new Peer({ access_token: 'given', allow_without_tls: true }, 'AUTH PLAIN XOAUTH2');
  assert.match(await given.heard(), /^AUTH XOAUTH2 /);
  rmSync(file);
  const none = new Peer(auth, 'AUTH XOAUTH2');
  assert.match(none.fault().detail, /the access token cannot be read: ENOENT/);
});

test('passwords are not sent without TLS unless the config says so', async () => {
  const peer = new Peer({ password: 'pass' }, 'AUTH PLAIN LOGIN');
  assert.equal(await peer.heard(), 'close');
  assert.match(peer.fault().detail, /passwords are not sent without TLS/);
});

test('a peer that offers nothing we can use gets no mail', async () => {
  assert.match(new Peer(READABLE, 'SIZE 1000').fault().detail, /offers no AUTH; none of auth\.mechanisms/);
  assert.match(
    new Peer(READABLE, 'AUTH GSSAPI').fault().detail,
    /offers AUTH GSSAPI; none of auth\.mechanisms/,
  );
});

test('a mechanism that is refused is followed by the next; a wrong password is not tried over and over', async () => {
  const peer = new Peer(READABLE, 'AUTH SCRAM-SHA-256 CRAM-MD5 PLAIN LOGIN');
  assert.match(await peer.heard(), /^AUTH SCRAM-SHA-256/);
  peer.say('504 5.5.4 not this one');
  assert.equal(await peer.heard(), 'AUTH CRAM-MD5');
  peer.say(`334 ${base64('<1@x>')}`);
  await peer.heard();
  // A server that keeps hashes cannot check a proof of the password, but the password itself.
  peer.say('535 5.7.8 no');
  assert.match(await peer.heard(), /^AUTH PLAIN /);
  peer.say('535 5.7.8 no');
  assert.equal(await peer.heard(), 'close');
  assert.equal(peer.fault().reply?.code, 535);
});

test('a challenge that the response does not depend on is not decoded', async () => {
  for (const challenge of ['VXNlcm5hbWU6 extra', 'Username:', '', 'x', '\u00ff']) {
    const login = new Peer(READABLE, 'AUTH LOGIN');
    assert.equal(await login.heard(), 'AUTH LOGIN');
    login.say(`334 ${challenge}`);
    const name = await login.heard();
    assert.match(name, /^[A-Za-z0-9+/]+=*$/);
    login.say(`334 ${challenge}`);
    assert.notEqual(await login.heard(), name);
    login.say('235 2.7.0 ok');
    await login.sendsMail();
  }
});

test('a temporary refusal, a 421, nonsense: the mail waits, and nothing secret is in what is kept', async () => {
  for (const line of ['454 4.7.0 later', '421 4.7.0 too many']) {
    const peer = new Peer(READABLE, 'AUTH PLAIN');
    await peer.heard();
    peer.say(line);
    assert.ok(peer.fault().detail.includes(line));
  }
  const echo = new Peer(READABLE, 'AUTH CRAM-MD5');
  await echo.heard();
  echo.say('334 x');
  assert.match(echo.fault().detail, /challenge that is not Base64/);
  const quoting = new Peer(READABLE, 'AUTH LOGIN');
  await quoting.heard();
  quoting.say('334 ');
  const name = await quoting.heard();
  quoting.say('334 ');
  const password = await quoting.heard();
  quoting.say(`500 5.5.1 unknown command ${password} after ${name}`);
  const kept = JSON.stringify(quoting.fault());
  assert.ok(kept.includes('unknown command …') && !kept.includes(base64('pass')), kept);
  const endless = new Peer(READABLE, 'AUTH LOGIN');
  await endless.heard();
  endless.say('334 ', '334 ', '334 ');
  assert.match(endless.fault().detail, /does not keep to LOGIN/);
});

test('who submitted the message is passed on to whom we authenticated, and to nobody else', async () => {
  const submitter = 'e+3Dmc2@x.test';
  const peer = new Peer(READABLE, 'AUTH PLAIN');
  peer.job = { ...JOB, submitter };
  await peer.heard();
  peer.say('235 2.7.0 ok');
  assert.equal(await peer.heard(), `MAIL FROM:<a@x.test> AUTH=${submitter}`);

  const sink = await startSink({ capabilities: ['PIPELINING', 'AUTH PLAIN'] });
  const { port } = sink;
  const harness = startSender({ delivery: { smarthost: { host: '127.0.0.1', port } } });
  await harness.attempt({ recipients: ['b@x.test'], submitter });
  assert.deepEqual(sink.messages[0]?.fromParams, [], 'no word of it without AUTH');
});

const BINDING: ChannelBinding = { type: 'tls-exporter', octets: Buffer.from('this connection') };
const overTls = (verified: boolean, ...bindings: ChannelBinding[]) => ({
  ...READABLE,
  tls: { bindings, verified },
});

test('SCRAM-SHA-256-PLUS comes before SCRAM-SHA-256, and is tied to the connection', async () => {
  const offer = 'AUTH PLAIN SCRAM-SHA-256 SCRAM-SHA-256-PLUS';
  const peer = new Peer(overTls(false, BINDING), offer);
  const [, mechanism, initial = ''] = (await peer.heard()).split(' ');
  assert.equal(mechanism, 'SCRAM-SHA-256-PLUS');
  const first = parseClientFirst(decoded(initial));
  assert.equal(first?.binding, 'tls-exporter');
  peer.say(`334 ${base64(serverFirst(`${first?.nonce}xyz`, scramKeys('pass', Buffer.from('salt'), 4096)))}`);
  const final = parseClientFinal(decoded(await peer.heard()));
  assert.ok(final && isBoundTo(final, 'p=tls-exporter,,', BINDING));
  assert.ok(!isBoundTo(final, 'p=tls-exporter,,', { ...BINDING, octets: Buffer.from('another one') }));
  const without = new Peer(overTls(false), offer);
  assert.match(await without.heard(), /^AUTH SCRAM-SHA-256 /, 'a connection without a binding');
});

test('a server learns that its -PLUS was not seen, and is asked without where it does not want it', async () => {
  const flag = async (peer: Peer): Promise<string> => {
    const [, mechanism, initial = ''] = (await peer.heard()).split(' ');
    return `${mechanism} ${parseClientFirst(decoded(initial))?.binding}`;
  };
  assert.equal(await flag(new Peer(overTls(false, BINDING), 'AUTH SCRAM-SHA-256')), 'SCRAM-SHA-256 y');
  assert.equal(await flag(new Peer(overTls(false), 'AUTH SCRAM-SHA-256')), 'SCRAM-SHA-256 n');
  const both = new Peer(overTls(false, BINDING), 'AUTH SCRAM-SHA-256 SCRAM-SHA-256-PLUS');
  await both.heard();
  both.say('501 5.5.2 not this type of binding');
  assert.equal(await flag(both), 'SCRAM-SHA-256 n', 'y would be a lie');
});

test('after a -PLUS that fails the password is told to a verified server only', async () => {
  for (const verified of [false, true]) {
    const peer = new Peer(overTls(verified, BINDING), 'AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 CRAM-MD5 PLAIN');
    assert.match(await peer.heard(), /^AUTH SCRAM-SHA-256-PLUS /);
    peer.say('535 5.7.8 no');
    if (verified) assert.match(await peer.heard(), /^AUTH PLAIN /);
    else assert.match(peer.fault().detail, /^AUTH SCRAM-SHA-256-PLUS: 535 5\.7\.8 no /);
  }
  const plain = new Peer(overTls(false), 'AUTH SCRAM-SHA-256 CRAM-MD5 PLAIN');
  await plain.heard();
  plain.say('535 5.7.8 no');
  assert.match(await plain.heard(), /^AUTH PLAIN /, 'another proof would fail as well');
});

test('transcripts of all these dialogs show mechanisms and codes, and nothing of an exchange', () => {
  let hidden = 0;
  for (const { transcript, exchanged } of peers) {
    const shown = JSON.stringify(transcript);
    for (const text of exchanged.filter((one) => one.length > 3)) {
      hidden++;
      assert.ok(!shown.includes(JSON.stringify(text).slice(1, -1)), `${text} in ${shown}`);
    }
  }
  assert.ok(hidden > 20, `${hidden} lines`);
  const all = JSON.stringify(peers.map(({ transcript }) => transcript));
  for (const line of ['AUTH PLAIN …', 'AUTH LOGIN', 'AUTH SCRAM-SHA-256 …', '334 …', '235 …', '…'])
    assert.ok(all.includes(`"line":"${line}"`), line);
});
