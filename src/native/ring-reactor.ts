/**
 * The reactor as a thread sees it: operations are appended to a ring and bytes to an area beside it, both read by C++
 * when the turn ends (native/reactor_ops.cc). Nothing here allocates per operation.
 */

import { addon, type Native } from './addon.ts';
import type { ContentRules, Hop, Reactor, ReactorOptions } from './contract.ts';
import type { SharedArena } from './shared-arena.ts';

// Operations of native/reactor_ops.cc: records of eight words, the operation and the connection first.
const OP = {
  send: 1,
  expectLines: 2,
  expectData: 3,
  expectChunk: 4,
  dropContent: 5,
  hold: 6,
  deadline: 7,
  minRate: 8,
  close: 9,
  sendContent: 10,
  expectProxy: 11,
  secure: 12,
  account: 13,
} as const;
const OP_WORDS = 8;
const OPS_IN_RING = 4096;
const EVENTS_IN_TURN = 4096;
const EVENT_WORDS = 4;
const TEXT_BYTES = 262144;
const SEND_BYTES = 262144;
const MAX_HANDSHAKES = 1000;
/** Words of the control array: how much of the ring and of the byte area is in use, and handshakes under way. */
const OPS_USED = 0;
const BYTES_USED = 1;
const HANDSHAKES = 2;

const WITHOUT_ACCOUNTS = Buffer.alloc(0);

export class RingReactor implements Reactor {
  readonly id: number;
  readonly events = new Uint32Array(EVENTS_IN_TURN * EVENT_WORDS);
  readonly text: Buffer = Buffer.from(new SharedArrayBuffer(TEXT_BYTES));
  readonly #ops = new Uint32Array(OPS_IN_RING * OP_WORDS);
  readonly #control = new Uint32Array(3);
  #bytes: Buffer = Buffer.from(new ArrayBuffer(SEND_BYTES));
  readonly #native: Native;
  readonly #arena: SharedArena;
  #gone = false;

