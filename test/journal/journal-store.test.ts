import assert from 'node:assert/strict';
import {
  closeSync,
  copyFileSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import type { RelayError } from '../../src/base/errors.ts';
import { encodeSegmentHead } from '../../src/journal/format.ts';
import { segmentPath } from '../../src/journal/segments.ts';
import { CONTENT_STATE, NO_CONTENT } from '../../src/native.ts';
import { diskError, type FixtureOptions, JournalFixture } from './fixture.ts';

describe('journal store', () => {
  let f: JournalFixture;
  beforeEach(() => {
    f = new JournalFixture();
  });
  afterEach(() => f.close());

  const anew = (options: FixtureOptions): void => {
    f.close();
    f = new JournalFixture(options);
  };
  const files = (): string[] => readdirSync(f.folder).filter((name) => name !== 'journal.json');
  const refused = (code: string) => (error: RelayError) => {
    assert.equal(error.code, code, error.message);
    assert.ok(error.message.includes(f.folder), 'names the folder');
    return true;
  };
  /** Overwrites bytes of a file. */
  const damage = (path: string, at: number): void => {
    const fd = openSync(path, 'r+');
    writeSync(fd, Buffer.from('damage!'), 0, 7, at);
    closeSync(fd);
  };
  const placeOf = (path: string, text: string): number => readFileSync(path).indexOf(text);

  it('gives back after a crash what was appended, in order, to each shard its own', () => {
    f.append(['a', 'b'], 0);
    f.append(['c'], 1);
    f.append(['d'], 0);
    const opened = f.crash();
    assert.deepEqual(
      opened.waiting.map(([shard, { records, oldestMs }]) => [shard, records, oldestMs]),
      [
        [0, 3, 1000],
        [1, 1, 1000],
      ],
    );
    assert.equal(opened.newestQueueId, 'd');
    assert.deepEqual([f.ids(f.read(0)), f.ids(f.read(1)), f.ids(f.read(2))], [['a', 'b', 'd'], ['c'], []]);
    assert.deepEqual([opened.lost, opened.tailBytes], [[], 0]);
  });

  it('reads on where it stopped, and to what came meanwhile', () => {
    f.append(['a', 'b', 'c']);
    const first = f.read(0, { limit: 2 });
    assert.deepEqual([f.ids(first), first.end], [['a', 'b'], false]);
    const second = f.read(0, { after: first.upTo, from: first.next });
    assert.deepEqual([f.ids(second), second.end], [['c'], true]);
    f.append(['d']);
    assert.deepEqual(f.ids(f.read(0, { after: second.upTo, from: second.next })), ['d']);
  });

  it('stops where the arena has no room, and goes on there', () => {
    f.append(['a', 'b', 'c']);
    const store = f.arena.store.bind(f.arena);
    let room = 2;
    f.arena.store = (bytes) => (room-- > 0 ? store(bytes) : NO_CONTENT);
    const first = f.read();
    assert.deepEqual([f.ids(first), first.short, first.end], [['a', 'b'], true, false]);
    room = 9;
    assert.deepEqual(f.ids(f.read(0, { after: first.upTo, from: first.next })), ['c']);
  });

  it('long content comes back as a file', () => {
    anew({ inMemoryBytes: 100 });
    const long = 'long'.repeat(50_000);
    f.append([long]);
    const { entries } = f.read();
    const { content } = entries[0] as { content: number };
    assert.notEqual(f.arena.file(content), null);
    assert.equal(f.arena.bytes(content).toString(), long);
    f.arena.release(content);
  });

  it('skips what a shard has, but for what is pending there', () => {
    const { firstSeq } = f.append(['a', 'b', 'c', 'd']);
    const mark = { seq: firstSeq + 2, pending: [firstSeq + 1] };
    f.crash();
    assert.equal(f.store.begin(0, mark).records, 2);
    assert.deepEqual(f.ids(f.read(0, { after: mark.seq, pending: mark.pending })), ['b', 'd']);
  });

  it('numbers never repeat, also when the end of the journal is forgotten', () => {
    const { firstSeq } = f.append(['a', 'b']);
    const path = segmentPath(f.folder, 1);
    writeFileSync(path, readFileSync(path).subarray(0, 4096));
    f.crash();
    assert.ok(f.append(['c']).firstSeq > firstSeq + 1);
  });

  it('a session that gave up before is left out, one that gives up meanwhile is voided', () => {
    const { waiting, committing, withdrawn, abandoned } = CONTENT_STATE;
    const contents = ['a', 'b', 'c'].map((id) => f.arena.store(Buffer.from(id)));
    f.arena.moveState(contents[0] as number, waiting, withdrawn);
    f.before = (operation) => {
      if (operation === 'sync') f.arena.moveState(contents[1] as number, committing, abandoned);
    };
    const metas = ['a', 'b', 'c'].map((id) => JSON.stringify([id, '', 0, 1, 1000]));
    f.append(['z']); // the segment is there
    const appended = f.store.append({ kind: 'append', metas, contents, shards: [0, 0, 0], withdrawals: [] });
    assert.deepEqual([appended.withdrawn, appended.abandoned], [[0], [1]]);
    f.append([], 0, [appended.firstSeq + 1, 0]);
    const live = f.read();
    assert.deepEqual(f.ids(live), ['z', 'c']);
    f.crash();
    assert.deepEqual(f.ids(f.read()), ['z', 'c'], 'after a crash, too');
  });

  it('deletes segments all shards are done with, keeps the others and the newest', () => {
    anew({ segmentBytes: 8192 });
    const seqs = ['a', 'b', 'c', 'd'].map((id, i) => f.append([id], i % 2).firstSeq);
    assert.equal(files().length, 4);
    f.store.passed([[0, { seq: seqs[2] as number, pending: [] }]], false);
    assert.deepEqual(files(), ['0000000002.segment', '0000000004.segment']);
    const { bytes, segments } = f.store.passed([[1, { seq: seqs[3] as number, pending: [] }]], true);
    assert.deepEqual([files(), bytes, segments], [['0000000004.segment'], 8192, 1]);
    assert.deepEqual(
      f.crash().waiting.map(([, { records }]) => records),
      [0],
      'the marks were saved',
    );
  });

  it('a pending message keeps its segment', () => {
    anew({ segmentBytes: 8192 });
    const [a, b] = [f.append(['a']).firstSeq, f.append(['b']).firstSeq];
    f.store.passed([[0, { seq: b, pending: [a] }]], false);
    assert.equal(files().length, 2);
    assert.deepEqual(f.ids(f.read(0, { after: b, pending: [a] })), ['a']);
  });

  it('a failed fsync: 451, nothing of it comes back, and that segment is never written again', () => {
    f.append(['a']);
    let fail = true;
    f.before = (operation) => {
      if (operation === 'sync' && fail) {
        fail = false;
        throw diskError('EIO');
      }
    };
    assert.throws(() => f.append(['lost']), refused('storage_unavailable'));
    const size = statSync(segmentPath(f.folder, 1)).size;
    f.append(['b']);
    assert.equal(statSync(segmentPath(f.folder, 1)).size, size);
    assert.deepEqual(files(), ['0000000001.segment', '0000000002.segment']);
    assert.deepEqual(f.ids(f.read()), ['a', 'b']);
    f.crash();
    assert.deepEqual(f.ids(f.read()), ['a', 'b']);
  });

  it('a failed fsync on a disk that then refuses everything, too: nothing of it comes back', () => {
    f.append(['a']);
    let failing = true;
    let begun = false;
    f.before = (operation) => {
      if (operation === 'sync') begun = true;
      if (failing && begun) throw diskError('EIO');
    };
    assert.throws(() => f.append(['lost']), refused('storage_unavailable'));
    assert.throws(() => f.append(['lost too']), refused('storage_unavailable'));
    failing = false;
    f.append(['b']);
    f.crash();
    assert.deepEqual(f.ids(f.read()), ['a', 'b']);
    assert.deepEqual(f.opened.lost, []);
  });

  it('a full disk: 452, and the segment goes on when there is room', () => {
    f.append(['a']);
    f.before = (operation) => {
      if (operation === 'write') throw diskError('ENOSPC');
    };
    assert.throws(() => f.append(['no room']), refused('storage_full'));
    f.before = () => {};
    f.append(['b']);
    assert.deepEqual(files(), ['0000000001.segment']);
    f.crash();
    assert.deepEqual(f.ids(f.read()), ['a', 'b']);
  });

  it('a segment that cannot be begun: 451, and the next append tries again', () => {
    f.before = (operation) => {
      if (operation === 'create') throw diskError('EROFS');
    };
    assert.throws(() => f.append(['x']), refused('storage_unavailable'));
    f.before = () => {};
    f.append(['a']);
    assert.deepEqual(f.ids(f.read()), ['a']);
  });

  it('max_mb is a limit: beyond it 452; withdrawals still go in', () => {
    anew({ maxBytes: 26_000, segmentBytes: 8192 });
    const { firstSeq } = f.append(['a']);
    f.append(['b']);
    assert.throws(() => f.append(['c'.repeat(6000)]), refused('storage_full'));
    f.append([], 0, [firstSeq, 0]);
    f.store.passed([[0, { seq: firstSeq, pending: [] }]], false);
    f.append(['d']);
    assert.deepEqual(f.ids(f.read(0, { after: firstSeq })), ['b', 'd']);
  });

  it('damage in the middle: told with what is known, the rest is read, the segment kept', () => {
    anew({ segmentBytes: 8192 });
    f.append(['aaaaaaaa']);
    const seq = f.append(['bbbbbbbb', 'cccccccc']).firstSeq;
    f.append(['dddddddd']);
    const path = segmentPath(f.folder, 2);
    // The content, not the meta, which holds the same text before it.
    damage(
      path,
      placeOf(path, 'bbbbbbbb') +
        readFileSync(path)
          .subarray(placeOf(path, 'bbbbbbbb') + 8)
          .indexOf('bbbbbbbb') +
        8,
    );
    f.crash();
    const back = f.read();
    assert.deepEqual(f.ids(back), ['aaaaaaaa', 'cccccccc', 'dddddddd']);
    assert.deepEqual(
      back.lost.map(({ segment, queueId }) => [segment, queueId]),
      [[path, 'bbbbbbbb']],
    );
    assert.deepEqual(back.passed, [seq]);
    f.store.passed([[0, { seq: back.upTo, pending: [] }]], false);
    assert.ok(files().includes('0000000002.segment.damaged'));
  });

  it('a damaged frame head: the frames after it are read', () => {
    f.append(['a']);
    f.append(['b']);
    f.append(['c']);
    damage(segmentPath(f.folder, 1), 8192);
    const { lost } = f.crash();
    assert.deepEqual(f.ids(f.read()), ['a', 'c']);
    assert.deepEqual(
      lost.map(({ at, bytes }) => [at, bytes]),
      [[8192, 4096]],
    );
  });

  it('a damaged segment head loses nothing', () => {
    anew({ segmentBytes: 8192 });
    f.append(['a']);
    f.append(['b']);
    damage(segmentPath(f.folder, 1), 0);
    f.crash();
    assert.deepEqual(f.ids(f.read()), ['a', 'b']);
  });

  it('a segment that was just begun when the power went is passed over', () => {
    f.append(['a']);
    writeFileSync(segmentPath(f.folder, 2), '');
    f.crash();
    f.append(['b']);
    assert.deepEqual(f.ids(f.read()), ['a', 'b']);
  });

  it('refuses a journal of another version, and of another journal', () => {
    f.append(['a']);
    const path = segmentPath(f.folder, 2);
    const head = { version: 9, journal: '00'.repeat(8), number: 2, firstSeq: 1, previousEnd: 0 };
    writeFileSync(path, encodeSegmentHead(head));
    assert.throws(
      () => f.crash(),
      (error: RelayError) => {
        assert.equal(error.code, 'schema_unknown');
        assert.match(error.message, /journal version 9, this relay knows version 1/);
        return true;
      },
    );
    writeFileSync(path, encodeSegmentHead({ ...head, version: 1 }));
    assert.throws(() => f.crash(), refused('data_dir_unusable'));
    renameSync(path, join(f.folder, 'aside'));
    writeFileSync(join(f.folder, 'journal.json'), '{"version":9}');
    assert.throws(() => f.crash(), refused('schema_unknown'));
    writeFileSync(join(f.folder, 'journal.json'), '{"ver');
    assert.throws(() => f.crash(), refused('data_dir_unusable'));
  });

  it('a lost journal.json is made again from the segments', () => {
    const { journal } = f.opened.state;
    f.append(['a']);
    renameSync(join(f.folder, 'journal.json'), join(f.folder, 'aside'));
    assert.equal(f.crash().state.journal, journal);
    assert.deepEqual(f.ids(f.read()), ['a']);
  });

  it('one that was not opened is not changed', () => {
    f.append(['a']);
    const { journal } = f.opened.state;
    f.unopened().close(true);
    assert.equal(f.crash().state.journal, journal);
    assert.deepEqual(f.ids(f.read()), ['a']);
  });

  it('remembers number and queues over a restart; when it is removed nothing stays', () => {
    f.store.remember({ slot: { number: 5, seenAtMs: 7 }, queues: { 0: 'q' } });
    const { slot, queues } = f.restart().state;
    assert.deepEqual([slot, queues], [{ number: 5, seenAtMs: 7 }, { 0: 'q' }]);
    f.append(['a']);
    f.store.close(true);
    assert.deepEqual(readdirSync(f.folder), []);
  });

  describe('compaction', () => {
    const kilo = (name: string): string => name + 'x'.repeat(3000);
    /** Segments with one message for shard 1 and several for shard 0, which is done with. */
    const fill = (): number => {
      anew({ maxBytes: 140_000, segmentBytes: 32_768 });
      let last = 0;
      for (let i = 0; i < 4; i++) {
        f.append([`dead${i}`], 1);
        last = f.append([kilo('a'), kilo('b'), kilo('c')], 0).firstSeq + 2;
      }
      return last;
    };
    const compactAll = (): void => {
      for (let i = 0; f.store.compact(); i++) assert.ok(i < 100);
    };

    it('gives back the room that a few messages of a dead shard hold', () => {
      const seq = fill();
      const { bytes, compactable } = f.store.passed([[0, { seq, pending: [] }]], false);
      assert.equal(compactable, true);
      compactAll();
      assert.ok(f.store.bytes < bytes * 0.7, `${f.store.bytes} of ${bytes}`);
      assert.deepEqual(f.ids(f.read(1)), ['dead0', 'dead1', 'dead2', 'dead3']);
      f.crash();
      assert.deepEqual(f.ids(f.read(1)), ['dead0', 'dead1', 'dead2', 'dead3']);
      assert.deepEqual(f.opened.lost, []);
      assert.equal(f.append(['new'], 1).withdrawn.length, 0);
    });

    it('a reader that stood in the segment reads on', () => {
      const seq = fill();
      const first = f.read(1, { limit: 1 });
      assert.deepEqual(f.ids(first), ['dead0']);
      f.store.passed([[0, { seq, pending: [] }]], false);
      compactAll();
      const rest = f.read(1, { after: first.upTo, from: first.next });
      assert.deepEqual(f.ids(rest), ['dead1', 'dead2', 'dead3']);
    });

    it('one that was cut off leaves everything as it was', () => {
      const seq = fill();
      f.store.passed([[0, { seq, pending: [] }]], false);
      f.before = (operation) => {
        if (operation === 'rename') throw diskError('EIO');
      };
      assert.throws(() => compactAll(), refused('storage_unavailable'));
      f.before = () => {};
      copyFileSync(segmentPath(f.folder, 1), `${segmentPath(f.folder, 1)}.compact`);
      f.crash();
      assert.ok(!files().some((name) => name.endsWith('.compact')));
      assert.deepEqual(f.ids(f.read(1)), ['dead0', 'dead1', 'dead2', 'dead3']);
    });
  });
});
