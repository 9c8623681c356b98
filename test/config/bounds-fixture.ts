/** Starts of a real relay at both ends of numeric keys of config/relay.schema.json. See bounds.test.ts. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { EXIT } from '../../src/base/exit-codes.ts';
import { loadConfig } from '../../src/config/load.ts';
import { RelayFixture, type Settings } from '../support/relay-fixture.ts';
import { Talk } from '../support/talk.ts';

/** A pattern: each key that matches, by itself. */
const ONLY = process.env.BOUNDS ?? '';
export const each = ONLY !== '';
const PATIENCE_MS = each ? 120_000 : 30_000;

type Json = { [key: string]: unknown };
export type End = 'min' | 'max';
export interface Leaf {
  path: string[];
  name: string;
  min: number;
  max: number;
}
/** What shares a start: keys of one kind. 'long': those of the long form only. */
export type Kind = 'common' | 'memory' | 'tables' | 'floors' | 'patience' | 'long';
/** This machine, or a server, may not have or do so much: then the start says so in one line. */
const MAY_FAIL: readonly Kind[] = ['memory', 'tables', 'patience'];

const SCHEMA = JSON.parse(
  readFileSync(new URL('../../config/relay.schema.json', import.meta.url), 'utf8'),
) as Json;

function leaves(node: Json, path: string[] = []): Leaf[] {
  const found: Leaf[] = [];
  if ((node.type === 'integer' || node.type === 'number') && path.length > 0)
    found.push({ path, name: path.join('.'), min: node.minimum as number, max: node.maximum as number });
  for (const [key, below] of Object.entries((node.properties ?? {}) as Record<string, Json>))
    found.push(...leaves(below, [...path, key]));
  if (typeof node.additionalProperties === 'object')
    found.push(...leaves(node.additionalProperties as Json, [...path, '*']));
  if (node.items !== undefined) found.push(...leaves(node.items as Json, [...path, '[]']));
  for (const union of ['anyOf', 'oneOf', 'allOf'])
    for (const option of (node[union] ?? []) as Json[]) found.push(...leaves(option, path));
  return found;
}

/** Every numeric key. */
export const KEYS: readonly Leaf[] = leaves(SCHEMA);

function put(settings: Settings, path: readonly string[], value: unknown): void {
  let at = settings as Json;
  path.forEach((step, i) => {
    const key = step === '[]' ? '0' : step === '*' ? (Object.keys(at)[0] ?? 'test') : step;
    if (i === path.length - 1) at[key] = value;
    else {
      at[key] ??= path[i + 1] === '[]' ? [] : {};
      at = at[key] as Json;
    }
  });
}

/** Why the check refuses it; '' when it does not. */
export function refusal(settings: Settings): string {
  try {
    loadConfig('/etc/relay.json', {}, { read: () => JSON.stringify(settings, null, 2) });
    return '';
  } catch (error) {
    return (error as Error).message;
  }
}

export interface Trial {
  settings: Settings;
  kind: Kind;
  end: End;
  keys: Leaf[];
}

export interface Plan {
  base: Settings;
  keys: readonly Leaf[];
  kindOf(name: string, end: End): Kind;
  /** Before each start. */
  prepare?(): Promise<void>;
}

function withKeys(base: Settings, keys: readonly Leaf[], end: End): Settings {
  const changed = structuredClone(base);
  for (const leaf of keys) put(changed, leaf.path, leaf[end]);
  return changed;
}

