import assert from 'node:assert/strict';
import { test } from 'node:test';
import { keyPath } from '../../src/config/key-path.ts';

test('keys are written one way: places in lists in brackets, names of choice in quotes', () => {
  const cases: [path: (string | number)[], written: string][] = [
    [[], ''],
    [['data_dir'], 'data_dir'],
    [['listeners', 0, 'port'], 'listeners[0].port'],
    [['delivery', 'routes', 'example.com', 'host'], 'delivery.routes["example.com"].host'],
    [['auth', 'users', 'bob', 'senders', 4], 'auth.users.bob.senders[4]'],
    [['delivery', 'routes', '10'], 'delivery.routes["10"]'],
    [['delivery', 'routes', 'a"b'], 'delivery.routes["a\\"b"]'],
    [['odd key'], '["odd key"]'],
  ];
  for (const [path, written] of cases) assert.equal(keyPath(path), written);
});