  constructor(options: ReactorOptions) {
    this.#arena = options.arena as SharedArena;
    this.#native = addon.reactorCreate({
      arena: this.#arena.native,
      spillThreshold: options.spillThresholdBytes,
      maxConnections: options.maxConnections,
      maxLine: options.maxLineBytes,
      lingerMs: options.lingerMs ?? 2000,
      holdAfterVerbs: options.holdAfterVerbs,
      maxHandshakes: options.maxHandshakes ?? MAX_HANDSHAKES,
      accounts: options.accounts ?? WITHOUT_ACCOUNTS,
      events: this.events,
      text: this.text,
      ops: this.#ops,
      control: this.#control,
      bytes: this.#bytes,
      onTurn: (count: number) => options.onTurn(count),
    });
    this.id = addon.reactorId(this.#native);
  }

  send(connection: number, bytes: Uint8Array): void {
    const offset = this.#room(bytes.length);
    this.#bytes.set(bytes, offset);
    this.#sent(connection, offset, bytes.length);
  }

  sendLatin1(connection: number, text: string): void {
    const offset = this.#room(text.length);
    this.#sent(connection, offset, this.#bytes.write(text, offset, 'latin1'));
  }

  sendUtf8(connection: number, text: string): void {
    const offset = this.#room(text.length * 3);
    this.#sent(connection, offset, this.#bytes.write(text, offset, 'utf8'));
  }

  expectLines(connection: number): void {
    this.#op(OP.expectLines, connection);
  }

  expectProxy(connection: number): void {
    this.#op(OP.expectProxy, connection);
  }

  expectData(connection: number, rules: ContentRules): void {
    const max = rules.maxBytes;
    const normalize = rules.normalizeNewlines ? 1 : 0;
    this.#op(OP.expectData, connection, low(max), high(max), rules.maxLineBytes, normalize);
  }

  expectChunk(connection: number, bytes: number, last: boolean, rules: ContentRules): void {
    const max = rules.maxBytes;
    const flags = (last ? 1 : 0) | (rules.normalizeNewlines ? 2 : 0);
    this.#op(
      OP.expectChunk,
      connection,
      low(bytes),
      high(bytes),
      low(max),
      high(max),
      rules.maxLineBytes,
      flags,
    );
  }

  dropContent(connection: number): void {
    this.#op(OP.dropContent, connection);
  }

  hold(connection: number): void {
    this.#op(OP.hold, connection);
  }

  deadline(connection: number, ms: number): void {
    this.#op(OP.deadline, connection, ms);
  }

  minRate(connection: number, bytesPerSecond: number, graceMs: number): void {
    this.#op(OP.minRate, connection, bytesPerSecond, graceMs);
  }

  close(connection: number, atOnce = false): void {
    this.#op(OP.close, connection, atOnce ? 1 : 0);
  }

  sendContent(connection: number, prefix: Uint8Array, handle: number, dotStuffed: boolean): void {
    if (this.#gone) return;
    const offset = this.#room(prefix.length);
    this.#bytes.set(prefix, offset);
    this.#control[BYTES_USED] = offset + prefix.length;
    // A reference of the operation's own: the caller may release its own before the ring is executed, and then the handle
    // could stand for another content. Whoever executes or drops the operation releases it (native/reactor_ops.cc).
    this.#arena.retain(handle);
    this.#op(OP.sendContent, connection, offset, prefix.length, handle, dotStuffed ? 1 : 0);
  }

  account(connection: number, client: number, network: number, trusted: boolean): void {
    this.#op(OP.account, connection, client, network, trusted ? 1 : 0);
  }

  secure(
    connection: number,
    slot: number,
    verify: number,
    name: string,
    key: string,
    dane = '',
    silenceMs = 0,
  ): void {
    const text = `${name} ${key}${dane === '' ? '' : ` ${dane}`}`;
    const offset = this.#room(text.length);
    const length = this.#bytes.write(text, offset, 'latin1');
    this.#control[BYTES_USED] = offset + length;
    this.#op(OP.secure, connection, slot, verify, offset, length, silenceMs);
  }

  handshakes(): number {
    return this.#control[HANDSHAKES] as number;
  }

  connect(address: string, port: number, source: string, timeoutMs: number, hop?: Hop): number {
    if (hop === undefined) return addon.reactorConnect(this.#native, address, port, source, timeoutMs);
    const { kind, request, credentials } = hop;
    return addon.reactorConnect(this.#native, address, port, source, timeoutMs, kind, request, credentials);
  }

  flush(): void {
    addon.reactorFlush(this.#native);
  }

  connections(): number {
    return addon.reactorConnections(this.#native);
  }

  destroy(): void {
    this.#gone = true;
    addon.reactorDestroy(this.#native);
  }

  /** Offset for the next `bytes` of output. Makes room for an operation too, so that both are in the same flush. */
  #room(bytes: number): number {
    const used = this.#control[BYTES_USED] as number;
    if (used + bytes <= this.#bytes.length && (this.#control[OPS_USED] as number) < this.#ops.length)
      return used;
    this.flush();
    if (bytes > this.#bytes.length) {
      this.#bytes = Buffer.from(new ArrayBuffer(bytes * 2));
      addon.reactorUseBytes(this.#native, this.#bytes);
    }
    return 0;
  }

  #sent(connection: number, offset: number, length: number): void {
    this.#control[BYTES_USED] = offset + length;
    this.#op(OP.send, connection, offset, length);
  }

  #op(op: number, connection: number, a = 0, b = 0, c = 0, d = 0, e = 0, f = 0): void {
    if (this.#gone) return;
    let at = this.#control[OPS_USED] as number;
    if (at >= this.#ops.length) {
      this.flush();
      at = 0;
    }
    const ops = this.#ops;
    ops[at] = op;
    ops[at + 1] = connection;
    ops[at + 2] = a;
    ops[at + 3] = b;
    ops[at + 4] = c;
    ops[at + 5] = d;
    ops[at + 6] = e;
    ops[at + 7] = f;
    this.#control[OPS_USED] = at + OP_WORDS;
  }
}

function low(value: number): number {
  return Math.min(value, Number.MAX_SAFE_INTEGER) % 0x1_0000_0000;
}

function high(value: number): number {
  return Math.floor(Math.min(value, Number.MAX_SAFE_INTEGER) / 0x1_0000_0000);
}
