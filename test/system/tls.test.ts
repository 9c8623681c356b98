/** A real relay with TLS between clients nobody here wrote and a peer that speaks it. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type TLSSocket, connect as tlsConnect } from 'node:tls';
import { createTransport } from 'nodemailer';
import { ScramClient } from '../../src/protocol/sasl/scram.ts';
import { Authority, type Identity, lacksOpenssl } from '../support/authority.ts';
import { run } from '../support/child.ts';
import { programPath, skipWithout } from '../support/programs.ts';
import { MAIN, RelayFixture } from '../support/relay-fixture.ts';
import { ScriptedSink, type SinkMessage } from '../support/scripted-sink.ts';

const skip = lacksOpenssl;
let authority: Authority;
let identity: Identity;
let client: Identity;
let relay: RelayFixture;
let sink: ScriptedSink;

/** By their place in the config. */
const OPTIONAL = 0;
const REQUIRED = 1;
const IMPLICIT = 2;
const MUTUAL = 3;

before(async () => {
  if (skip !== false) return;
  authority = new Authority();
  identity = authority.issue(['localhost', '127.0.0.1']);
  client = authority.issue(['client.test']);
  sink = await ScriptedSink.start({ tls: { cert: identity.cert, key: identity.key } });
  relay = new RelayFixture();
  copyFileSync(identity.certFile, join(relay.dir, 'server.crt'));
  copyFileSync(identity.keyFile, join(relay.dir, 'server.key'));
  const at = { host: '127.0.0.1', port: 0 };
  relay.configure({
    listeners: [
      { ...at, tls: 'optional' },
      { ...at, tls: 'required' },
      { ...at, tls: 'implicit' },
      { ...at, tls: 'implicit', client_certificate: 'required' },
    ],
    tls: {
      cert_file: '../server.crt',
      key_file: '../server.key',
      client_ca_file: authority.caFile,
      watch_interval_ms: 100,
    },
    delivery: {
      smarthost: { host: 'localhost', port: sink.port, tls: { mode: 'verify' } },
      ip_family: 'ipv4',
      tls: { ca_file: authority.caFile },
    },
  });
  await relay.start();
});

after(async () => {
  await relay?.destroy();
  await sink?.stop();
  authority?.remove();
});

const options = (...programs: string[]) => ({
  timeout: 60_000,
  skip: skip === false ? skipWithout(...programs) : skip,
});
const portOf = (listener: number): number => relay.addresses[listener]?.port as number;

/** The first of the messages that arrive from now on, trace header included. */
async function next(from: number): Promise<string> {
  await sink.received(from + 1);
  return (sink.messages[from] as SinkMessage).content.toString();
}

const DIALOG = (name: string) =>
  `EHLO ${name}\r\nMAIL FROM:<a@client.test>\r\nRCPT TO:<b@x.test>\r\nDATA\r\nSubject: ${name}\r\n\r\nhi\r\n.\r\nQUIT\r\n`;

/** openssl s_client with the dialog as input; it stops reading commands of its own with -quiet. */
function sClient(
  listener: number,
  args: string[],
  input: string,
): Promise<{ stdout: string; stderr: string }> {
  const all = ['s_client', '-quiet', '-ign_eof', '-connect', `127.0.0.1:${portOf(listener)}`];
  return run('openssl', [...all, '-CAfile', authority.caFile, ...args], { input, timeoutMs: 20_000 });
}

test(
  'openssl s_client: STARTTLS and implicit, TLS 1.2 and 1.3, each message says so',
  options(),
  async () => {
    const starttls = ['-starttls', 'smtp'];
    for (const [listener, args, version] of [
      [OPTIONAL, [...starttls, '-tls1_2'], 'TLSv1.2'],
      [OPTIONAL, [...starttls, '-tls1_3'], 'TLSv1.3'],
      [REQUIRED, starttls, 'TLSv1.3'],
      [IMPLICIT, ['-tls1_2'], 'TLSv1.2'],
      [IMPLICIT, ['-verify_return_error', '-verify_hostname', 'localhost'], 'TLSv1.3'],
    ] as const) {
      const from = sink.messages.length;
      const { stdout } = await sClient(listener, [...args], DIALOG('openssl.test'));
      assert.match(stdout, /250 2\.0\.0 Ok: queued as/, stdout);
      const content = await next(from);
      assert.match(
        content,
        new RegExp(`using ${version} with cipher \\S+\\)\\r\\n\\tby relay\\.test with ESMTPS id`),
      );
    }
  },
);

