/**
 * The server side of the reactor contract in plain TypeScript, without sockets: a test opens connections, feeds octets
 * and reads what was sent. Everything happens before `feed` returns, so a dialog needs no waiting.
 */
import {
  type Arena,
  type ByteRange,
  CHUNK_BYTES,
  CLOSE_REASON,
  CONTENT_FLAG,
  CONTENT_STATE,
  type ContentRules,
  EVENT,
  FIELD_UNKNOWN,
  LINE_FLAG,
  NO_CONTENT,
  type Reactor,
  scanContent,
} from '../../src/native.ts';
import { proxyExtent } from '../../src/protocol/proxy-header.ts';

type ArenaPart = Pick<
  Arena,
  | 'lengthBytes'
  | 'retain'
  | 'release'
  | 'moveState'
  | 'head'
  | 'fieldAt'
  | 'textAt'
  | 'marked'
  | 'cut'
  | 'parts'
  | 'totalBytes'
  | 'freeBytes'
  | 'holdEnvelope'
  | 'takeHeld'
>;

/** Content in a Map; throws on every misuse of a reference, and can tell whether all were given back. */
export class PlainArena implements ArenaPart {
  readonly totalBytes = 64 * CHUNK_BYTES;
  free = 64 * CHUNK_BYTES;
  #next = 1;
  readonly #contents = new Map<number, { bytes: Buffer; refs: number; state: number }>();
  readonly #envelopes = new Map<number, number[]>();

  store(bytes: Buffer): number {
    this.#contents.set(this.#next, { bytes, refs: 1, state: CONTENT_STATE.waiting });
    return this.#next++;
  }
  freeBytes(): number {
    return this.free;
  }
  bytes(handle: number): Buffer {
    return this.#at(handle).bytes;
  }
  state(handle: number): number {
    return this.#at(handle).state;
  }
  parts(handle: number): Buffer[] {
    return [this.#at(handle).bytes];
  }
  fieldAt(): number {
    return FIELD_UNKNOWN;
  }
  textAt(handle: number, from: number, to: number): string {
    return this.#at(handle).bytes.toString('latin1', from, to);
  }
  head(handle: number, maxBytes: number): Buffer {
    return this.#at(handle).bytes.subarray(0, maxBytes);
  }
  marked(handle: number): boolean {
    return scanContent(this.#at(handle).bytes, 0, false, false, 0).marked;
  }
  cut(handle: number, ranges: readonly ByteRange[]): void {
    const content = this.#at(handle);
    const { bytes } = content;
    const starts = [0, ...ranges.map(({ to }) => to)];
    content.bytes = Buffer.concat(starts.map((start, i) => bytes.subarray(start, ranges[i]?.from)));
  }
  lengthBytes(handle: number): number {
    return this.#at(handle).bytes.length;
  }
  retain(handle: number): void {
    this.#at(handle).refs++;
  }
  release(handle: number): void {
    if (--this.#at(handle).refs === 0) this.#contents.delete(handle);
  }
  moveState(handle: number, from: number, to: number): boolean {
    const content = this.#at(handle);
    if (content.state !== from) return false;
    content.state = to;
    return true;
  }
  holdEnvelope(handle: number, client: number, network: number, kib: number): void {
    this.#envelopes.set(handle, [client, network, 0, 0, kib]);
  }
  takeHeld(handle: number, into: Int32Array): boolean {
    const held = this.#envelopes.get(handle);
    if (held === undefined) return false;
    this.#envelopes.delete(handle);
    into.set(held);
    return true;
  }
  /** Contents that somebody still holds. */
  get held(): number {
    return this.#contents.size;
  }
  #at(handle: number): { bytes: Buffer; refs: number; state: number } {
    const content = this.#contents.get(handle);
    if (content === undefined) throw new Error(`content ${handle} is not in the arena`);
    return content;
  }
}

interface Wire {
  id: number;
  input: string;
  mode: 'lines' | 'held' | 'data' | 'chunk' | 'proxy';
  rules: ContentRules;
  chunk: { left: number; last: boolean };
  gathered: string;
  received: number;
  deadlineMs: number;
  closing: boolean;
}

const HOLDING = /^(DATA|BDAT|STARTTLS|AUTH)/i;

export class PlainReactor {
  readonly id = 1;
  readonly events = new Uint32Array(4096);
  readonly text = Buffer.allocUnsafe(1 << 18);
  readonly arena: PlainArena;
  onTurn: (count: number) => void = () => {};
  /** Everything sent, by connection. */
  readonly sent: string[] = [];
  readonly closedByUs = new Set<number>();
  /** Connections whose handshake is to end. */
  readonly securing = new Set<number>();
  handshakesUnderWay = 0;
  #wires: Wire[] = [];
  #ops: (() => void)[] = [];
  #count = 0;
  #textUsed = 0;
  readonly #maxLine: number;
  /** Flags the next content gets on top of what is found in it (out of memory, spill failed), and its b. */
  fault: { flags: number; detail: number } | null = null;

  constructor(arena: PlainArena, maxLineBytes: number) {
    this.arena = arena;
    this.#maxLine = maxLineBytes;
  }

  /** Opens a connection as a peer of that address. */
  open(address = '127.0.0.1'): number {
    const id = this.#wires.length;
    this.#wires.push({
      id,
      input: '',
      mode: 'lines',
      rules: { maxBytes: 0, maxLineBytes: 0, normalizeNewlines: false },
      chunk: { left: 0, last: true },
      gathered: '',
      received: 0,
      deadlineMs: 0,
      closing: false,
    });
    this.sent[id] = '';
    this.#textEvent(EVENT.opened, 0, id, `0 ${address} 40000 127.0.0.1 2525`);
    this.#turn();
    return id;
  }

