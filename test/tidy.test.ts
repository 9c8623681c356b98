/** The rules of the source tree that a machine can check; see ARCHITECTURE.md. A rule that is broken names the line. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { test } from 'node:test';
import { EXIT } from '../src/base/exit-codes.ts';
import { configSchema } from '../src/config/schema.ts';
import { inner, shapeOf } from '../src/config/shape.ts';

const root = join(import.meta.dirname, '..');
const files = execFileSync('git', ['ls-files', '-co', '--exclude-standard'], { cwd: root, encoding: 'utf8' })
  .split('\n')
  .filter((file) => file !== '' && existsSync(join(root, file)));
const text = (file: string): string => readFileSync(join(root, file), 'utf8');
const sources = files.filter((file) => /^src\/.*\.ts$/.test(file));

/** What a folder of src may import values from, besides itself. A stage may import these and nothing of another stage. */
const LAYERS: Record<string, readonly string[]> = {
  base: [],
  mail: ['base'],
  config: ['base'],
  protocol: ['base', 'mail', 'native'],
  dns: ['base'],
};
/** Rooms to come (see ARCHITECTURE.md), and what each may import besides COMMON. */
const WINGS: Record<string, readonly string[]> = {
  egress: [],
  shaping: ['egress'],
  signing: [],
  feedback: [],
  campaign: [],
  inject: ['campaign'],
  http: ['control', 'inject', 'campaign'],
  mailbox: [],
  pop3: ['mailbox'],
  filter: [],
  authentication: [],
  rules: [],
};
const COMMON = ['base', 'mail', 'protocol', 'config', 'dns', 'native'];
/** Composition roots, of the program and of its threads: they put stages together. A folder means all in it. */
const ROOTS = [
  'src/main.ts',
  'src/run.ts',
  'src/load-with-files.ts',
  'src/cli/',
  'src/relay/',
  'src/session/thread.ts',
  'src/delivery/thread.ts',
  'src/supervisor/relay-process.ts',
  'src/supervisor/plane-process.ts',
  'src/persistence/queue-thread.ts',
  'src/persistence/worker.ts',
  'src/auth/worker.ts',
];
const isRoot = (file: string): boolean =>
  ROOTS.some((root) => file === root || (root.endsWith('/') && file.startsWith(root)));
/** Contracts between stages: types, and the few constants that belong to them. */
const CONTRACTS = new Set(['src/admission/gauges.ts', 'src/database/database.ts']);
/** Where a stage reaches into another nevertheless, and why. */
const EXCEPTIONS: Record<string, string> = {
  'src/persistence/database-client.ts → src/database/slices.ts':
    'long reads are cut into tasks on the main thread; only the driver knows where to cut',
};

const folderOf = (file: string): string => {
  const [, first = ''] = file.split('/');
  return first.replace(/\.ts$/, '');
};

/** What a file imports, and where; `import type` and all-type braces are no values. */
function importsOf(file: string): { line: number; target: string; isValue: boolean }[] {
  const source = text(file);
  const pattern = /^(?:import|export)\s+(type\b)?([^;]*?)\bfrom\s+'(\.[^']+)'|\bimport\('(\.[^']+)'\)/gm;
  return [...source.matchAll(pattern)].map((match) => {
    const [, type, names = '', from, dynamic] = match;
    const braces = /^\{([\s\S]*)\}\s*$/.exec(names.trim())?.[1];
    const onlyTypes = braces
      ?.split(',')
      .every((name) => name.trim() === '' || name.trim().startsWith('type '));
    const before = source.slice(0, match.index);
    return {
      line: before.split('\n').length,
      target: normalize(join(dirname(file), String(from ?? dynamic))),
      isValue: type === undefined && onlyTypes !== true && !/\btypeof\s*$/.test(before),
    };
  });
}
const valueImports = (file: string) => importsOf(file).filter(({ isValue }) => isValue);

test('a stage imports no other stage’s values; base, mail, config and protocol only what lies below them', () => {
  const broken: string[] = [];
  for (const file of sources) {
    if (isRoot(file)) continue;
    const folder = folderOf(file);
    const allowed = LAYERS[folder] ?? [...COMMON, ...(WINGS[folder] ?? [])];
    for (const { line, target } of valueImports(file)) {
      const other = folderOf(target);
      if (other === folder || allowed.includes(other) || CONTRACTS.has(target)) continue;
      if (EXCEPTIONS[`${file} → ${target}`] !== undefined) continue;
      broken.push(`${file}:${line} imports ${target}`);
    }
  }
  assert.deepEqual(broken, []);
});