test('openssl s_client: old versions are refused', options(), async () => {
  const old = await sClient(IMPLICIT, ['-tls1_1', '-cipher', 'ALL:@SECLEVEL=0'], '');
  assert.match(old.stderr, /alert protocol version|unsupported protocol|no protocols available/);
});

test('openssl s_client: sessions are resumed', options(), async () => {
  const file = join(relay.dir, 'session.pem');
  const at = ['s_client', '-connect', `127.0.0.1:${portOf(IMPLICIT)}`];
  // The ticket of TLS 1.3 comes with the banner: a moment of reading is needed, which QUIT gives.
  await run('openssl', [...at, '-sess_out', file, '-ign_eof'], { input: 'QUIT\r\n', timeoutMs: 10_000 });
  const again = await run('openssl', [...at, '-sess_in', file, '-ign_eof'], {
    input: 'QUIT\r\n',
    timeoutMs: 10_000,
  });
  assert.match(again.stdout, /^Reused, TLSv1\.3/m);
});

test('a client certificate: asked for, wanted, and told', options(), async () => {
  const own = ['-cert', client.certFile, '-key', client.keyFile];
  const from = sink.messages.length;
  const { stdout } = await sClient(MUTUAL, own, DIALOG('mutual.test'));
  assert.match(stdout, /250 2\.0\.0 Ok: queued as/);
  assert.match(await next(from), /, client certificate verified\)/);
  const { stdout: none, stderr } = await sClient(MUTUAL, [], DIALOG('bare.test'));
  assert.doesNotMatch(none, /^250/m);
  assert.match(stderr, /certificate required/);
});

test(
  'python smtplib: starttls with verification, and SMTP_SSL; 530 without',
  options('python3'),
  async () => {
    const script = join(relay.dir, 'client.py');
    writeFileSync(
      script,
      `import smtplib, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
message = "Subject: python\\r\\n\\r\\n" + "a line of text\\r\\n" * 20000
with smtplib.SMTP("localhost", int(sys.argv[2])) as s:
    s.ehlo("python.test")
    try:
        s.mail("a@client.test")
        code, _ = s.mail("a@client.test")
        print("before", code)
    except smtplib.SMTPException as e:
        print("before", e)
    s.starttls(context=context)
    s.ehlo("python.test")
    print("again", s.has_extn("starttls"), s.docmd("STARTTLS")[0])
    s.sendmail("a@client.test", ["b@x.test"], message)
with smtplib.SMTP_SSL("localhost", int(sys.argv[3]), context=context) as s:
    s.sendmail("a@client.test", ["b@x.test"], message)
`,
    );
    const from = sink.messages.length;
    const ran = await run(programPath('python3') as string, [
      ...[script, authority.caFile, String(portOf(REQUIRED)), String(portOf(IMPLICIT))],
    ]);
    assert.equal(ran.code, 0, ran.stderr);
    assert.match(ran.stdout, /before 530/);
    assert.match(ran.stdout, /again False 503/);
    await sink.received(from + 2);
    for (const { content } of sink.messages.slice(from)) assert.ok(content.length > 20_000 * 16);
  },
);

test('curl: smtp with --ssl-reqd, and smtps', options('curl'), async () => {
  const mail = join(relay.dir, 'mail.txt');
  writeFileSync(mail, 'Subject: curl\r\n\r\nhello\r\n');
  for (const [url, listener] of [
    ['smtp', OPTIONAL],
    ['smtp', REQUIRED],
    ['smtps', IMPLICIT],
  ] as const) {
    const from = sink.messages.length;
    const ran = await run('curl', [
      ...['-sS', '--ssl-reqd', '--cacert', authority.caFile, '-T', mail],
      ...[
        '--mail-from',
        'a@client.test',
        '--mail-rcpt',
        'b@x.test',
        `${url}://localhost:${portOf(listener)}`,
      ],
    ]);
    assert.equal(ran.code, 0, ran.stderr);
    assert.match(await next(from), /with ESMTPS id/);
  }
});

const swaksTls =
  programPath('swaks') !== null &&
  /TLS supported/.test(spawnSync('swaks', ['--support'], { encoding: 'utf8' }).stdout)
    ? false
    : 'needs swaks with TLS (Debian packages swaks, libnet-ssleay-perl)';

