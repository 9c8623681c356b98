/**
 * The dialog corpus: reads test/corpus/*.smtp (format: README.md there) and plays a dialog against a peer. Stage
 * directions (`! …`) are performed by the one who built the peer:
 *   pressure NAME · inflight N · room CHUNKS · fault FLAG B · verdict NAME… · timeout · slow · drain · draining · secured FACTS ·
 *   handshakes N
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export type Step =
  | { kind: 'send'; octets: Buffer }
  | { kind: 'line'; pattern: string }
  | { kind: 'reply'; code: string }
  | { kind: 'close' }
  | { kind: 'message'; like: unknown }
  | { kind: 'stage'; words: string[] };

export interface Dialog {
  name: string;
  config: object;
  client: string;
  steps: Step[];
  /** May be sent as fast as it can be. */
  pipelined: boolean;
  /** Has stage directions. */
  staged: boolean;
}

/** The relay as a dialog sees it. */
export interface Peer {
  send(octets: Buffer): Promise<void>;
  /** Next line of the relay without CRLF; null when it closed the connection. */
  line(): Promise<string | null>;
  /** Next message the relay took, as an object whose `content` is its content. */
  message(): Promise<unknown>;
  stage(words: string[]): void;
  /** Asserts that nothing is left: no line, no message, no content. */
  finish(): Promise<void>;
}

const FOLDER = join(import.meta.dirname, '../corpus');

export function readCorpus(): Dialog[] {
  const files = readdirSync(FOLDER).filter((file) => file.endsWith('.smtp'));
  return files.flatMap((file) => parse(file.replace('.smtp', ''), readFileSync(join(FOLDER, file), 'utf8')));
}

function parse(file: string, text: string): Dialog[] {
  const dialogs: Dialog[] = [];
  let dialog: Dialog | null = null;
  for (const [index, line] of text.split('\n').entries()) {
    if (line === '' || line.startsWith('#')) continue;
    if (line.startsWith('= ')) {
      dialog = {
        name: `${file}: ${line.slice(2)}`,
        config: {},
        client: '127.0.0.1',
        steps: [],
        pipelined: true,
        staged: false,
      };
      dialogs.push(dialog);
      continue;
    }
    assert(dialog !== null, `${file}:${index + 1}: a dialog begins with "= name"`);
    if (!parseDirective(dialog, line)) dialog.steps.push(parseStep(line, `${file}:${index + 1}`));
  }
  for (const one of dialogs) {
    one.staged = one.steps.some((step) => step.kind === 'stage');
    one.pipelined &&= !one.staged;
  }
  return dialogs;
}

function parseDirective(dialog: Dialog, line: string): boolean {
  if (line.startsWith('@config ')) dialog.config = JSON.parse(line.slice(8)) as object;
  else if (line.startsWith('@client ')) dialog.client = line.slice(8);
  else if (line === '@steps') dialog.pipelined = false;
  else return false;
  return true;
}

function parseStep(line: string, place: string): Step {
  const rest = line.slice(3);
  if (line === 'S: <close>') return { kind: 'close' };
  if (line.startsWith('C: ')) return { kind: 'send', octets: octetsOf(`${rest}\\r\\n`) };
  if (line.startsWith('C> ')) return { kind: 'send', octets: octetsOf(rest) };
  if (line.startsWith('S: ')) return { kind: 'line', pattern: rest };
  if (line.startsWith('S+ ')) return { kind: 'reply', code: rest };
  if (line.startsWith('M: ')) return { kind: 'message', like: JSON.parse(rest) };
  if (line.startsWith('! ')) return { kind: 'stage', words: line.slice(2).split(' ') };
  throw new Error(`${place}: unknown line ${line}`);
}

function octetsOf(text: string): Buffer {
  const octets = text.replace(/\\(?:x([0-9a-fA-F]{2})|(.))/g, (_, hex?: string, char?: string) => {
    if (hex !== undefined) return String.fromCharCode(Number.parseInt(hex, 16));
    return (
      { r: '\r', n: '\n', t: '\t', '0': '\0', '\\': '\\' }[char as string] ??
      assert.fail(`unknown escape \\${char}`)
    );
  });
  return Buffer.from(octets, 'latin1');
}

/** How the client's octets are cut: per command, per octet, all at once, or all in two pieces. */
export type Cut = 'steps' | 'octets' | 'pipelined' | { at: number };

/** Octets of all that the client says. */
export function clientOctets(dialog: Dialog): Buffer {
  return Buffer.concat(dialog.steps.flatMap((step) => (step.kind === 'send' ? [step.octets] : [])));
}

export async function play(dialog: Dialog, peer: Peer, cut: Cut): Promise<void> {
  assert.match((await peer.line()) ?? '<close>', /^220 relay\.example\.test /);
  if (cut === 'pipelined') await peer.send(clientOctets(dialog));
  else if (typeof cut === 'object') {
    const all = clientOctets(dialog);
    await peer.send(all.subarray(0, cut.at));
    await peer.send(all.subarray(cut.at));
  }
  for (const step of dialog.steps) {
    switch (step.kind) {
      case 'send':
        if (cut === 'steps') await peer.send(step.octets);
        else if (cut === 'octets') for (const octet of step.octets) await peer.send(Buffer.of(octet));
        break;
      case 'line':
        matchLine((await peer.line()) ?? '<close>', step.pattern);
        break;
      case 'reply':
        await readReply(peer, step.code);
        break;
      case 'close':
        assert.equal(await peer.line(), null, 'connection is closed');
        break;
      case 'message':
        matchValue(await peer.message(), step.like, 'message');
        break;
      case 'stage':
        peer.stage(step.words);
        break;
    }
  }
  await peer.finish();
}

async function readReply(peer: Peer, code: string): Promise<void> {
  for (;;) {
    const line = (await peer.line()) ?? '<close>';
    matchLine(line.slice(0, 3), code);
    if (line[3] !== '-') return;
  }
}

function matchLine(line: string, pattern: string): void {
  const source = pattern
    .split('*')
    .map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
    .join('.*');
  assert.match(line, new RegExp(`^${source}$`));
}

/** Every property of `like` is there with that value, null standing for none; lists have the same length. */
function matchValue(value: unknown, like: unknown, place: string): void {
  if (like === null) assert.equal(value ?? null, null, place);
  else if (typeof like !== 'object') assert.deepEqual(value, like, place);
  else {
    if (Array.isArray(like)) assert.equal((value as unknown[])?.length, like.length, `${place}.length`);
    for (const [key, part] of Object.entries(like))
      matchValue((value as Record<string, unknown>)?.[key], part, `${place}.${key}`);
  }
}
