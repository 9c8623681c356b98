/** Files with limits at providers: how an own one lies over the shipped one, and what is refused, with file and line. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { parseJsonc } from '../../src/config/jsonc.ts';
import { toValue } from '../../src/config/source.ts';
import { mergePatch } from '../../src/shaping/merge-patch.ts';
import { limitsOfSource } from '../../src/shaping/shaping-data.ts';
import { loadShaping, SHIPPED_SHAPING } from '../../src/shaping/shaping-file.ts';

const dir = mkdtempSync(join(tmpdir(), 'shaping-'));
after(() => rmSync(dir, { recursive: true, force: true }));
const OWN = join(dir, 'own.json');

const KNOWN = {
  sources: [{ name: 'a1' }, { name: 'a2' }, { name: 'a3' }],
  pools: [
    { name: 'warm', members: [{ source: 'a1' }, { source: 'a2' }] },
    { name: 'other', members: [{ source: 'a2' }] },
  ],
};

function load(own: string): ReturnType<typeof loadShaping> {
  writeFileSync(OWN, own);
  return loadShaping({ file: SHIPPED_SHAPING, overrides_file: OWN, rollup: 'mx_set' }, KNOWN);
}

function problems(own: string): string[] {
  try {
    load(own);
    return [];
  } catch (error) {
    assert.equal((error as { code?: string }).code, 'config_invalid');
    return (error as Error).message.split('\n').map((line) => line.replaceAll(`${OWN}:`, ''));
  }
}

test('each number of the shipped file has its source and date, and each provider the start values', () => {
  const { data, originOf } = loadShaping({ file: SHIPPED_SHAPING, overrides_file: '', rollup: 'mx_set' });
  const shown = data.providers.map(
    ({ name, limits }) => `${name} ${limits.max_connections}/${limits.messages_per_connection}`,
  );
  assert.deepEqual(shown, [
    'google 5/50',
    'yahoo 10/20',
    'microsoft 5/50',
    'office365 5/50',
    'apple 10/5',
    'comcast 25/1000',
    'gmx 4/20',
    'mail_com 10/100',
    'orange 2/100',
    'mimecast 10/100',
    'barracuda 10/15',
    'qq 4/8',
    'netease 4/7',
    'yahoo_jp 2/20',
    'kpn 10/10',
    'cox 10/100',
  ]);
  assert.deepEqual(data.limits, { max_connections: 10, messages_per_connection: 100 });
  for (const { name, limits } of [{ name: '', limits: data.limits }, ...data.providers])
    for (const limit of Object.keys(limits)) {
      const origin = originOf(name, limit);
      assert.match(origin?.source ?? '', /^https?:\/\//, `${name} ${limit}`);
      assert.match(origin?.asOf ?? '', /^20\d\d-\d\d-\d\d$/, `${name} ${limit}`);
    }
});

test('an own file changes what it names, takes away what is null, and adds providers', () => {
  const { data, originOf } = load(`{
    "default": { "messages_per_connection": null, "messages_per_day": 1000 },
    "providers": {
      "google": { "max_connections": 2, "total_messages_per_h": 500,
        "retry": { "delays_ms": [1000, 2000] } },
      "qq": null,
      "mine": { "match": { "domain": ["example.com"] }, "max_connections": { "value": 1, "source": "their desk", "as_of": "2026-11-30" } }
    } }`);
  const of = (name: string) => data.providers.find((one) => one.name === name);
  assert.deepEqual(of('google')?.limits, {
    max_connections: 2,
    messages_per_connection: 50,
    messages_per_day: 1000,
    tls: 'required',
    retry: { delays_ms: [1000, 2000] },
  });
  assert.deepEqual(of('google')?.total, { messages_per_h: 500 });
  assert.deepEqual(of('mine')?.limits, { max_connections: 1, messages_per_day: 1000 });
  assert.equal(of('qq'), undefined);
  const place = (provider: string, limit: string) => {
    const origin = originOf(provider, limit);
    return origin && `${origin.place.file === OWN ? 'own' : 'shipped'}:${origin.place.line} ${origin.source}`;
  };
  assert.equal(place('google', 'max_connections'), 'own:4 ');
  assert.match(place('google', 'messages_per_connection') ?? '', /^shipped:\d+ https:/);
  assert.equal(place('google', 'messages_per_day'), 'own:2 ');
  assert.equal(place('mine', 'max_connections'), 'own:7 their desk');
  assert.equal(place('google', 'messages_per_s'), null);
});

test('a source has values of its own at a provider, by its name or by its pool', () => {
  const { data, originOf } = load(`{
    "default": { "sources": { "a3": { "messages_per_h": 7 } } },
    "providers": { "google": {
      "pools": { "warm": { "max_connections": 3, "tls": "verify" } },
      "sources": { "a1": { "max_connections": 1 }, "": { "messages_per_s": 2 } } } } }`);
  const google = data.providers.find(({ name }) => name === 'google');
  const of = (source: string) => {
    const {
      max_connections: connections,
      tls,
      messages_per_h: hour,
    } = limitsOfSource(google ?? data, source);
    return [connections, tls, hour];
  };
  assert.deepEqual(of('a1'), [1, 'verify', undefined]);
  assert.deepEqual(of('a2'), [3, 'verify', undefined]);
  assert.deepEqual(of('a3'), [5, 'required', 7]);
  assert.deepEqual(of('none'), [5, 'required', undefined]);
  assert.equal(limitsOfSource(google ?? data, '').messages_per_s, 2);
  assert.deepEqual(limitsOfSource(data, 'a3'), { ...data.limits, messages_per_h: 7 });
  const line = (source: string, limit: string, provider = 'google') => {
    const place = originOf(provider, limit, source)?.place;
    return place?.file === OWN ? place.line : place?.file === SHIPPED_SHAPING ? 'shipped' : null;
  };
  assert.deepEqual(
    [line('a1', 'max_connections'), line('a1', 'tls'), line('a2', 'max_connections')],
    [5, 4, 4],
  );
  assert.deepEqual([line('a3', 'max_connections'), line('a3', 'messages_per_h')], ['shipped', 2]);
  assert.deepEqual([line('a3', 'messages_per_h', ''), line('a1', 'messages_per_h', '')], [2, null]);
});

const WRONG: [own: string, said: RegExp][] = [
  [
    '{ "providers": { "google": { "sources": { "a4": {} } } } }',
    /^1: providers\.google\.sources\.a4: there is no source of this name in egress\.sources \(did you mean "a1"\?\)$/,
  ],
  ['{ "default": { "pools": { "wram": {} } } }', /there is no pool of this name .*"warm"/],
  ['{ "default": { "sources": { "a1": { "total_max_connections": 3 } } } }', /unknown key/],
  ['{ "default": { "sources": { "a1": { "ip_family": "ipv4" } } } }', /unknown key/],
  ['{ "default": { "sources": { "a1": { "max_connections": -1 } } } }', /must be a whole number from 0/],
  ['{ "default": { "sources": [] } }', /default\.sources: must be an object/],
  ['{ "default": { "sources": { "a1": 3 } } }', /default\.sources\.a1: must be an object/],
  [
    '{ "default": { "pools": { "warm": { "max_connections": 1 }, "other": { "max_connections": 2 } } } }',
    /another pool of source "a2" says something else/,
  ],
  [
    '{ "providers": { "google": { "max_conections": 3 } } }',
    /^1: providers\.google\.max_conections: unknown key \(did you mean "max_connections"\?\)$/,
  ],
  [
    '{\n"providers": { "google": {\n"max_connections": 10001 } } }',
    /^3: providers\.google\.max_connections: must be a whole number from 0 to 10000, is 10001$/,
  ],
  ['{ "default": { "total_tls": "required" } }', /unknown key/],
  ['{ "default": { "tls": "never" } }', /must be "opportunistic" or "required" or "verify", is "never"/],
  [
    '{ "default": { "messages_per_h": { "value": -1 } } }',
    /default\.messages_per_h\.value: must be a number from 0/,
  ],
  ['{ "default": { "pause_ms": { "value": 1000, "as_of": "yesterday" } } }', /as_of: must be the day/],
  ['{ "default": { "retry": { "delays_ms": [] } } }', /default\.retry: must be delays_ms/],
  [
    '{ "providers": { "gogle": { "max_connections": 3 } } }',
    /there is no provider of this name \(did you mean "google"\?/,
  ],
  ['{ "providers": { "mine": { "match": {} } } }', /nothing would ever belong/],
  ['{ "providers": { "Mine": { "match": { "domain": ["a.test"] } } } }', /must be a name of small letters/],
  [
    '{ "providers": { "mine": { "match": { "mx_suffix": ["google.com"] } } } }',
    /"google\.com" stands in .*shaping\.json:\d+ already \(provider google\)/,
  ],
  [
    '{ "providers": { "mine": { "match": { "mx_exact": ["aspmx.l.google.com"] } } } }',
    /can never match: mx_suffix "google\.com" of provider google takes this host first/,
  ],
  [
    '{ "providers": { "mine": { "match": { "mx_suffix": ["a.test", "mx.a.test"] } } } }',
    /can never match: "a\.test" of the same provider/,
  ],
  [
    '{ "providers": { "mine": { "match": { "domain": [".Foo.test"] } } } }',
    /there are no patterns here \(write "foo\.test"\)/,
  ],
  ['{ "providers": { "mine": { "match": { "domain": ["(a+)+$"] } } } }', /no name of a host or domain/],
  ['{ "providers": { "mine": { "match": { "domain": "a.test" } } } }', /must be a list of names/],
  ['{ "providers": [] }', /^1: providers: must be an object/],
  ['[]', /^1: the file must hold one object/],
  ['{ "default": ', /^1: the file ends/],
];

for (const [own, said] of WRONG)
  test(`refused: ${own.replaceAll('\n', ' ')}`, () => {
    const found = problems(own);
    assert.equal(found.length, 1, found.join('\n'));
    assert.match(found[0] ?? '', said);
  });

test('a file that is not there is said', () => {
  assert.throws(
    () => loadShaping({ file: SHIPPED_SHAPING, overrides_file: join(dir, 'none'), rollup: 'mx_set' }),
    /cannot be read/,
  );
});

/** RFC 7396, appendix A; those whose result is no object included. */
const PATCHES: [target: string, patch: string, result: string][] = [
  ['{"a":"b"}', '{"a":"c"}', '{"a":"c"}'],
  ['{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'],
  ['{"a":"b"}', '{"a":null}', '{}'],
  ['{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'],
  ['{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'],
  ['{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'],
  ['{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'],
  ['{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'],
  ['["a","b"]', '["c","d"]', '["c","d"]'],
  ['{"a":"b"}', '["c"]', '["c"]'],
  ['{"e":null}', '{"a":1}', '{"e":null,"a":1}'],
  ['[1,2]', '{"a":"b","c":null}', '{"a":"b"}'],
  ['{}', '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}'],
];

test('files are merged as RFC 7396 says', () => {
  for (const [target, patch, result] of PATCHES) {
    const merged = mergePatch(parseJsonc(target, 'a'), parseJsonc(patch, 'b'));
    assert.deepEqual(JSON.parse(JSON.stringify(toValue(merged))), JSON.parse(result), patch);
  }
});
