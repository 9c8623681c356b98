import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DialogFixture } from './dialog-fixture.ts';

const ALL = {
  message_id: true,
  date: true,
  feedback_id: 'esp01',
  list_id: '{campaign}.{tenant}.lists.b.example',
  cfbl_address: 'fbl@mail.b.example',
};

/** The header fields that a message gets, Received apart. */
function added(
  header: string[],
  config: object,
  client = '127.0.0.1',
): { fields: string[]; messageId: unknown } {
  const f = new DialogFixture({ attributes: { trusted_networks: ['127.0.0.1'] }, ...config });
  const c = f.open(client);
  const content = [...header, '', 'x'].join('\r\n');
  f.say(c, `HELO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n${content}\r\n.\r\n`);
  const message = f.submitted[0]?.message;
  const trace = message?.trace.replace(/^Received:.*\r\n(?:[ \t].*\r\n)*/, '') ?? '';
  return { fields: trace.split('\r\n').slice(0, -1), messageId: message?.messageId };
}

const ATTRIBUTES = ['X-ProtoRelay-Tenant: My Shop', 'X-ProtoRelay-Campaign: spring: 1'];

test('what the config adds to a message that lacks it, of its attributes', () => {
  const { fields, messageId } = added(['From: B <a@B.example>', ...ATTRIBUTES], { added_headers: ALL });
  assert.match(String(messageId), /@relay\.example\.test$/);
  assert.deepEqual(fields, [
    'Date: Fri, 2 Jan 2026 03:04:05 +0000',
    `Message-ID: <${messageId}>`,
    'Feedback-ID: spring__1:My_Shop::esp01',
    'List-Id: <spring-1.my-shop.lists.b.example>',
    'CFBL-Address: fbl@mail.b.example; report=arf',
  ]);
});

test('each has its key, and is added by itself', () => {
  const names = { message_id: 'Message-ID', date: 'Date', feedback_id: 'Feedback-ID', list_id: 'List-Id', cfbl_address: 'CFBL-Address' }; // biome-ignore format: a table
  for (const [key, name] of Object.entries(names)) {
    const { fields } = added(['From: a@b.example', ...ATTRIBUTES], { added_headers: { [key]: ALL[key as keyof typeof ALL] } }); // biome-ignore format: one line
    assert.deepEqual(fields.map((field) => field.split(':', 1)[0]), [name]); // biome-ignore format: one line
  }
  assert.deepEqual(added(['From: a@b.example', ...ATTRIBUTES], {}).fields, []);
});

test('a message keeps the fields it has', () => {
  const own = [
    'date: today',
    'Message-Id : <1@x>',
    'FEEDBACK-ID: mine',
    'List-ID: <a.b>',
    'Cfbl-Address: c@b.example',
  ];
  const { fields, messageId } = added(['From: a@b.example', ...own, ...ATTRIBUTES], { added_headers: ALL });
  assert.deepEqual([fields, messageId], [[], '1@x']);
});

test('no List-Id without what it is made of, nor for urgent mail; no CFBL-Address at the domain of another', () => {
  const config = { added_headers: { list_id: ALL.list_id, cfbl_address: ALL.cfbl_address } };
  const from = (domain: string) => `From: "a@b.example" <a@${domain}>`;
  const strange = ['X-ProtoRelay-Tenant: \u00e4\u00f6', 'X-ProtoRelay-Campaign: x'];
  const table: string[][] = [
    [from('other.example'), ATTRIBUTES[0] as string],
    [from('bb.example'), ...strange],
    [from('sub.mail.b.example'), ...ATTRIBUTES, 'X-ProtoRelay-Class: urgent'],
    ['To: nobody'],
  ];
  for (const header of table) assert.deepEqual(added(header, config).fields, [], header.join());
});

test('nobody else gets them; a listener with submission adds Date and Message-ID for anybody', () => {
  assert.deepEqual(added(['From: a@b.example'], { added_headers: ALL }, '127.0.0.9').fields, []);
  const listeners = [{ host: '127.0.0.1', port: 0, submission: true }];
  const of = (config: object, client: string): (string | undefined)[] =>
    added(['From: a@b.example'], { listeners, ...config }, client).fields.map(
      (field) => field.split(':', 1)[0],
    );
  const two = ['Date', 'Message-ID'];
  assert.deepEqual(of({ added_headers: ALL }, '127.0.0.9'), two);
  assert.deepEqual(of({ added_headers: { feedback_id: 'esp01' } }, '127.0.0.1'), [...two, 'Feedback-ID']);
});
