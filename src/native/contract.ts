/** What this side and the C++ addon have agreed on: content in shared memory, events, operations, sockets. */

// ---------------------------------------------------------------------------------------------- content arena

/** 64 KiB, the largest block: content up to that is in one piece, one contiguous BLOB for the database. */
export const CHUNK_BYTES = 65536;

/** What memory for content is counted in: a content takes at least this, and what it needs beyond, rounded up. */
export const CONTENT_UNIT_BYTES = 1024;

/** No content: it was refused (too big, no memory) and read only to find its end. */
export const NO_CONTENT = 0xffffffff;

/** Places of `takeHeld`: on whose account a content is, and the KiB it holds there of memory, in a file, of its envelope. */
export const HELD = { client: 0, network: 1, content: 2, spill: 3, envelope: 4 } as const;

/** Value of the per-content state word; moved only by compare-and-exchange, so that a timeout and a commit cannot both win. */
export const CONTENT_STATE = {
  waiting: 0,
  committing: 1,
  withdrawn: 2,
  abandoned: 3,
  /** The commit was done before the session gave up: the verdict is on its way and holds. */
  committed: 4,
} as const;

/**
 * Content of messages in shared memory, used by all threads of a process: blocks of 1 to 64 KiB in one
 * SharedArrayBuffer, each content in one block up to 64 KiB and in several beyond. Content longer than the spill
 * threshold lies in a file of the spill folder instead (1 KiB stays, empty, as the handle).
 */
export interface Arena {
  readonly buffer: SharedArrayBuffer;
  /** Room for content in all, and not in use now; both are multiples of CONTENT_UNIT_BYTES. */
  readonly totalBytes: number;
  freeBytes(): number;
  /**
   * Memory that a content takes, exactly what its release makes free: its length rounded up to CONTENT_UNIT_BYTES (once
   * for every 64 KiB), or one unit when it lies in a file. While it is still being received it takes up to twice of what has come (up to
   * 64 KiB; then up to 64 KiB more), and 64 KiB as the buffer of a spill file.
   */
  heldBytes(handle: number): number;
  /** Copies bytes into new memory; refs = 1. Returns NO_CONTENT when the arena is full. */
  store(bytes: Uint8Array): number;
  /** Makes a handle for content that lies in a file (takes ownership of fd, reads with pread from offset). NO_CONTENT when full. */
  storeFile(fd: number, offset: number, lengthBytes: number): number;
  lengthBytes(handle: number): number;
  /** Adds one reference. */
  retain(handle: number): void;
  /** Drops one reference; the last one frees the memory, closes the file and, if it is still an unclaimed spill file, unlinks it. */
  release(handle: number): void;
  /** Moves the state word; false when it was not `from`. */
  moveState(handle: number, from: number, to: number): boolean;
  /**
   * Views of the content in order, each at most CHUNK_BYTES, on shared memory: valid while a reference is held.
   * Content in a file yields nothing here: see `file`.
   */
  parts(handle: number): Buffer[];
  /** Where the content lies when it is in a file; the fd belongs to the arena. `path` only for spill files not yet claimed. */
  file(handle: number): { fd: number; offset: number; path: string | null } | null;
  /** A spill file was renamed into storage: it is no longer unlinked on release. */
  claimFile(handle: number): void;
  /** Books KiB of an envelope on the content's account, to be given back with it. */
  holdEnvelope(handle: number, client: number, network: number, kib: number): void;
  /** Writes what the content holds on its account by HELD; it holds nothing from now on. false: it held nothing. */
  takeHeld(handle: number, into: Int32Array): boolean;
  /** First `maxBytes` of the content, copied, wherever it lies (header parsing, DSN). */
  head(handle: number, maxBytes: number): Buffer;
}

// ---------------------------------------------------------------------------------------------------- events

/** Records of four Uint32: kind | flags << 8, connection id, a, b. */
export const EVENT_WORDS = 4;

