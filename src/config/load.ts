/**
 * From a path to a Config: reads, fills in, merges, validates, resolves paths. Either the whole config is good or
 * nothing of it is used: every problem is listed at once, each with file, line, key and what to do.
 */
import { hostname as machineName } from 'node:os';
import { dirname, resolve } from 'node:path';
import type { z } from 'zod';
import { RelayError } from '../base/errors.ts';
import type { Node } from './jsonc.ts';
import { keyPath } from './key-path.ts';
import { nameNow } from './renamed.ts';
import { checkRules, type Finding } from './rules.ts';
import { type Config, configSchema } from './schema.ts';
import { accepts, discriminatorOf, isSecret, nearest, schemaAt, shapeOf } from './shape.ts';
import {
  type Environment,
  nodeAt,
  type Problem,
  type ReadFile,
  readSource,
  type Source,
  toValue,
} from './source.ts';

const MAX_SHOWN = 100;

export interface LoadedConfig {
  config: Config;
  /** 'file:line: key: what is odd' */
  warnings: string[];
  files: string[];
  /** Puts a problem of a key in words, with file and line. */
  place(finding: Finding): string;
}

/** All that is wrong with a config, one line each. */
export class ConfigError extends RelayError {
  readonly problems: string[];

  constructor(path: string, problems: string[]) {
    const count = problems.length === 1 ? 'a problem' : `${problems.length} problems`;
    super('config_invalid', `${path} has ${count}:\n${problems.map((p) => `  ${p}`).join('\n')}`);
    this.problems = problems;
  }
}

/**
 * Loads and validates; paths in the result are absolute.
 * @throws ConfigError listing every problem.
 */
export function loadConfig(
  path: string,
  environment: Environment = process.env,
  options: { read?: ReadFile; machineName?: string } = {},
): LoadedConfig {
  const file = resolve(path);
  const source = readSource(file, environment, options.read);
  const { value, issues } = validate(source);
  const problems = [...source.problems, ...issues];
  // Rules between keys need keys that are sound: before, they would only repeat the same problems.
  if (value === null || problems.length > 0) throw new ConfigError(file, problems.map(line));
  const isSet = (key: string[]): boolean => has(source.root, key);
  const config = resolvePaths(
    withServableMechanisms(withHostname(value, isSet, options.machineName ?? machineName()), isSet),
    source.root,
    file,
  );
  const { problems: ruled, warnings } = checkRules(config, isSet);
  const place = (finding: Finding): string => line(problemAt(source.root, finding.path, finding.message));
  if (ruled.length > 0) throw new ConfigError(file, ruled.map(place));
  return { config: withinLease(config), warnings: warnings.map(place), files: source.files, place };
}

/**
 * The data folder alone, absolute: enough to ask a running relay, whatever else is wrong with its config by now and
 * whichever secrets this environment lacks.
 * @throws ConfigError listing every problem, when they leave it open where data_dir is.
 */
export function dataDirOf(path: string, environment: Environment = process.env, read?: ReadFile): string {
  const file = resolve(path);
  const { root, complete, unset, variables } = readSource(file, environment, read);
  const isSet = has(root, ['data_dir']);
  const node = nodeAt(root, ['data_dir']);
  const given = node.kind === 'scalar' ? (variables.get(node) ?? node.value) : undefined;
  const { success, data } = configSchema.shape.data_dir.safeParse(isSet ? given : undefined);
  if (!success || unset.has(node) || !(isSet || complete))
    return loadConfig(path, environment, read === undefined ? {} : { read }).config.data_dir;
  return dataDirPath(data, root, file);
}

function validate(source: Source): { value: Config | null; issues: Problem[] } {
  // A variable that looks like a number may stand where text is wanted (node_id "7"): then it is turned back into text.
  for (;;) {
    const result = configSchema.safeParse(toValue(source.root));
    if (result.success) return { value: result.data, issues: [] };
    let retry = false;
    for (const issue of result.error.issues) {
      const node = nodeAt(source.root, issue.path);
      const text = node.kind === 'scalar' ? source.variables.get(node) : undefined;
      if (node.kind !== 'scalar' || text === undefined || issue.code !== 'invalid_type') continue;
      if (issue.expected !== 'string') continue;
      node.value = text;
      source.variables.delete(node);
      retry = true;
    }
    if (!retry) return { value: null, issues: firstOfEach(result.error.issues, source) };
  }
}

