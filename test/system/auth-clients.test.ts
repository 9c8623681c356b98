/** AUTH between a real relay and clients nobody here wrote: each mechanism with each client that has it. */
import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { createTransport } from 'nodemailer';
import { run } from '../support/child.ts';
import { programPath, skipWithout } from '../support/programs.ts';
import { RelayFixture } from '../support/relay-fixture.ts';
import { ScriptedSink, type SinkMessage } from '../support/scripted-sink.ts';

const USER = 'post=man,1';
const PASSWORD = 'pä ss"wörd';
/** What clients without UTF-8 of their own can send. */
const PLAIN_USER = { username: 'test', password: 'pa$$ word' };

let sink: ScriptedSink;
let relay: RelayFixture;
let dir: string;

before(async () => {
  dir = mkdtempSync(join(tmpdir(), 'protorelay-auth-'));
  sink = await ScriptedSink.start();
  relay = await RelayFixture.start({
    delivery: { smarthost: { host: '127.0.0.1', port: sink.port } },
    listeners: [{ host: '127.0.0.1', port: 0, auth: 'required' }],
    relay_networks: [],
    auth: {
      backends: [{ type: 'memory', users: [{ username: USER, password: PASSWORD }, PLAIN_USER] }],
      allow_without_tls: true,
      failure_delay_ms: 100,
      max_auth_attempts: 10,
    },
    log: { level: 'info', transcripts: { inbound: true } },
  });
});

after(async () => {
  // Whatever was said in this file, no log line has a secret in it, plain or encoded.
  const text = relay?.log.map((line) => JSON.stringify(line)).join('\n') ?? '';
  await relay?.destroy();
  await sink?.stop();
  rmSync(dir, { recursive: true, force: true });
  const encoded = [PLAIN_USER.password, PASSWORD, `\0${PLAIN_USER.username}\0${PLAIN_USER.password}`];
  for (const secret of [...encoded, ...encoded.map((one) => Buffer.from(one).toString('base64'))])
    assert.ok(!text.includes(secret), 'a secret is in the log');
  assert.match(text, /"auth\.succeeded"/);
});

const options = (...programs: string[]) => ({ timeout: 60_000, skip: skipWithout(...programs) });

async function arrived(from: number): Promise<SinkMessage> {
  await sink.received(from + 1);
  return sink.messages[from] as SinkMessage;
}

function assertAuthenticated(message: SinkMessage): void {
  const text = message.content.toString('latin1').replace(/\r\n[ \t]+/g, ' ');
  assert.match(text, /^Received: [^\r]* with ESMTPA id /);
}