export const EVENT = {
  /** Server: a socket was handed over; a, b = offset and length in `text` of "listener remoteIp remotePort localIp localPort" (for a Unix socket each end is "unix 0"). Client: connect succeeded; same text, listener = 0. */
  opened: 1,
  /** A line without its end; a, b = offset and length in `text`. */
  line: 2,
  /** End of data, or the BDAT chunk marked last; a = content handle or NO_CONTENT, b = trace-header count (Received:). Whoever takes the content, and so owns its reference, puts NO_CONTENT in its place before the turn ends; the reactor gives back what nobody took. The socket is held until an `expect…`. */
  content: 3,
  /** A BDAT chunk that is not the last was read; b as with `content`, so far. Held until an `expect…`. */
  chunk: 4,
  /** The connection is gone and its id will be used again; a = CLOSE_REASON, b = errno. Sent exactly once for each opened or connect. */
  closed: 5,
  /** A deadline passed (a = 0), or content came slower than the minimum rate (a = 1). b = bytes read of a line whose end has not come. The connection stays until told. */
  timeout: 6,
  /** Client: all bytes of sendContent were handed to the kernel. */
  sent: 7,
  /** Server: after expectProxy, the whole PROXY header; a, b = offset and length in `text`, flags 1 when what came is none. Held until an `expect…`. */
  proxy: 8,
  /** TLS stands; a, b = offset and length of its facts in `text` (see readTlsFacts). Lines are read again. */
  secured: 9,
  /** The handshake failed; a, b = offset and length in `text` of why. The connection is on its way to `closed`. */
  notSecured: 10,
} as const;

/**
 * What becomes of the peer's certificate. none: a client's is not asked for; ask: it is, the handshake goes on whatever
 * it is worth; need: the same, but there must be one; trust: one that cannot be trusted ends the handshake;
 * dane: the same, by TLSA records.
 */
export const TLS_VERIFY = { none: 0, ask: 1, need: 2, trust: 3, dane: 4 } as const;

export const CLOSE_REASON = { peer: 0, error: 1, local: 2, connectFailed: 3 } as const;

export const LINE_FLAG = { bareLf: 1, tooLong: 2, nul: 4, eightBit: 8, bareCr: 16 } as const;

export const CONTENT_FLAG = {
  bareLf: 1,
  bareCr: 2,
  nul: 4,
  eightBit: 8,
  /** Longer than the limit given to expectData / expectChunk. */
  tooBig: 16,
  lineTooLong: 32,
  /** The arena was full. */
  noMemory: 64,
  /** The spill file could not be written (b = errno instead of the trace count). */
  spillFailed: 128,
} as const;

export type ContentRules = {
  maxBytes: number;
  maxLineBytes: number;
  /** Turn bare CR and bare LF into CRLF instead of only flagging them. */
  normalizeNewlines: boolean;
};

export interface ReactorOptions {
  arena: Arena;
  spillDir: string;
  spillThresholdBytes: number;
  maxConnections: number;
  /** A longer command or reply line is cut and flagged. */
  maxLineBytes: number;
  /** Server reactors hold a socket after a line that starts with DATA, BDAT, STARTTLS or AUTH. */
  holdAfterVerbs: boolean;
  /** TLS handshakes under way at once, default 1000; more wait for their turn. */
  maxHandshakes?: number;
  /** What clients hold, as src/policy/accounts.ts lays it out; without it nobody counts. */
  accounts?: Uint8Array;
  /** Longest wait for a peer to take our last reply after close; default 2000. 0: never wait. */
  lingerMs?: number;
  /** Called once per loop turn; may write operations. */
  onTurn(count: number): void;
}

export interface Reactor {
  /** Number by which other threads of the process name this reactor (hand-off, load). */
  readonly id: number;
  readonly events: Uint32Array;
  /** Line and address text of the events of this turn, over a SharedArrayBuffer; overwritten by the next turn. */
  readonly text: Buffer;