/** Starts that hold every key at its least, or at its most, value once; as many as go together share one. */
export function trials({ base, keys, kindOf }: Plan, end: End): Trial[] {
  const made: Trial[] = [];
  for (const leaf of keys) {
    if (each && !new RegExp(ONLY).test(leaf.name)) continue;
    // A free port is the test's own business.
    if (/\.port$/.test(leaf.name)) continue;
    const alone = withKeys(base, [leaf], end);
    const why = refusal(alone);
    if (why !== '') {
      const key = leaf.path.filter((step) => step !== '[]' && step !== '*').at(-1) as string;
      assert.match(why, /relay\.json:\d+/, why);
      assert.ok(
        why.includes(key) || /unknown key|not a key of this driver/i.test(why),
        `${leaf.name}: ${why}`,
      );
      continue;
    }
    const kind = kindOf(leaf.name, end);
    if (!each && kind === 'long') continue;
    const goesWith = (one: Trial): boolean =>
      one.kind === kind && refusal(withKeys(base, [...one.keys, leaf], end)) === '';
    const group = each ? undefined : made.find(goesWith);
    if (group === undefined) made.push({ settings: alone, kind, end, keys: [leaf] });
    else {
      group.keys.push(leaf);
      group.settings = withKeys(base, group.keys, end);
    }
  }
  return made;
}

/** '' when the relay started, took a message or said why not, and stopped; else what went wrong. */
async function live(folder: string, { settings, kind, end, keys }: Trial): Promise<string> {
  const dir = join(folder, `${end}-${keys.length}-${keys[0]?.name}`);
  mkdirSync(dir);
  const relay = new RelayFixture({}, { dir, readyMs: PATIENCE_MS });
  relay.writeConfig({ ...settings });
  try {
    relay.launch();
    const first = await relay.readyOrEnded(PATIENCE_MS);
    if (!('addresses' in first)) {
      const said = relay.stderr.trim().split('\n');
      const readable =
        said.length === 1 && said[0]?.startsWith('protorelay: ') && first.code !== EXIT.software;
      if (MAY_FAIL.includes(kind) && readable) return '';
      return `ended with ${first.code}: ${relay.stderr.slice(-600)}`;
    }
    const port = (first.addresses as { port: number }[])[0]?.port as number;
    const talk = await Talk.open({ host: '127.0.0.1', port });
    const replies = [talk.greeting];
    for (const line of ['EHLO c.test', 'MAIL FROM:<a@b.test>', 'RCPT TO:<c@d.test>', 'DATA'])
      replies.push(await talk.say(line));
    if (replies.at(-1)?.startsWith('354')) replies.push(await talk.say('Subject: x\r\n\r\nbody\r\n.'));
    talk.socket.destroy();
    // Nothing more follows a 421.
    const odd = replies.filter((reply, i) => !/^[2345]\d\d[ -]/.test(reply) && (i === 0 || reply !== ''));
    const refused = end === 'max' && kind !== 'floors' && !replies.at(-1)?.startsWith('250');
    if (odd.length > 0 || refused) return `said ${JSON.stringify(replies)}`;
    const { code, signal } = await relay.stop(PATIENCE_MS);
    if (code !== 0) return `stopped with ${code ?? signal}: ${relay.stderr.slice(-600)}`;
    if (/TimeoutOverflowWarning|MaxListeners|Warning:/.test(relay.stderr))
      return `warned: ${relay.stderr.slice(-600)}`;
    return '';
  } finally {
    await relay.destroy();
    rmSync(dir, { recursive: true, force: true });
  }
}

/**
 * What goes wrong in the starts of a plan at one end, none when all is well: which keys, and how. Of those that
 * share a start, halves are tried until it is one.
 */
export async function failures(folder: string, plan: Plan, end: End): Promise<string[]> {
  const found: string[] = [];
  const narrow = async (trial: Trial): Promise<boolean> => {
    await plan.prepare?.();
    const wrong = await live(folder, trial);
    if (wrong === '') return false;
    const { keys } = trial;
    const middle = Math.ceil(keys.length / 2);
    const halves = keys.length === 1 ? [] : [keys.slice(0, middle), keys.slice(middle)];
    let narrowed = false;
    for (const half of halves)
      narrowed =
        (await narrow({ ...trial, keys: half, settings: withKeys(plan.base, half, end) })) || narrowed;
    if (!narrowed) found.push(`${keys.map(({ name }) => name).join(', ')} at ${end}: ${wrong}`);
    return true;
  };
  for (const trial of trials(plan, end)) await narrow(trial);
  return found;
}