/** The first problem of each value; none for a value whose variable is not set, which is a problem already. */
function firstOfEach(issues: readonly z.core.$ZodIssue[], source: Source): Problem[] {
  const seen = new Set<string>();
  return issues.flatMap((issue) => {
    const key = JSON.stringify(issue.path);
    const again = issue.code !== 'unrecognized_keys' && seen.has(key);
    seen.add(key);
    return again || source.unset.has(nodeAt(source.root, issue.path)) ? [] : toProblems(issue, source.root);
  });
}

/** The value in JSON; of a long one the beginning, which says which one is meant. */
function shown(value: unknown): string {
  const text = JSON.stringify(value);
  return text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}… (${text.length} characters)` : text;
}

function toProblems(issue: z.core.$ZodIssue, root: Node): Problem[] {
  if (issue.code === 'unrecognized_keys') return issue.keys.map((key) => unknownKey(issue.path, key, root));
  const schema = schemaAt(configSchema, issue.path);
  const wanted = schema === null ? issue.message : accepts(schema);
  if (!has(root, issue.path.map(String))) {
    const key = issue.path.at(-1);
    return [problemAt(root, issue.path.slice(0, -1), `"${String(key)}" is missing: ${wanted}`)];
  }
  const node = nodeAt(root, issue.path);
  const scalar =
    node.kind === 'scalar' && (isSecret(configSchema, issue.path) ? 'something else' : shown(node.value));
  const given = scalar || (node.kind === 'array' ? 'a list' : 'an object');
  if (issue.code === 'invalid_format') {
    const pattern = 'pattern' in issue ? `text that matches ${issue.pattern}` : wanted;
    const format = issue.message.startsWith('Invalid') ? pattern : issue.message;
    return [problemAt(root, issue.path, `must be ${format}, is ${given}`)];
  }
  if (issue.code === 'too_small' && issue.origin === 'array') {
    return [problemAt(root, issue.path, `must have at least ${issue.minimum} entry`)];
  }
  if (issue.code === 'too_small' && issue.origin === 'string') {
    return [problemAt(root, issue.path, 'must not be empty')];
  }
  if (issue.code === 'too_big' && issue.origin === 'string') {
    return [problemAt(root, issue.path, `must have at most ${issue.maximum} characters, is ${given}`)];
  }
  if (issue.code === 'too_big' && issue.origin === 'array') {
    return [problemAt(root, issue.path, `must have at most ${issue.maximum} entries`)];
  }
  return [problemAt(root, issue.path, `must be ${wanted}, is ${given}`)];
}

function unknownKey(path: PropertyKey[], key: string, root: Node): Problem {
  const section = schemaAt(configSchema, path);
  const known = Object.keys((section && shapeOf(section)) ?? {});
  if (section !== null && known.includes(key)) return problemAt(root, [...path, key], otherVariant(section));
  const now = nameNow(keyPath(path), key);
  if (now !== null) return problemAt(root, [...path, key], `is called "${now}" now`);
  const near = nearest(key, known);
  const hint = near !== null ? `did you mean "${near}"?` : `known here: ${known.join(', ')}`;
  return problemAt(root, [...path, key], `unknown key (${hint})`);
}

/** The problem of a key in a section whose keys depend on one of them, such as database.driver. */
function otherVariant(section: z.ZodType): string {
  return `is not a key of this ${discriminatorOf(section) ?? 'kind'}`;
}

function problemAt(root: Node, path: readonly PropertyKey[], message: string): Problem {
  const name = keyPath(path);
  return { place: nodeAt(root, path).place, message: name === '' ? message : `${name}: ${message}` };
}

const line = ({ place, message }: Problem): string => `${place.file}:${place.line}: ${message}`;

function has(root: Node, path: readonly string[]): boolean {
  let at: Node | undefined = root;
  for (const step of path) {
    at =
      at?.kind === 'object'
        ? at.entries.get(step)
        : at?.kind === 'array'
          ? at.items[Number(step)]
          : undefined;
  }
  return at !== undefined;
}

function withHostname(config: Config, isSet: (path: string[]) => boolean, machine: string): Config {
  return isSet(['hostname']) || !/^[A-Za-z0-9._-]{1,255}$/.test(machine)
    ? config
    : { ...config, hostname: machine };
}

/** CRAM-MD5 needs the password itself, and files and tables mostly hold hashes: clients that prefer it would be refused. */
function withServableMechanisms(config: Config, isSet: (path: string[]) => boolean): Config {
  const { auth } = config;
  const hashes = auth.backends.some(({ type }) => type === 'file' || type === 'database');
  if (!hashes || isSet(['auth', 'mechanisms'])) return config;
  return { ...config, auth: { ...auth, mechanisms: auth.mechanisms.filter((one) => one !== 'CRAM-MD5') } };
}

/** No transaction outlives a lease: a time that somebody set was checked, one that nobody set follows. */
function withinLease(config: Config): Config {
  const { database, lease_ms: leaseMs } = config;
  const within = <S extends { query_timeout_ms: number }>(server: S): S => ({
    ...server,
    query_timeout_ms: Math.min(server.query_timeout_ms, leaseMs - 1),
  });
  if (database.driver === 'mysql') return { ...config, database: within(database) };
  if (database.driver !== 'mysql_distributed') return config;
  return { ...config, database: { ...database, shards: database.shards.map(within) } };
}

function databasePaths(database: Config['database'], below: (path: string) => string): Config['database'] {
  const withCaFile = <T extends { tls_ca_file: string | null }>(server: T): T =>
    server.tls_ca_file === null ? server : { ...server, tls_ca_file: below(server.tls_ca_file) };
  switch (database.driver) {
    case 'sqlite':
      return database.path === ':memory:' ? database : { ...database, path: below(database.path) };
    case 'mysql':
      return withCaFile(database);
    case 'mysql_distributed':
      return { ...database, shards: database.shards.map(withCaFile) };
  }
}

/** data_dir counts from the folder of the file that sets it. */
function dataDirPath(dataDir: string, root: Node, file: string): string {
  const setIn = has(root, ['data_dir']) ? nodeAt(root, ['data_dir']).place.file : file;
  return resolve(dirname(setIn), dataDir);
}

/** Every path but data_dir counts from data_dir. */
function resolvePaths(config: Config, root: Node, file: string): Config {
  const dataDir = dataDirPath(config.data_dir, root, file);
  const below = (path: string): string => resolve(dataDir, path);
  const { auth, database, delivery, storage, scheduler, log } = config;
  const hop = <Hop extends NextHop>(one: Hop): Hop => withTokenFile(one, below);
  const caFile = scheduler.redis.tls_ca_file;
  return {
    ...config,
    data_dir: dataDir,
    tls: {
      ...withFiles(config.tls, below),
      certificates: config.tls.certificates.map((one) => withFiles(one, below)),
    },
    listeners: config.listeners.map((l) => (l.path === undefined ? l : { ...l, path: below(l.path) })),
    journal: { ...config.journal, path: below(config.journal.path) },
    auth: {
      ...auth,
      path: below(auth.path),
      backends: auth.backends.map((b) => ({
        ...b,
        ...(b.path === undefined ? {} : { path: below(b.path) }),
        ...(b.config_dir === undefined ? {} : { config_dir: below(b.config_dir) }),
      })),
    },
    delivery: {
      ...delivery,
      tls: withFiles(delivery.tls, below),
      ...(delivery.smarthost === undefined ? {} : { smarthost: hop(delivery.smarthost) }),
      routes: Object.fromEntries(Object.entries(delivery.routes).map(([domain, one]) => [domain, hop(one)])),
    },
    database: databasePaths(database, below),
    storage: {
      ...storage,
      local: { ...storage.local, path: below(storage.local.path) },
      distributed: { ...storage.distributed, roots: storage.distributed.roots.map(below) },
    },
    scheduler: { ...scheduler, redis: { ...scheduler.redis, tls_ca_file: caFile && below(caFile) } },
    log: { ...log, file: log.file === null ? null : below(log.file) },
  };
}

/** The section with the path of every `…_file` made absolute. */
function withFiles<T extends object>(section: T, absolute: (path: string) => string): T {
  const files = Object.entries(section).filter(
    ([key, value]) => key.endsWith('_file') && typeof value === 'string',
  );
  return { ...section, ...Object.fromEntries(files.map(([key, value]) => [key, absolute(value as string)])) };
}

type NextHop = NonNullable<Config['delivery']['smarthost']>;

function withTokenFile<Hop extends NextHop>(hop: Hop, below: (path: string) => string): Hop {
  const file = hop.auth?.access_token_file;
  return file === undefined ? hop : { ...hop, auth: { ...hop.auth, access_token_file: below(file) } };
}
