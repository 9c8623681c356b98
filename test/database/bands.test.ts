/** Actions on more entries than a slice has: each is done once, whatever the parts of a band are cut at. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { cutsOf } from '../../src/database/bands.ts';
import type { OperateAction, Selection } from '../../src/database/database.ts';
import { openConnection } from '../../src/database/sqlite/connection.ts';
import { SqliteDatabase } from '../../src/database/sqlite/sqlite-database.ts';
import { CHUNK_BYTES, createArena } from '../../src/native.ts';
import { DatabaseStorage } from '../../src/storage/database-storage.ts';

const ENTRIES = 8000;

interface Entry {
  id: string;
  destination: string;
  state: string;
  sender: string;
  due: number | null;
  waiting: number;
}

/** Most of them at one destination; some with several recipients, of whom one may be settled; some being sent. */
function entryAt(n: number): Entry & { seqs: string } {
  const hash = (n * 2654435761) % 1000;
  const recipients = 1 + (hash % 3);
  const state = hash % 97 === 0 ? 'SENDING' : hash % 7 === 0 ? 'HELD' : 'RETRY';
  return {
    id: `q${String(n).padStart(6, '0')}`,
    destination: hash < 500 ? 'big.test' : `d${hash}.test`,
    state,
    sender: hash % 2 === 0 ? 'a@x.test' : 'b@x.test',
    due: state === 'RETRY' ? 5000 + n : null,
    waiting: hash % 50 === 1 ? recipients - 1 : recipients,
    seqs: recipients === 1 ? '0' : `0-${recipients - 1}`,
  };
}

async function queueOf(entries: readonly (Entry & { seqs: string })[]) {
  const db = openConnection({
    path: ':memory:',
    sqlDir: join(import.meta.dirname, '../../config/sql/sqlite'),
  });
  const mail = db.prepare(
    `INSERT INTO mails (id, reverse_path, body, smtp_utf8, trace, size_bytes, received_at, client_address, client_helo,
       protocol, session_id, content_at, content_parts, attachments, open_rows)
     VALUES (?, ?, '7BIT', 0, '', 1, 1, '', '', '', '', 0, 0, 0, 1)`,
  );
  const row = db.prepare(
    `INSERT INTO mail_outbox (mail_id, destination, state, due_at, attempts, fence, seqs, waiting)
     VALUES (?, ?, ?, ?, 1, 1, ?, ?)`,
  );
  const recipient = db.prepare(
    `INSERT INTO mail_recipients (mail_id, seq, address, domain, class, notify, status)
     VALUES (?, ?, 'u@d.test', 'd.test', 'external', 0, ?)`,
  );
  db.exec('BEGIN');
  for (const { id, destination, state, sender, due, seqs, waiting } of entries) {
    mail.run(id, sender);
    row.run(id, destination, state, due, seqs, waiting);
    for (let seq = 0; seq <= Number(seqs.at(-1)); seq++)
      recipient.run(id, seq, seq < waiting ? 'waiting' : 'delivered');
  }
  db.exec('COMMIT');
  const arena = createArena(8 * CHUNK_BYTES, '/tmp');
  const storage = new DatabaseStorage(db, arena, { folder: '', spillThresholdBytes: 65_536, say() {} });
  const database = new SqliteDatabase(db, storage, arena, {
    file: ':memory:',
    nodeId: 'node',
    routes: { smarthost: false, routed: new Set() },
    maxMessages: null,
    keepDeliveredMs: 0,
    keepFailedMs: 0,
  });
  return { db, database };
}

const sumOf = (entries: readonly Entry[]): number => entries.reduce((sum, { waiting }) => sum + waiting, 0);