test('swaks: --tls and --tlsc', { timeout: 60_000, skip: skip === false ? swaksTls : skip }, async () => {
  for (const [listener, flag] of [
    [OPTIONAL, '--tls'],
    [REQUIRED, '--tls'],
    [IMPLICIT, '--tlsc'],
  ] as const) {
    const from = sink.messages.length;
    const ran = await run('swaks', [
      ...[
        '--server',
        `127.0.0.1:${portOf(listener)}`,
        flag,
        '--tls-verify',
        '--tls-ca-path',
        authority.caFile,
      ],
      ...['--from', 'a@client.test', '--to', 'b@x.test', '--body', 'hello'],
    ]);
    assert.equal(ran.code, 0, ran.stdout + ran.stderr);
    assert.match(await next(from), /with ESMTPS id/);
  }
});

test('nodemailer: both ways, and the events name what protected each leg', options(), async () => {
  const from = sink.messages.length;
  const tls = { ca: authority.ca };
  for (const [listener, secure] of [
    [REQUIRED, false],
    [IMPLICIT, true],
  ] as const) {
    const transport = createTransport({
      host: 'localhost',
      port: portOf(listener),
      secure,
      requireTLS: !secure,
      tls,
    });
    await transport.sendMail({ from: 'a@client.test', to: `n${listener}@x.test`, subject: 'x', text: 'hi' });
    transport.close();
  }
  await sink.received(from + 2);
  const delivered = await relay.events.one(
    'event',
    (event) => event.type === 'delivered' && event.recipient === `n${IMPLICIT}@x.test`,
  );
  assert.equal(delivered.tls_version, 'TLSv1.3');
  assert.match(String(delivered.tls_cipher), /^TLS_/);
  assert.equal(delivered.tls_verified, true);
  const accepted = await relay.events.one(
    'event',
    (event) => event.type === 'accepted' && event.queue_id === delivered.queue_id,
  );
  assert.equal(accepted.tls_version, 'TLSv1.3');
  assert.equal(accepted.tls_verified, false);
});

/** Serial number of the certificate that a new connection gets. */
function serial(): Promise<string> {
  return new Promise((done, fail) => {
    const socket = tlsConnect(
      { port: portOf(IMPLICIT), host: '127.0.0.1', rejectUnauthorized: false },
      () => {
        done(socket.getPeerCertificate().serialNumber);
        socket.destroy();
      },
    );
    socket.on('error', fail);
  });
}

test(
  'a new certificate is served after SIGHUP, the reload command or by itself; connections stay',
  options(),
  async () => {
    const install = (one: Identity): void => {
      copyFileSync(one.keyFile, join(relay.dir, 'server.key'));
      copyFileSync(one.certFile, join(relay.dir, 'server.crt'));
    };
    const old = tlsConnect({ port: portOf(IMPLICIT), host: '127.0.0.1', rejectUnauthorized: false });
    let heard = '';
    old.on('data', (bytes) => {
      heard += bytes.toString('latin1');
    });
    await new Promise((resolve) => old.once('data', resolve));
    const seen = new Set([await serial()]);

    install(authority.issue(['localhost']));
    while (seen.has(await serial())) await new Promise((resolve) => setTimeout(resolve, 20));
    seen.add(await serial());

    relay.configure({ tls: { watch_interval_ms: 0 } });
    await relay.reload();
    install(authority.issue(['localhost']));
    await relay.reload();
    assert.ok(!seen.has(await serial()), 'after SIGHUP');
    seen.add(await serial());

    install(authority.issue(['localhost'], { rsa: true }));
    const command = () => run(process.execPath, [MAIN, 'reload', '-c', relay.configPath]);
    const ran = await command();
    assert.equal(ran.code, 0, ran.stderr);
    assert.match(ran.stdout, /reloaded/);
    assert.ok(!seen.has(await serial()), 'after the command');

    const last = await serial();
    writeFileSync(join(relay.dir, 'server.key'), 'no key');
    const refused = await command();
    assert.equal(refused.code, 78);
    assert.match(refused.stderr, /tls\.key_file: .*server\.key holds no private key/);
    assert.equal(await serial(), last, 'what was there stays');

    old.write('NOOP\r\n');
    while (!heard.includes('250 2.0.0 Ok')) await new Promise((resolve) => setTimeout(resolve, 5));
    old.destroy();
  },
);

test(
  'a session made with one relay process is resumed by the others, with the same ticket key',
  options(),
  async () => {
    const two = new RelayFixture();
    try {
      copyFileSync(identity.certFile, join(two.dir, 'server.crt'));
      copyFileSync(identity.keyFile, join(two.dir, 'server.key'));
      two.configure({
        accept_processes: 2,
        listeners: [{ host: '127.0.0.1', port: 0, tls: 'implicit' }],
        tls: { cert_file: '../server.crt', key_file: '../server.key' },
      });
      await two.start();
      const file = join(two.dir, 'session.pem');
      const at = ['s_client', '-connect', `127.0.0.1:${two.port}`, '-ign_eof'];
      const quit = { input: 'QUIT\r\n', timeoutMs: 10_000 };
      await run('openssl', [...at, '-sess_out', file], quit);
      // The kernel spreads connections over the processes; of eight, some meet the other one.
      for (let i = 0; i < 8; i++) {
        const { stdout } = await run('openssl', [...at, '-sess_in', file], quit);
        assert.match(stdout, /^Reused, TLSv1\.3/m);
      }
    } finally {
      await two.destroy();
    }
  },
);