test('of what lies above them base, mail, config and protocol know no types either', () => {
  const broken = sources.flatMap((file) => {
    const folder = folderOf(file);
    const allowed = LAYERS[folder];
    // What the options of a resolver look like, dns learns of config, which stands below it.
    if (allowed === undefined || folder === 'dns') return [];
    return importsOf(file)
      .filter(({ target }) => ![folder, ...allowed].includes(folderOf(target)))
      .map(({ line, target }) => `${file}:${line} imports ${target}`);
  });
  assert.deepEqual(broken, []);
});

/** Dialogs, where each verb moves the session on: ARCHITECTURE.md says why they may. */
const CIRCLES = ['src/session', 'src/delivery/client'];

test('no files import each other in a circle, types included, but for those of a dialog', () => {
  const known = new Set(sources);
  const inCircle = (file: string): boolean => CIRCLES.includes(dirname(file));
  const above = new Map(
    sources.map((file) => [file, importsOf(file).filter(({ target }) => known.has(target))]),
  );
  // Files without imports go first, then those that import only files that have gone: what stays is a circle, or above one.
  for (let size = 0; size !== above.size; ) {
    size = above.size;
    for (const [file, imports] of above) {
      const left = imports.filter(
        ({ target }) => above.has(target) && !(inCircle(file) && dirname(target) === dirname(file)),
      );
      if (left.length === 0) above.delete(file);
    }
  }
  // Those that nothing left imports are only above a circle.
  for (let size = 0; size !== above.size; ) {
    size = above.size;
    const imported = new Set([...above.values()].flat().map(({ target }) => target));
    for (const file of above.keys()) if (!imported.has(file)) above.delete(file);
  }
  assert.deepEqual([...above.keys()], []);
});

test('ARCHITECTURE.md names every room of src, and what the rooms to come may import', () => {
  const tour = text('ARCHITECTURE.md');
  const rooms = new Set(sources.map(folderOf));
  assert.deepEqual(
    [...rooms].filter((room) => !new RegExp(`src/${room}\\b`).test(tour) && !tour.includes(`\`${room}.ts\``)),
    [],
  );
  for (const [room, besides] of Object.entries(WINGS)) {
    const row = tour.split('\n').find((line) => line.startsWith(`| \`${room}\` |`)) ?? '';
    assert.deepEqual(
      [...(row.split('|')[3] ?? '').matchAll(/`(\w+)`/g)].map(([, name]) => name),
      besides,
      room,
    );
  }
});

test('every exception to the boundaries is still needed', () => {
  const imports = sources.flatMap((file) => valueImports(file).map(({ target }) => `${file} → ${target}`));
  assert.deepEqual(
    Object.keys(EXCEPTIONS).filter((edge) => !imports.includes(edge)),
    [],
  );
});

test('files of src and native have at most 500 lines', () => {
  const long = files
    .filter((file) => /^(src|native)\/.*\.(ts|cc|h)$/.test(file))
    .filter((file) => text(file).trimEnd().split('\n').length > 500);
  assert.deepEqual(long, []);
});

test('main.ts has arguments, exit codes and the table of command groups, in at most 120 lines', () => {
  assert.ok(text('src/main.ts').trimEnd().split('\n').length <= 120);
});

/** Lines that match, as file:line: text. This file holds the patterns and is left out. */
function grep(pattern: RegExp, among: (file: string) => boolean): string[] {
  return files
    .filter((file) => among(file) && file !== 'test/tidy.test.ts')
    .flatMap((file) =>
      text(file)
        .split('\n')
        .flatMap((line, i) => (pattern.test(line) ? [`${file}:${i + 1}: ${line.trim()}`] : [])),
    );
}

const isCode = (file: string): boolean =>
  /^(src|native|bench|test|bin)\/|^build\.sh$|^binding\.gyp$/.test(file) && !file.startsWith('test/corpus/');

test('connections to database servers are made in one place, which knows how to give them up', () => {
  const others = (file: string): boolean =>
    file.startsWith('src/') && file !== 'src/database/mysql/connection.ts';
  assert.deepEqual(grep(/\bcreateConnection\b.*mariadb|import\('mariadb'\)/, others), []);
});

/** They read what the relay itself writes into its private folders, what belongs to the program, and /proc. */
const READ_OWN_FILES = [
  'src/auth/secret.ts',
  'src/auth/shared-secret.ts',
  'src/base/data-dir.ts',
  'src/check/holder.ts',
  'src/check/machine.ts',
  'src/cli/suppression.ts',
  'src/database/mysql/schema.ts',
  'src/database/sqlite/connection.ts',
  'src/delivery/security/sts-store.ts',
  'src/feedback/suppression-filter.ts',
  'src/http/metrics/process-figures.ts',
  'src/journal/state-file.ts',
  'src/persistence/unsettled-file.ts',
  'src/policy/keeper.ts',
  'src/relay/begun.ts',
  'src/report/tls-report-sender.ts',
  'src/report/tls-rpt.ts',
  'src/signing/shown-file.ts',
  'src/version.ts',
];