  // All of these append an operation; none takes effect before the turn ends or flush().
  /** Sends bytes (copied now). Coalesced into one send per connection and turn. */
  send(connection: number, bytes: Uint8Array): void;
  /** The same for a string of Latin-1 characters (`sendUtf8` for others). */
  sendLatin1(connection: number, text: string): void;
  sendUtf8(connection: number, text: string): void;
  /** Read command lines again. */
  expectLines(connection: number): void;
  /** Read a PROXY header and nothing beyond it; to be said when the connection opens. */
  expectProxy(connection: number): void;
  /** Read dot-stuffed content up to CRLF.CRLF. */
  expectData(connection: number, rules: ContentRules): void;
  /** Read a BDAT chunk of `bytes`; chunks are joined until last. */
  expectChunk(connection: number, bytes: number, last: boolean, rules: ContentRules): void;
  /** Discards content gathered by chunks (RSET between BDATs). */
  dropContent(connection: number): void;
  /** Stop parsing until the next expect…; lines already in `events` are the caller's to keep. */
  hold(connection: number): void;
  /** Timeout event at now + ms (0: none). In content phases every received byte renews it; for lines it is absolute. What the peer sent before the event is read, and told, before it. While sendContent is under way progress renews it. Ignored while connecting: connect has its own timeout. */
  deadline(connection: number, ms: number): void;
  /** Timeout event (a = 1) when, after graceMs of a content phase, the mean rate is below bytesPerSecond. 0: off. */
  minRate(connection: number, bytesPerSecond: number, graceMs: number): void;
  /** Close after what was sent is flushed (bounded by `lingerMs`), or at once. A closed event follows. */
  close(connection: number, atOnce?: boolean): void;
  /**
   * Client: sends prefix (trace) then the content. dotStuffed: dots are stuffed, a missing final CRLF is added and
   * CRLF.CRLF ends it; else raw bytes (BDAT). Bare LF never becomes a line for stuffing purposes. A `sent` event follows.
   * The operation takes its own reference on the handle at once and gives it back when done or dropped. Content that cannot be read to its end is never
   * completed: the connection closes with EIO instead.
   */
  sendContent(connection: number, prefix: Uint8Array, handle: number, dotStuffed: boolean): void;
  /**
   * Begins TLS once what was sent is out; `secured` or `notSecured` follows. Unparsed input is forgotten. No other
   * sends go out until then. The deadline goes on counting.
   * @param slot of `tlsSlot`. @param verify of TLS_VERIFY.
   * @param name client: of the server, for SNI and verification; '' for none. No spaces.
   * @param key client: sessions made under it are resumed under it; '' for none. No spaces.
   * @param silenceMs server: a timeout event follows when the peer says nothing for so long; 0: never.
   * @param dane client, with TLS_VERIFY.dane: further names and TLSA records, as TlsStream::create reads them.
   */
  secure(
    connection: number,
    slot: number,
    verify: number,
    name: string,
    key: string,
    dane?: string,
    silenceMs?: number,
  ): void;
  /** Server: whom the content of this connection is counted for, from here on (see src/policy/accounts.ts). */
  account(connection: number, client: number, network: number, trusted: boolean): void;
  /** Client: starts a connection; answers with its id now; opened or closed (connectFailed) follows. `source` '' = any. -1 when maxConnections is reached. */
  connect(address: string, port: number, source: string, timeoutMs: number): number;

  /** Executes the operations written outside a turn; may call onTurn before it returns. */
  flush(): void;
  /** Connections open now. */
  connections(): number;
  /** TLS handshakes that have work or wait for their turn, as of the last loop turn; those that wait for their client give way. */
  handshakes(): number;
  /** Closes every connection at once and frees the reactor; no event follows. */
  destroy(): void;
}

// ---------------------------------------------------------------------------------------------------- acceptor

export interface SocketOptions {
  host?: string;
  port?: number;
  /** Unix socket path. */
  path?: string;
  backlog: number;
  reusePort?: boolean;
}

export interface ListenOptions extends SocketOptions {
  /** Accept on this listening socket instead of opening one; it stays the caller's and may close at any time. */
  fd?: number;
  /** Listener number that `opened` carries. */
  listener: number;
  /** Most sockets accepted in one call. */
  batch: number;
  /**
   * One call per batch: fds[i] with addresses[i] = "remoteIp remotePort localIp localPort". Each fd must be handed
   * off or refused before it returns.
   */
  onAccept(fds: Int32Array, addresses: string[]): void;
  /** accept failed (EMFILE, ENFILE, ENOMEM …); accepting pauses for 100 ms and goes on by itself. */
  onError(errno: number): void;
}

export interface Acceptor {
  /** The port in use (for port 0). */
  readonly port: number;
  /** Gives the socket to a reactor of any thread; false when that reactor is gone or full (the fd is still the caller's). */
  handOff(fd: number, reactorId: number, address: string): boolean;
  /** Sends `reply` without waiting and closes. */
  refuse(fd: number, reply: string): void;
  pause(): void;
  resume(): void;
  close(): void;
}
