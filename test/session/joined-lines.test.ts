/**
 * A client that says more than it may: every prefix of a dialog and any further line in one packet, the dialog before it
 * in steps or in the same packet, and a close or a reset behind it. Real reactor, real sessions, in the clear and over
 * TLS. The process lives, later clients are served, and no chunk, descriptor or reference stays behind.
 *
 * `JOINED=all ./build.sh test test/session/joined-lines.test.ts` plays every case, else each thirteenth.
 */
import assert from 'node:assert/strict';
import { connect, type Socket } from 'node:net';
import { test } from 'node:test';
import { connect as tlsConnect } from 'node:tls';
import { LOCALHOST, serverSlot } from '../native/tls-rig.ts';
import { countDescriptors } from '../support/descriptors.ts';
import { ReactorFixture, TcpClient } from './reactor-fixture.ts';

const ENVELOPE = ['EHLO c.example', 'MAIL FROM:<a@b.example>', 'RCPT TO:<c@d.example>'];
const DIALOGS: string[][] = [
  [...ENVELOPE, 'DATA', 'Subject: x\r\n\r\nbody\r\n.', 'MAIL FROM:<>'],
  [...ENVELOPE, 'BDAT 4\r\nabcd', 'BDAT 0', 'BDAT 0 LAST'],
  [...ENVELOPE, 'RSET', 'RSET'],
  ['EHLO c.example', 'AUTH LOGIN', 'YWxpY2U=', 'bm90IGl0'],
  ['EHLO c.example', 'AUTH PLAIN', '*'],
  ['EHLO c.example', 'STARTTLS'],
];
const FURTHER = [
  '', 'NOOP', 'QUIT', 'RSET', 'DATA', 'DATA\r\nx\r\n.', 'BDAT 3 LAST\r\nabc', 'BDAT 9\r\nabc', 'BDAT 99999999999 LAST',
  'BDAT x', 'MAIL FROM:<a@b.example>', 'RCPT TO:<c@d.example>', 'EHLO d.example', 'HELO d', 'STARTTLS', 'AUTH PLAIN AGEAYg==',
  'AUTH PLAIN-PLUS', '*', '.', '..', 'a\nb', '\u0000', '\u00ff', 'x'.repeat(3000), 'XCLIENT ADDR=192.0.2.1', 'VRFY a', 'HELP',
  'PROXY UNKNOWN', '\u0016\u0003\u0001\u0002\u0000\u0001', `${'NOOP\r\n'.repeat(600)}NOOP`,
]; // biome-ignore format: one line a place
const ENDINGS = ['stays', 'end', 'reset'] as const;

interface Case {
  before: string[];
  joined: string;
  ending: (typeof ENDINGS)[number];
}

function* cases(): Generator<Case> {
  for (const dialog of DIALOGS)
    for (let at = 0; at <= dialog.length; at++)
      for (const further of FURTHER)
        for (const steps of [true, false])
          for (const ending of ENDINGS) {
            const prefix = dialog.slice(0, at);
            const before = steps ? prefix.slice(0, -1) : [];
            const joined = [...(steps ? prefix.slice(-1) : prefix), further, ''].join('\r\n');
            yield { before, joined, ending };
          }
}

async function open(fixture: ReactorFixture, tls: boolean): Promise<Socket> {
  const to = { host: '127.0.0.1', port: fixture.port };
  const socket = tls
    ? tlsConnect({ ...to, servername: 'localhost', ca: LOCALHOST.certificate })
    : connect({ ...to, noDelay: true });
  await new Promise((done, fail) => socket.once(tls ? 'secureConnect' : 'connect', done).once('error', fail));
  socket.on('error', () => {});
  return socket;
}

async function play(fixture: ReactorFixture, { before, joined, ending }: Case, tls: boolean): Promise<void> {
  const socket = await open(fixture, tls);
  const closed = new Promise((done) => socket.once('close', done));
  const client = new TcpClient(socket, fixture);
  await client.reply();
  for (const line of before) {
    await client.send(`${line}\r\n`);
    await client.reply();
  }
  const written = new Promise((done) => socket.write(joined, 'latin1', done));
  if (ending === 'end') socket.end();
  if (ending === 'reset' && !tls) socket.resetAndDestroy();
  else if (ending === 'reset') socket.destroy();
  await Promise.race([written, closed]);
  // A reply, an end, or nothing at all where the line is no end of anything.
  await Promise.race([client.reply(), closed, new Promise((done) => setTimeout(done, 15))]);
  socket.destroy();
  await closed;
}

for (const tls of [false, true]) {
  test(`further lines at any point, ${tls ? 'over TLS' : 'in the clear'}`, { timeout: 300_000 }, async () => {
    const noneLeft = countDescriptors();
    const listener = { host: '127.0.0.1', port: 0, auth: 'optional', tls: tls ? 'implicit' : 'optional' };
    const fixture = new ReactorFixture(
      {
        listeners: [listener],
        tls: { cert_file: 'loaded-already.pem' },
        auth: {
          backends: [{ type: 'memory', users: [{ username: 'test', password: 'pass' }] }],
          allow_without_tls: true,
          failure_delay_ms: 0,
        },
      },
      { host: '127.0.0.1', port: 0 },
      serverSlot(),
    );
    const all = process.env.JOINED === 'all';
    const chosen = [...cases()].filter((_, i) => all || i % 13 === (tls ? 3 : 0));
    while (chosen.length > 0) await Promise.all(chosen.splice(0, 12).map((one) => play(fixture, one, tls)));
    const last = new TcpClient(await open(fixture, tls), fixture);
    assert.match(await last.reply(), /^220 /);
    last.destroy();
    await fixture.finish();
    await noneLeft();
  });
}