test('files that operators name are read in one place, which does not wait for pipes and devices', () => {
  const readers = sources.filter((file) =>
    /\b(?:readFile|readFileSync|createReadStream)\b.*\bfrom\b|^ {2}readFileSync,$/m.test(text(file)),
  );
  assert.deepEqual(readers, READ_OWN_FILES);
});

test('nothing is left for later in the code', () => {
  assert.deepEqual(grep(/\b(TODO|FIXME|XXX|HACK)\b/, isCode), []);
});

test('no enums, namespaces or parameter properties: Node strips types and compiles nothing', () => {
  const typescript = (file: string): boolean => file.endsWith('.ts') && isCode(file);
  assert.deepEqual(grep(/^\s*(export\s+)?(const\s+)?enum\s|^\s*(export\s+)?namespace\s/, typescript), []);
});

test('no machine paths and no registry hosts', () => {
  const host = ['registry.npm', 'js.org|deb.deb', 'ian.org|security.deb', 'ian.org'].join('');
  const pattern = new RegExp(`(^|[\\s"'=(])/(work|home|root|Users)/|${host.replaceAll('.', '\\.')}`);
  assert.deepEqual(
    grep(pattern, () => true),
    [],
  );
});

test('the lock file carries integrity, and no download addresses', () => {
  const lock = JSON.parse(text('package-lock.json')) as { packages: Record<string, Record<string, unknown>> };
  const withAddress = Object.entries(lock.packages).filter(([, entry]) => 'resolved' in entry);
  assert.deepEqual(withAddress, []);
  // Binaries of other platforms are never fetched here, so their hashes may be unknown here.
  const bare = Object.entries(lock.packages).filter(
    ([name, e]) => name !== '' && !e.integrity && e.optional !== true,
  );
  assert.deepEqual(bare, []);
});

test('versions are pinned', () => {
  const manifest = JSON.parse(text('package.json')) as Record<string, Record<string, string>>;
  const all = Object.entries({ ...manifest.dependencies, ...manifest.devDependencies });
  assert.deepEqual(
    all.filter(([, version]) => !/^\d+\.\d+\.\d+$/.test(version)),
    [],
  );
});

test('CHANGELOG.md mentions the version of package.json', () => {
  const { version } = JSON.parse(text('package.json')) as { version: string };
  assert.match(text('CHANGELOG.md'), new RegExp(`^## ${version.replaceAll('.', '\\.')}\\b`, 'm'));
});

