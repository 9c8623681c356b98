/** What a session reads of a content's MIME structure, and that nobody behind it has to read it again. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import type { Attachment } from '../../src/mail/message.ts';
import { attachmentsIn } from '../../src/protocol/mime/attachments.ts';
import { FakeArena } from '../persistence/fake-arena.ts';
import { QueueFixture } from '../persistence/fixture.ts';
import { DialogFixture } from './dialog-fixture.ts';

const content = `Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: image/png; name=p.png\r\n\r\n${`${'P'.repeat(70)}\r\n`.repeat(2000)}--b--\r\n`;
const expected: Attachment[] = [
  { name: 'p.png', type: 'image/png', sizeBytes: 144_000 - 2, offset: content.indexOf('PPP') },
];

function submittedWith(settings: object): Attachment[] | undefined {
  const fixture = new DialogFixture({ ...settings });
  const connection = fixture.open();
  for (const line of ['EHLO c.example', 'MAIL FROM:<a@c.example>', 'RCPT TO:<b@d.example>', 'DATA'])
    fixture.say(connection, `${line}\r\n`);
  fixture.say(connection, `${content}.\r\n`);
  return fixture.submitted[0]?.message.attachments;
}

test('a message brings its attachments along, unless they are not wanted', () => {
  assert.deepEqual(submittedWith({}), expected);
  assert.equal(submittedWith({ index_attachments: false }), undefined);
});

test('a content in a file is read there, and one that cannot be read has none', () => {
  const queue = new QueueFixture();
  const bytes = Buffer.from(content);
  const spilled = queue.arena.spill(bytes, queue.spillDir);
  assert.deepEqual(attachmentsIn(queue.arena, spilled), expected);
  assert.deepEqual(attachmentsIn(queue.arena, queue.arena.store(bytes)), expected);
  const broken = new FakeArena();
  broken.head = () => {
    throw new Error('EIO');
  };
  assert.deepEqual(attachmentsIn(broken, broken.spill(bytes, queue.spillDir)), []);
  void queue.close();
});

test('nothing reads the structure of a content where a commit is made for many', () => {
  const committing = [
    'src/persistence',
    'src/database',
    'src/database/sqlite',
    'src/database/mysql',
    'src/journal',
  ];
  const readers = committing
    .flatMap((folder) => readdirSync(folder).map((name) => `${folder}/${name}`))
    .filter((file) => file.endsWith('.ts') && readFileSync(file, 'utf8').includes('/mime/'));
  assert.deepEqual(readers, []);
});