for (const mechanism of ['PLAIN', 'LOGIN', 'CRAM-MD5']) {
  const swaks = (password: string): string[] => [
    ...['--server', `127.0.0.1:${relay.port}`, '--from', 'a@client.test', '--to', 'b@swaks.test'],
    ...['--auth', mechanism, '--auth-user', PLAIN_USER.username, '--auth-password', password],
  ];

  test(`swaks: ${mechanism}`, options('swaks'), async () => {
    const from = sink.messages.length;
    const ran = await run('swaks', swaks(PLAIN_USER.password));
    assert.equal(ran.code, 0, ran.stdout + ran.stderr);
    assert.match(ran.stdout, /235 2\.7\.0/);
    assertAuthenticated(await arrived(from));
  });

  test(`swaks: ${mechanism} with a wrong password`, options('swaks'), async () => {
    const ran = await run('swaks', swaks('wrong'));
    assert.equal(ran.code, 28, ran.stdout + ran.stderr);
    assert.match(ran.stdout, /535 5\.7\.8/);
  });

  test(`Python smtplib: ${mechanism}`, options('python3'), async () => {
    const from = sink.messages.length;
    const script = `
import smtplib, sys
port, mechanism, user, password = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
smtp = smtplib.SMTP('127.0.0.1', port, 'python.client.test')
try:
    smtp.mail('a@client.test')
except smtplib.SMTPException: pass
code, text = smtp.docmd('MAIL', 'FROM:<a@client.test>')
assert code == 503 or code == 530, (code, text)
smtp.ehlo()
assert smtp.docmd('MAIL', 'FROM:<a@client.test>')[0] == 530
smtp.user, smtp.password = user, password + 'x'
method = getattr(smtp, 'auth_' + mechanism.lower().replace('-', '_'))
for initial in (True, False):
    try:
        smtp.auth(mechanism, method, initial_response_ok=initial)
        raise SystemExit('a wrong password was taken')
    except smtplib.SMTPAuthenticationError as error:
        assert error.smtp_code == 535, error
smtp.password = password
assert smtp.auth(mechanism, method)[0] == 235
assert smtp.docmd('AUTH', 'PLAIN')[0] == 503
smtp.sendmail('a@client.test', ['b@python.test'], 'Subject: x\\r\\n\\r\\nbody\\r\\n')
smtp.quit()
`;
    const args = [String(relay.port), mechanism, PLAIN_USER.username, PLAIN_USER.password];
    const ran = await run('python3', ['-c', script, ...args]);
    assert.equal(ran.code, 0, ran.stdout + ran.stderr);
    assertAuthenticated(await arrived(from));
  });

  test(`nodemailer: ${mechanism}`, { timeout: 60_000 }, async () => {
    const from = sink.messages.length;
    const transport = (pass: string) =>
      createTransport({
        host: '127.0.0.1',
        port: relay.port,
        ignoreTLS: true,
        authMethod: mechanism,
        auth: { user: USER, pass },
      });
    await assert.rejects(transport('wrong').sendMail({ from: 'a@x.test', to: 'b@nm.test', text: 'x' }), {
      responseCode: 535,
    });
    await transport(PASSWORD).sendMail({ from: 'a@x.test', to: 'b@nm.test', text: 'x' });
    assertAuthenticated(await arrived(from));
  });

  test(`curl: ${mechanism}`, options('curl'), async () => {
    const from = sink.messages.length;
    const path = join(dir, 'curl.txt');
    writeFileSync(path, 'Subject: from curl\r\n\r\nx\r\n');
    const curl = (password: string): string[] => [
      ...['--silent', '--show-error', '--url', `smtp://127.0.0.1:${relay.port}`, '--upload-file', path],
      ...['--mail-from', 'a@client.test', '--mail-rcpt', 'b@curl.test'],
      ...['--user', `${PLAIN_USER.username}:${password}`, '--login-options', `AUTH=${mechanism}`],
    ];
    const ran = await run('curl', curl(PLAIN_USER.password));
    assert.equal(ran.code, 0, ran.stderr);
    assertAuthenticated(await arrived(from));
    assert.equal((await run('curl', curl('wrong'))).code, 67);
  });
}

for (const mechanism of ['scram-sha-256', 'cram-md5', 'plain', 'login']) {
  test(`msmtp: ${mechanism}`, options('msmtp'), async () => {
    const from = sink.messages.length;
    const config = (password: string): string => {
      const path = join(dir, 'msmtprc');
      writeFileSync(
        path,
        `account default
host 127.0.0.1
port ${relay.port}
from a@client.test
auth ${mechanism}
user ${PLAIN_USER.username}
password ${password}
tls off
`,
      );
      chmodSync(path, 0o600);
      return path;
    };
    const msmtp = (password: string) =>
      run(programPath('msmtp') as string, [`--file=${config(password)}`, 'b@msmtp.test'], {
        input: 'Subject: from msmtp\n\nx\n',
      });
    const ran = await msmtp(`"${PLAIN_USER.password}"`);
    assert.equal(ran.code, 0, ran.stderr);
    assertAuthenticated(await arrived(from));
    assert.equal((await msmtp('wrong')).code, 77);
  });
}

test('a submission server adds Date and Message-ID where they are missing, and only there', {
  timeout: 60_000,
}, async () => {
  const send = async (raw: string): Promise<string> => {
    const from = sink.messages.length;
    const transport = createTransport({
      host: '127.0.0.1',
      port: relay.port,
      ignoreTLS: true,
      auth: { user: USER, pass: PASSWORD },
    });
    await transport.sendMail({ envelope: { from: 'a@x.test', to: 'b@nm.test' }, raw });
    return (await arrived(from)).content.toString('latin1');
  };
  const bare = await send('Subject: bare\r\n\r\nDate: in the body\r\n');
  assert.match(
    bare,
    /^Received: (?:[^\r]*\r\n[ \t])*[^\r]*\r\nDate: \w{3}, \d+ \w{3} \d{4} [\d:]{8} \+0000\r\nMessage-ID: <[0-9a-z]+@relay\.test>\r\nSubject: bare\r\n\r\nDate: in the body\r\n$/,
  );
  const whole = await send('DATE: Mon, 1 Jan 2024 00:00:00 +0000\r\nmessage-id: <own@x.test>\r\n\r\nx\r\n');
  assert.match(
    whole,
    /\+0000\r\nDATE: Mon, 1 Jan 2024 00:00:00 \+0000\r\nmessage-id: <own@x\.test>\r\n\r\nx\r\n$/,
  );
});