/** A dialog over TLS, line by line. */
class TlsDialog {
  readonly socket: TLSSocket;
  #text = '';
  #wake: () => void = () => {};

  constructor(socket: TLSSocket) {
    this.socket = socket;
    socket.on('data', (bytes) => {
      this.#text += bytes.toString('latin1');
      this.#wake();
    });
    socket.on('error', () => {});
  }

  /** Sends a line ('' for none) and gives the whole reply. */
  async say(line: string): Promise<string> {
    if (line !== '') this.socket.write(`${line}\r\n`);
    for (;;) {
      const reply = /^(?:\d{3}-.*\r\n)*\d{3}(?: .*)?\r\n/.exec(this.#text)?.[0];
      if (reply !== undefined) {
        this.#text = this.#text.slice(reply.length);
        return reply;
      }
      await new Promise<void>((wake) => {
        this.#wake = wake;
      });
    }
  }
}

test(
  'AUTH over TLS: plain after STARTTLS, SCRAM bound to its channel and to no other',
  options('python3'),
  async () => {
    const user = { username: 'test', password: 'pass word' };
    const two = new RelayFixture();
    try {
      copyFileSync(identity.certFile, join(two.dir, 'server.crt'));
      copyFileSync(identity.keyFile, join(two.dir, 'server.key'));
      const at = { host: '127.0.0.1', port: 0, auth: 'required' };
      two.configure({
        listeners: [
          { ...at, tls: 'required' },
          { ...at, tls: 'implicit' },
        ],
        tls: { cert_file: '../server.crt', key_file: '../server.key' },
        auth: { backends: [{ type: 'memory', users: [user] }], failure_delay_ms: 0 },
        relay_networks: [],
        delivery: { smarthost: { host: '127.0.0.1', port: sink.port } },
      });
      await two.start();
      const from = sink.messages.length;
      const script = join(two.dir, 'login.py');
      writeFileSync(
        script,
        `import smtplib, ssl, sys
with smtplib.SMTP("localhost", int(sys.argv[2])) as s:
    s.ehlo("python.test")
    print("before", s.has_extn("auth"))
    s.starttls(context=ssl.create_default_context(cafile=sys.argv[1]))
    s.login("test", "pass word")
    s.sendmail("test@client.test", ["b@x.test"], "Subject: a\\r\\n\\r\\nb\\r\\n")
`,
      );
      const ran = await run(programPath('python3') as string, [script, authority.caFile, String(two.port)]);
      assert.equal(ran.code, 0, ran.stderr);
      assert.match(ran.stdout, /before False/);
      assert.match(await next(from), /with ESMTPSA id/);

      for (const honest of [true, false]) {
        const port = two.addresses[1]?.port as number;
        const socket = tlsConnect({ port, host: '127.0.0.1', servername: 'localhost', ca: authority.ca });
        const dialog = new TlsDialog(socket);
        assert.match(await dialog.say(''), /^220/);
        assert.match(await dialog.say('EHLO scram.test'), /AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 /);
        const octets = socket.exportKeyingMaterial(32, 'EXPORTER-Channel-Binding', Buffer.alloc(0));
        if (!honest) octets[0] = (octets[0] as number) ^ 1;
        const scram = new ScramClient(user.username, user.password, 'nonce0123456789', {
          type: 'tls-exporter',
          octets,
        });
        const base64 = (text: string) => Buffer.from(text).toString('base64');
        const first = await dialog.say(`AUTH SCRAM-SHA-256-PLUS ${base64(scram.first)}`);
        const final = await scram.final(Buffer.from(first.slice(4), 'base64').toString());
        let reply = await dialog.say(base64(final as string));
        if (honest) {
          assert.ok(scram.isServer(Buffer.from(reply.slice(4), 'base64').toString()));
          socket.write('\r\n'); // the answer to the server's proof
          reply = await dialog.say('');
        }
        assert.match(reply, honest ? /^235/ : /^535/);
        socket.destroy();
      }
    } finally {
      await two.destroy();
    }
  },
);
