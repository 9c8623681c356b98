import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { askOn } from '../../src/cli/ask.ts';

test('a question is agreed to with y or yes; Ctrl-C, Ctrl-D and everything else is no', {
  timeout: 10_000,
}, async () => {
  for (const [keys, agreed] of [
    ['y\r', true],
    ['YES\r', true],
    ['\r', false],
    ['n\r', false],
    ['yesterday\r', false],
    ['\x03', false],
    ['\x04', false],
  ] as const) {
    const [input, output] = [new PassThrough(), new PassThrough()];
    const asked = askOn(input, output, 'Go on? ');
    input.write(keys);
    assert.equal(await asked, agreed, JSON.stringify(keys));
    assert.match(String(output.read()), /Go on\? /);
  }
  const ended = new PassThrough();
  ended.end();
  assert.equal(await askOn(ended, new PassThrough(), 'Go on? '), false);
});