test('CHANGELOG.md says nothing twice', () => {
  const entries = text('CHANGELOG.md').split(/\n(?=- |#|\n)/);
  const said = entries.map((entry) => entry.replace(/\s+/g, ' ').trim()).filter((entry) => entry.length > 40);
  assert.deepEqual(
    said.filter((entry, i) => said.indexOf(entry) !== i),
    [],
  );
});

test('docs/words.md has each word once', () => {
  const words = [...text('docs/words.md').matchAll(/^\| ([a-z][\w -]*) \|/gm)].map(([, word]) => word);
  assert.ok(words.length > 30);
  assert.deepEqual(
    words.filter((word, i) => words.indexOf(word) !== i),
    [],
  );
});

test('every exit code stands in docs/exit-codes.md, every event field in docs/events.md', () => {
  const codes = [...text('src/base/exit-codes.ts').matchAll(/^ {2}\w+: (\d+),/gm)].map((match) => match[1]);
  assert.ok(codes.length >= 9);
  assert.deepEqual(
    codes.filter((code) => !text('docs/exit-codes.md').includes(`| ${code} |`)),
    [],
  );
  const [, ...interfaces] = text('src/report/event-types.ts').split(/^(?:export )?interface /m);
  const fields = interfaces.flatMap((body) => [...(body.split('\n}')[0] ?? '').matchAll(/^ {2}(\w+)\??:/gm)]);
  assert.ok(fields.length > 20);
  assert.deepEqual(
    fields.filter(([, name]) => !text('docs/events.md').includes(`\`${name}\``)).map(([, n]) => n),
    [],
  );
});

/** Which command a file of src/cli is part of, where its name does not begin with that. */
const COMMAND_OF: Readonly<Record<string, string>> = { event: 'events', suspensions: 'resume', why: 'why' };

test('what a command ends with of its own accord stands in docs/exit-codes.md, with the name of the command', () => {
  const code: Readonly<Record<string, number>> = { ...EXIT };
  const rows = text('docs/exit-codes.md').split('\n');
  const said = sources
    .filter((file) => file.startsWith('src/cli/') && !/-output|program/.test(file))
    .flatMap((file) => {
      const [, word = ''] = /^src\/cli\/([a-z]+)/.exec(file) ?? [];
      const names = [...text(file).matchAll(/\bEXIT\.(dataError|temporary|cannotCreate|config)\b/g)];
      return [...new Set(names.map(([, name = '']) => name))].map((name) => ({
        file,
        command: COMMAND_OF[word] ?? word,
        row: rows.find((row) => row.startsWith(`| ${code[name]} |`)) ?? '',
      }));
    });
  assert.ok(said.length > 15);
  assert.deepEqual(
    said
      .filter(({ command, row }) => !new RegExp(`\`(?:[a-z]+ )?${command}[ \`]`).test(row))
      .map(({ file }) => file),
    [],
  );
});

/** Keys of the config with their paths. */
function keysOf(schema: Parameters<typeof shapeOf>[0], prefix: string): string[] {
  return Object.entries(shapeOf(schema) ?? {}).flatMap(([key, below]) => {
    const def = inner(below).def as { element?: typeof below; valueType?: typeof below };
    const nested = def.element ?? def.valueType ?? below;
    return shapeOf(nested) === null ? [prefix + key] : keysOf(nested, `${prefix}${key}.`);
  });
}

/** Keys whose name stands in none of the files. */
function unnamed(among: (file: string) => boolean): string[] {
  const all = files.filter(among).map(text).join('\n');
  return keysOf(configSchema, '').filter((path) => {
    const key = path.split('.').at(-1) as string;
    return !new RegExp(`(^|[^\\w$])${key.replace('$', '\\$')}([^\\w]|$)`).test(all);
  });
}

test('every config key is named in a test', () => {
  assert.deepEqual(
    unnamed((file) => file.startsWith('test/') && file !== 'test/tidy.test.ts'),
    [],
  );
});

test('every config key is read by the program', () => {
  const unread = unnamed((file) => sources.includes(file) && file !== 'src/config/schema.ts');
  assert.deepEqual(unread, ['$schema']); // for editors
});

/** Where the time of day is meant: what is stored, shown, or compared with what is. All else is a matter of base/steady.ts. */
const TIME_OF_DAY = new Set([
  'src/base/steady.ts',
  'src/admission/gauges.ts',
  'src/auth/quotas.ts',
  'src/cli/db.ts',
  'src/cli/events.ts',
  'src/cli/status.ts',
  'src/database/sharded-database.ts',
  'src/delivery/client/envelope.ts',
  'src/delivery/thread.ts',
  'src/journal/journal.ts',
  'src/mail/queue-id.ts',
  'src/cli/ban.ts',
  'src/cli/queue.ts',
  'src/cli/shaping.ts',
  'src/cli/suspensions.ts',
  'src/cli/warmup.ts',
  'src/database/sqlite/sqlite-database.ts',
  'src/persistence/database-client.ts',
  'src/persistence/group-commit.ts',
  'src/persistence/housekeeping.ts',
  'src/persistence/unsettled-replay.ts',
  'src/relay/begun.ts',
  'src/relay/content.ts',
  'src/relay/control.ts',
  'src/relay/database.ts',
  // source list says when checks were.
  'src/cli/source.ts',
  'src/relay/egress.ts',
  'src/relay/intake.ts',
  'src/relay/journal.ts',
  'src/relay/scheduling.ts',
  'src/relay/shaping.ts',
  'src/relay/sts.ts',
  'src/relay/suspension-book.ts',
  'src/relay/suspensions.ts',
  'src/relay/tls-reports.ts',
  'src/relay/undelivered.ts',
  'src/relay/relay.ts',
  'src/report/event-file.ts',
  'src/report/events.ts',
  'src/report/events.ts',
  'src/report/tls-rpt.ts',
  'src/report/tls-rpt.ts',
  'src/scheduler/bullmq-agenda.ts',
  'src/scheduler/bullmq-agenda.ts',
  'src/session/thread.ts',
  'src/storage/distributed/distributed-storage.ts',
  'src/storage/hdfs-web/hdfs-web-storage.ts',
  'src/storage/local-storage.ts',
  'src/suspensions/rule-files.ts',
  'src/tls/tls-contexts.ts',
  'src/cli/suppression.ts',
  // Tokens have an end.
  'src/cli/token.ts',
  'src/supervisor/plane-process.ts',
  'src/relay/suppression-list.ts',
  'src/relay/reports.ts',
  'src/relay/suppression.ts',
]);

test('durations are measured in steady time: the clock is read only where the time of day is meant', () => {
  const readers = sources.filter((file) => /\bDate\.now\b/.test(text(file)));
  assert.deepEqual(
    readers.filter((file) => !TIME_OF_DAY.has(file)),
    [],
    'use steadyMs of base/steady.ts for durations; else add the file',
  );
  assert.deepEqual(
    [...TIME_OF_DAY].filter((file) => !readers.includes(file)),
    [],
  );
});
