/**
 * Controls, marks that turn the direction of writing and line separators in every field a stranger fills: no output shows
 * one raw (log, events, commands, reports), and JSON still has the very text.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { MessageAnswer } from '../../src/control/queue-answers.ts';
import { run } from '../support/child.ts';
import { fate } from '../support/fates.ts';
import { freePort } from '../support/free-port.ts';
import { MAIN, RelayFixture } from '../support/relay-fixture.ts';
import { ScriptedSink } from '../support/scripted-sink.ts';
import { Talk } from '../support/talk.ts';

const ODD = '\u009b2J\u202e\u2028\u0085\u200f\u2066';
const ESC = '\x1b[2J\x07';
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
const RAW = /[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]/;
const xtext = (text: string): string => Buffer.from(text).toString('hex').toUpperCase().replace(/../g, '+$&');
const CONTENT = Buffer.from(
  `Subject: s${ODD}${ESC}\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n` +
    `--b\r\nContent-Type: application/x-y; name="n${ODD}.txt"\r\n\r\nx\r\n--b--\r\n`,
);

for (const format of ['json', 'text'])
  test(`foreign text in every field, log as ${format}`, { timeout: 60_000 }, async (t) => {
    const sink = await ScriptedSink.start({ greeting: `220 g${ODD}${ESC} ESMTP` });
    t.after(() => sink.stop());
    const port = await freePort();
    const relay = await RelayFixture.start({
      listeners: [{ host: '127.0.0.1', port, auth: 'optional' }],
      auth: {
        backends: [{ type: 'memory', users: [{ username: 'u', password: 'p' }] }],
        allow_without_tls: true,
        failure_delay_ms: 0,
      },
      policy: { xclient_networks: ['127.0.0.1'] },
      relay_networks: ['127.0.0.1', '192.0.2.7'],
      index_attachments: true,
      delivery: { smarthost: { host: '127.0.0.1', port: sink.port } },
      log: { level: 'debug', format, transcripts: { inbound: true } },
    });
    t.after(() => relay.destroy());
    const talk = await Talk.open({ port, host: '127.0.0.1' });
    for (const line of [
      `EHLO e${ODD}`,
      'EHLO client.test',
      `XCLIENT LOGIN=${xtext(`l${ODD}`)}${ODD}`,
      `XCLIENT ADDR=192.0.2.7 NAME=${xtext('n\u202e.test')} HELO=${xtext(`h${ODD}`)}`,
      `XCLIENT ADDR=192.0.2.7 NAME=${xtext('n\u202e\u2028.test')}`,
      'EHLO client.test',
      `AUTH PLAIN ${Buffer.from(`\0u${ODD}\0p`).toString('base64')}`,
      `F${ODD}${ESC} x`,
      `NOOP ${ODD}${ESC}`,
      `VRFY v${ODD}`,
      `MAIL FROM:<a@b.test> X${ODD}${ESC}=1`,
      `MAIL FROM:<a${ESC}@b.test>`,
      `MAIL FROM:<a@b.test> ENVID=${ODD}`,
    ])
      await talk.say(line);
    const from = `s${ODD}@b.test`;
    const [deferred, bounced] = [`defer-450+${ODD}@d.test`, `bounce-550+${ODD}@d.test`];
    const mail = { from, mailParameters: ' SMTPUTF8 BODY=8BITMIME', content: CONTENT };
    const queueId = await talk.accepted({ ...mail, to: deferred });
    await talk.accepted({ ...mail, to: bounced });
    await talk.quit();
    const event = await fate(relay.events, deferred, 'deferred');
    await fate(relay.events, bounced, 'bounced');
    const report = await fate(relay.events, from, 'delivered');
    assert.deepEqual([event.sender, report.recipient], [from, from], 'JSON has the very text');

    const outputs = new Map<string, string>();
    for (const name of readdirSync(join(relay.dataDir, 'events')))
      if (name.endsWith('.jsonl'))
        outputs.set(name, readFileSync(join(relay.dataDir, 'events', name), 'utf8'));
    for (const args of [
      ['list'],
      ['show', queueId],
      ['stats'],
      ['show', `no${ODD}${ESC}`],
      ['delete', `no${ODD}`],
    ])
      for (const more of [[], ['--json']]) {
        const ran = await relay.queue(...args, ...more);
        outputs.set(['queue', ...args, ...more].join(' '), ran.stdout + ran.stderr);
        if (args[0] === 'show' && args[1] === queueId && more.length > 0) {
          const shown = JSON.parse(ran.stdout) as MessageAnswer;
          assert.deepEqual([shown.sender, shown.recipients[0]?.recipient], [from, deferred]);
        }
      }
    for (const args of [
      ['ban', 'list'],
      ['ban', 'delete', `n${ODD}${ESC}`],
      [`no${ODD}${ESC}`, 'x'],
    ]) {
      const ran = await run(process.execPath, [MAIN, ...args, '-c', relay.configPath]);
      outputs.set(args.join(' '), ran.stdout + ran.stderr);
    }
    relay.configure({ [`k${ODD}`]: `v${ODD}${ESC}`, hostname: `h${ODD}` });
    const check = await run(process.execPath, [MAIN, 'config', 'check', relay.configPath]);
    outputs.set('config check', check.stdout + check.stderr);
    const told = sink.messages.find(({ from: sender }) => sender === '')?.content.toString('utf8') ?? '';
    outputs.set(
      'report',
      told.slice(told.indexOf('Date:'), told.indexOf('Content-Description: Undelivered')),
    );
    outputs.set('log', relay.rawLog.join('\n'));
    for (const [name, text] of outputs) {
      assert.ok(text.length > 0, name);
      const found = RAW.exec(text.replaceAll('\r\n', '\n'));
      const around = JSON.stringify(
        text.slice(Math.max(0, (found?.index ?? 0) - 80), (found?.index ?? 0) + 40),
      );
      assert.equal(found, null, `${name}: U+${found?.[0].charCodeAt(0).toString(16)} in ${around}`);
    }
    assert.ok(
      relay.rawLog.some((line) => line.includes('session.command')),
      'transcripts are on',
    );
  });