test('each entry is changed once, and what is told is what was done', async () => {
  const entries = Array.from({ length: ENTRIES }, (_, n) => entryAt(n)).filter(({ waiting }) => waiting > 0);
  const { db, database } = await queueOf(entries);
  const stored = (): Entry[] =>
    db
      .prepare(
        `SELECT mail_id AS id, destination, state, due_at AS due, waiting, reverse_path AS sender
         FROM mail_outbox o JOIN mails m ON m.id = o.mail_id WHERE waiting > 0 ORDER BY mail_id`,
      )
      .all()
      .map((row) => ({ ...row })) as unknown as Entry[];
  const isDue = ({ state }: Entry): boolean => state === 'RETRY' || state === 'PENDING';
  const steps: [OperateAction, Selection, (one: Entry) => boolean, (one: Entry) => Partial<Entry>][] = [
    ['flush', { maxAttempts: 1 }, isDue, () => ({ due: 9000 })],
    ['hold', { senders: ['A@x.test'] }, (one) => isDue(one) && one.sender === 'a@x.test', () => ({ state: 'HELD', due: null })], // biome-ignore format: one line
    ['release', { destinations: ['d*'] }, (one) => one.state === 'HELD' && one.destination.startsWith('d'), () => ({ state: 'PENDING', due: 9000 })], // biome-ignore format: one line
    [{ reroute: 'via:x:25' }, { destinations: ['big.test', 'd7*'] }, ({ state, destination }) => state !== 'SENDING' && /^big|^d7/.test(destination), ({ state, due }) => ({ destination: 'via:x:25', due: state === 'HELD' ? due : 9000 })], // biome-ignore format: one line
    [{ fail: 'no' }, {}, ({ state }) => state !== 'SENDING', ({ destination }) => ({ destination: `fail:${destination}`, state: 'PENDING', due: 9000 })], // biome-ignore format: one line
  ];
  for (const [action, selection, isMeant, change] of steps) {
    const before = stored();
    const meant = before.filter(isMeant);
    const slices: number[] = [];
    const result = await database.operate(action, selection, 9000, ({ changes }) =>
      slices.push(changes.length),
    );
    const said = JSON.stringify(action);
    assert.deepEqual([result.rows, result.recipients], [meant.length, sumOf(meant)], said);
    assert.ok(meant.length > 1000 && slices.length > 1, `${said} in slices: ${slices}`);
    const after = before.map((one) => (isMeant(one) ? { ...one, ...change(one) } : one));
    assert.deepEqual(stored(), after, said);
    const due = (rows: Entry[]) => Map.groupBy(rows.filter(isDue), ({ destination }) => destination);
    const [dueBefore, dueAfter] = [due(before), due(after)];
    for (const { destination, rows } of result.changes)
      assert.equal(
        rows,
        (dueAfter.get(destination)?.length ?? 0) - (dueBefore.get(destination)?.length ?? 0),
        `${said} ${destination}`,
      );
  }
  await database.close();
});

test('a part of an action ends with a band, from whose end the next goes on', async () => {
  const { database } = await queueOf(Array.from({ length: ENTRIES }, (_, n) => entryAt(n)));
  let [rows, parts] = [0, 0];
  for (let after: string | null = ''; after !== null; parts++) {
    const part = await database.operate('flush', {}, 9000, undefined, { after, forMs: 0 });
    rows += part.rows;
    after = part.next;
  }
  const due = Array.from({ length: ENTRIES }, (_, n) => entryAt(n)).filter(({ state }) => state === 'RETRY');
  assert.equal(rows, due.length);
  assert.ok(parts > 1);
  await database.close();
});

test('a band is cut between destinations, into parts of a size', () => {
  const counts = (...sizes: number[]) => sizes.map((n, i) => ({ destination: `d${i}`, n }));
  const last = '\u{10ffff}';
  assert.deepEqual(cutsOf([], 10), ['', ''], 'nothing is meant');
  assert.deepEqual(cutsOf(counts(3, 4), 10), ['', last]);
  assert.deepEqual(cutsOf(counts(6, 6, 6, 6), 10), ['', 'd1', last]);
  assert.deepEqual(cutsOf(counts(30), 10), ['', last], 'one destination stays together');
  assert.deepEqual(cutsOf(counts(1, 29, 1), 10), ['', 'd1', last]);
  assert.deepEqual(cutsOf(counts(100, 100, 100), 10), ['', 'd0', 'd1', last], 'not into more parts');
});
