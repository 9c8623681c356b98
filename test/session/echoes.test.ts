/**
 * What a client sent on behind an offer that was refused (RFC 2920) is refused too, and is no error of its own: who keeps
 * to the protocol is neither cut off nor banned because it was we who had no room, or because it offered too much.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GAUGE } from '../../src/admission/gauges.ts';
import { configOf, DialogFixture, policyMemory } from './dialog-fixture.ts';

const COUNT = 60;
const settings = { relay_networks: [], relay_domains: ['here.net'] };
const recipients = Array.from({ length: COUNT }, (_, i) => `RCPT TO:<u${i}@here.net>\r\n`).join('');
const chunks = 'BDAT 2\r\nx\n'.repeat(COUNT);

/** A fixture whose bans are real, and a stranger's connection in it. */
function strange(over: object = {}) {
  const all = { ...settings, ...over };
  const f = new DialogFixture(all, { memory: policyMemory(configOf(all)) });
  const c = f.open('192.0.2.7');
  f.say(c, 'EHLO client.example\r\n');
  return { f, c };
}

type Case = [what: string, said: string, first: RegExp, over?: object, pressure?: number];
const offers: Case[] = [
  ['too big', `MAIL FROM:<a@b.net> SIZE=999999999\r\n${recipients}DATA\r\n`, /^552 5\.3\.4 /],
  ['no memory', `MAIL FROM:<a@b.net>\r\n${recipients}DATA\r\n`, /^452 4\.3\.1 /, {}, GAUGE.pressure],
  ['no BDAT either', `MAIL FROM:<a@b.net> SIZE=999999999\r\n${recipients}${chunks}`, /^552 5\.3\.4 /],
  [
    'by the policy',
    `MAIL FROM:<a@b.net>\r\n${recipients}DATA\r\n`,
    /^450 4\.7\.0 /,
    { policy: { rates: { limits: [{ count: 'messages', limit: 1, burst: 1, interval_ms: 3_600_000 }] } } },
  ],
  [
    'a chunk too long, others behind it',
    `MAIL FROM:<a@b.net>\r\nRCPT TO:<c@here.net>\r\nBDAT 1025\r\n${'x'.repeat(1025)}${chunks}`,
    /^250 2\.1\.0 Ok\r\n250 2\.1\.5 Ok\r\n552 5\.3\.4 /,
    { max_message_size: 1024 },
  ],
];

for (const [what, said, first, over, pressure] of offers)
  test(`behind an offer that is refused nothing counts as an error: ${what}`, () => {
    const { f, c } = strange(over);
    if (what === 'by the policy') f.say(c, 'MAIL FROM:<a@b.net>\r\nRSET\r\n');
    if (pressure !== undefined) Atomics.store(f.gauges, pressure, 1);
    const replies = f.say(c, said);
    assert.match(replies, first);
    assert.equal(
      (replies.match(/^503 5\.5\.1 The offer was refused/gm)?.length ?? 0) >= COUNT,
      true,
      replies.slice(0, 400),
    );
    assert.doesNotMatch(replies, /^421 /m);
    if (pressure !== undefined) Atomics.store(f.gauges, pressure, 0);
    f.nowMs += 3_600_000;
    const again = f.say(c, 'RSET\r\nMAIL FROM:<a@b.net>\r\nRCPT TO:<c@here.net>\r\nDATA\r\n');
    assert.match(again, /354 [^\r]*\r\n$/);
    assert.match(f.say(c, 'x\r\n.\r\n'), /^250 /);
    const next = f.open('192.0.2.7');
    assert.match(f.reactor.sent[next] as string, /^220 /);
  });

test('DATA behind recipients that were all refused is no error either', () => {
  const { f, c } = strange({ smtp: { max_errors: 5 }, policy: { greylist: { enabled: true } } });
  for (let i = 0; i < 20; i++)
    assert.match(
      f.say(c, `MAIL FROM:<a@b.net>\r\nRCPT TO:<u${i}@here.net>\r\nDATA\r\nRSET\r\n`),
      /^250 .*\r\n451 .*\r\n554 5\.5\.1 .*\r\n250 /,
    );
});

test('without an offer they count: RCPT, DATA and BDAT alone, and after RSET', () => {
  for (const before of [
    '',
    'MAIL FROM:<a@b.net> SIZE=999999999\r\nRSET\r\n',
    'MAIL FROM:<a@b.net> SIZE=999999999\r\nEHLO x\r\n',
  ]) {
    const { f, c } = strange();
    assert.match(
      f.say(c, `${before}${recipients}`),
      /503 5\.5\.1 Send MAIL first\r\n421 4\.7\.0 .*too many errors/,
    );
    assert.equal(f.isClosed(c), true);
  }
});

test('what is sent on behind refusals without end is cut off as other commands that bring no mail', () => {
  const { f, c } = strange({ smtp: { max_idle_commands: 50 } });
  assert.match(
    f.say(c, `MAIL FROM:<a@b.net> SIZE=999999999\r\n${recipients}`),
    /\r\n421 4\.7\.0 .*without mail/,
  );
});