  feed(id: number, octets: string | Buffer): void {
    // Clear text in a handshake is not TLS and comes to nothing.
    if (this.securing.has(id)) return;
    const wire = this.#wire(id);
    wire.input +=
      typeof octets === 'string' ? Buffer.from(octets, 'utf8').toString('latin1') : octets.toString('latin1');
    this.#pump();
  }

  /** The peer hangs up. */
  hangUp(id: number): void {
    this.#retire(this.#wire(id), CLOSE_REASON.peer);
    this.#pump();
  }

  /** The deadline passes, or content is too slow. */
  timeout(id: number, tooSlow = false): void {
    this.#event(EVENT.timeout, 0, id, tooSlow ? 1 : 0, this.#wire(id).input.length);
    this.#turn();
    this.#pump();
  }

  /** The handshake ends: with these facts (EVENT.secured), or without success. */
  handshake(id: number, result: { facts: string } | { failure: string }): void {
    this.securing.delete(id);
    const wire = this.#wire(id);
    if ('facts' in result) {
      wire.mode = 'lines';
      this.#textEvent(EVENT.secured, 0, id, result.facts);
    } else {
      this.#textEvent(EVENT.notSecured, 0, id, result.failure);
      this.#retire(wire, CLOSE_REASON.local);
    }
    this.#turn();
    this.#pump();
  }

  /** The deadline last set, relative to when it was set. */
  deadlineOf(id: number): number {
    return this.#wire(id).deadlineMs;
  }

  // ------------------------------------------------------------------------------------------- Reactor methods
  send(id: number, bytes: Uint8Array): void {
    const text = Buffer.from(bytes).toString('latin1');
    this.#ops.push(() => this.#write(id, text));
  }
  sendLatin1(id: number, text: string): void {
    this.#ops.push(() => this.#write(id, text));
  }
  expectLines(id: number): void {
    this.#ops.push(() => {
      this.#wire(id).mode = 'lines';
    });
  }
  account(): void {}
  expectData(id: number, rules: ContentRules): void {
    this.#ops.push(() => Object.assign(this.#wire(id), { mode: 'data', rules, gathered: '' }));
  }
  expectChunk(id: number, bytes: number, last: boolean, rules: ContentRules): void {
    this.#ops.push(() =>
      Object.assign(this.#wire(id), { mode: 'chunk', rules, chunk: { left: bytes, last } }),
    );
  }
  expectProxy(id: number): void {
    this.#ops.push(() => {
      this.#wire(id).mode = 'proxy';
    });
  }
  hold(id: number): void {
    this.#ops.push(() => {
      const wire = this.#wire(id);
      if (wire.mode === 'lines') wire.mode = 'held';
    });
  }
  dropContent(id: number): void {
    this.#ops.push(() => {
      this.#wire(id).gathered = '';
    });
  }
  deadline(id: number, ms: number): void {
    this.#ops.push(() => {
      this.#wire(id).deadlineMs = ms;
    });
  }
  minRate(): void {}
  close(id: number): void {
    this.#ops.push(() => {
      const wire = this.#wire(id);
      wire.closing = true;
      this.closedByUs.add(id);
      this.#retire(wire, CLOSE_REASON.local);
    });
  }
  /** Waits for `handshake`; what was pipelined behind the request is forgotten. */
  secure(id: number): void {
    this.#ops.push(() => {
      const wire = this.#wire(id);
      wire.mode = 'held';
      wire.input = '';
      this.securing.add(id);
    });
  }
  handshakes(): number {
    return this.handshakesUnderWay;
  }
  flush(): void {
    this.#runOps();
    this.#pump();
  }
  asReactor(): Reactor {
    return this as unknown as Reactor;
  }

  // ---------------------------------------------------------------------------------------------------- inside
  #wire(id: number): Wire {
    return this.#wires[id] as Wire;
  }

  #write(id: number, text: string): void {
    if (!this.closedByUs.has(id)) this.sent[id] += text;
  }

  #retire(wire: Wire, reason: number): void {
    wire.mode = 'held';
    wire.input = '';
    this.#event(EVENT.closed, 0, wire.id, reason, 0);
  }

  #event(kind: number, flags: number, id: number, a: number, b: number): void {
    this.events.set([kind | (flags << 8), id, a, b], this.#count * 4);
    this.#count++;
  }

  #textEvent(kind: number, flags: number, id: number, text: string): void {
    this.text.write(text, this.#textUsed, 'latin1');
    this.#event(kind, flags, id, this.#textUsed, text.length);
    this.#textUsed += text.length;
  }

  #turn(): void {
    const count = this.#count;
    this.#count = this.#textUsed = 0;
    this.onTurn(count);
    this.#runOps();
  }

  #runOps(): void {
    for (const op of this.#ops.splice(0)) op();
  }

  #pump(): void {
    for (;;) {
      for (const wire of this.#wires) this.#parse(wire);
      if (this.#count === 0) return;
      this.#turn();
    }
  }

  #parse(wire: Wire): void {
    if (wire.closing) return;
    if (wire.mode === 'proxy') this.#proxy(wire);
    while (wire.mode === 'lines' && this.#count < 500 && this.#line(wire));
    if (wire.mode === 'data') this.#data(wire);
    else if (wire.mode === 'chunk') this.#chunk(wire);
  }

  #proxy(wire: Wire): void {
    const extent = proxyExtent(wire.input);
    if (extent === 0) return;
    wire.mode = 'held';
    const header = extent < 0 ? '' : wire.input.slice(0, extent);
    wire.input = wire.input.slice(header.length);
    this.#textEvent(EVENT.proxy, extent < 0 ? 1 : 0, wire.id, header);
  }

  #line(wire: Wire): boolean {
    const lf = wire.input.indexOf('\n');
    if (lf < 0) return false;
    const crlf = lf > 0 && wire.input[lf - 1] === '\r';
    let line = wire.input.slice(0, crlf ? lf - 1 : lf);
    wire.input = wire.input.slice(lf + 1);
    let flags = crlf ? 0 : LINE_FLAG.bareLf;
    if (line.length > this.#maxLine) {
      flags |= LINE_FLAG.tooLong;
      line = line.slice(0, this.#maxLine);
    }
    if (line.includes('\0')) flags |= LINE_FLAG.nul;
    if (line.includes('\r')) flags |= LINE_FLAG.bareCr;
    if (/[^\0-\x7f]/.test(line)) flags |= LINE_FLAG.eightBit;
    if (HOLDING.test(line)) wire.mode = 'held';
    this.#textEvent(EVENT.line, flags, wire.id, line);
    return true;
  }

  #data(wire: Wire): void {
    const end = `\r\n${wire.input}`.indexOf('\r\n.\r\n');
    if (end < 0) return;
    // The CRLF before the dot belongs to the content, and the one of the DATA line is not in the input.
    const stuffed = wire.input.slice(0, end);
    wire.input = wire.input.slice(end + 3);
    this.#complete(wire, stuffed.replace(/(^|\r\n)\./g, '$1'));
  }

  #chunk(wire: Wire): void {
    const { left, last } = wire.chunk;
    if (wire.input.length < left) return;
    wire.gathered += wire.input.slice(0, left);
    wire.input = wire.input.slice(left);
    if (last) {
      const { gathered } = wire;
      wire.gathered = '';
      this.#complete(wire, gathered);
      return;
    }
    wire.mode = 'held';
    const { flags, detail } = this.#takeFault();
    this.#event(EVENT.chunk, flags, wire.id, 0, detail);
  }

  #takeFault(): { flags: number; detail: number } {
    const fault = this.fault ?? { flags: 0, detail: 0 };
    this.fault = null;
    return fault;
  }

  #complete(wire: Wire, found: string): void {
    wire.mode = 'held';
    const fault = this.#takeFault();
    const { rules } = wire;
    let flags = fault.flags;
    if (/(^|[^\r])\n/.test(found)) flags |= CONTENT_FLAG.bareLf;
    if (/\r(?!\n)/.test(found)) flags |= CONTENT_FLAG.bareCr;
    if (found.includes('\0')) flags |= CONTENT_FLAG.nul;
    if (/[^\0-\x7f]/.test(found)) flags |= CONTENT_FLAG.eightBit;
    if (found.length > rules.maxBytes) flags |= CONTENT_FLAG.tooBig;
    if (found.split('\r\n').some((line) => line.length + 2 > rules.maxLineBytes))
      flags |= CONTENT_FLAG.lineTooLong;
    const content = rules.normalizeNewlines ? found.replace(/\r\n|\r|\n/g, '\r\n') : found;
    const header = `\r\n${content.split('\r\n\r\n')[0]}`;
    const hops = header.match(/\r\nreceived:/gi)?.length ?? 0;
    const lost = CONTENT_FLAG.tooBig | CONTENT_FLAG.noMemory | CONTENT_FLAG.spillFailed;
    const handle = (flags & lost) !== 0 ? NO_CONTENT : this.arena.store(Buffer.from(content, 'latin1'));
    this.#event(
      EVENT.content,
      flags,
      wire.id,
      handle,
      (flags & CONTENT_FLAG.spillFailed) !== 0 ? fault.detail : hops,
    );
  }
}
