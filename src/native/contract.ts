/** The contract between this side and the C++ addon: content in shared memory, events, operations, sockets. */

// ---------------------------------------------------------------------------------------------- content arena

/** Largest block of content memory: content up to this is in one piece, and so one contiguous BLOB for the database. */
export const CHUNK_BYTES = 65536;

/** Unit of memory for content: a content takes a whole number of these, at least one. */
export const CONTENT_UNIT_BYTES = 1024;

/** No content: it was refused (too big, no memory) and read only to find its end. */
export const NO_CONTENT = 0xffffffff;

/** Header fields that the reactor finds, for `fieldAt`. */
export const FIELD = { messageId: 0, contentType: 1 } as const;
/** What `fieldAt` says instead of a place. */
export const FIELD_UNKNOWN = 0;
export const NO_FIELD = 1;

/** Indexes of `takeHeld`: the account of a content, and the KiB that it holds there of memory, file and envelope. */
export const HELD = { client: 0, network: 1, content: 2, spill: 3, envelope: 4 } as const;

/** States of a content, changed only by compare-and-exchange, so that a timeout and a commit cannot both win. */
export const CONTENT_STATE = {
  waiting: 0,
  committing: 1,
  withdrawn: 2,
  abandoned: 3,
  /** The commit was done before the session gave up: the verdict is on its way and holds. */
  committed: 4,
} as const;

/** Octets of a content, from `from` up to but without `to`. */
export interface ByteRange {
  from: number;
  to: number;
}

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
   * Memory that a content takes, which is exactly what its release makes free: its length rounded up to CONTENT_UNIT_BYTES
   * (for every 64 KiB of it), or one unit when it lies in a file. While it is being received it takes more: up to twice
   * what has come, or beyond 64 KiB up to 64 KiB more than has come; with a spill file 64 KiB, as its buffer.
   */
  heldBytes(handle: number): number;
  /** Copies bytes into new memory; refs = 1. Returns NO_CONTENT when the arena is full. */
  store(bytes: Uint8Array): number;
  /** Makes a handle for content in a file: takes over `fd` and reads from `offset` with pread. NO_CONTENT when full. */
  storeFile(fd: number, offset: number, lengthBytes: number): number;
  lengthBytes(handle: number): number;
  /** Adds one reference. */
  retain(handle: number): void;
  /** Drops one reference. The last one frees the memory and closes the file; a spill file that nobody claimed is unlinked. */
  release(handle: number): void;
  /** Moves the state word; false when it was not `from`. */
  moveState(handle: number, from: number, to: number): boolean;
  /**
   * Views of the content in order, each at most CHUNK_BYTES, on shared memory: valid while a reference is held.
   * Content in a file yields nothing here: see `file`.
   */
  parts(handle: number): Buffer[];
  /** Where the content lies when it is in a file; the arena owns `fd`. `path` is set only for unclaimed spill files. */
  file(handle: number): { fd: number; offset: number; path: string | null } | null;
  /** The spill file was renamed into storage: it is no longer unlinked on release. */
  claimFile(handle: number): void;
  /** Books KiB of an envelope on the content's account, to be given back with it. */
  holdEnvelope(handle: number, client: number, network: number, kib: number): void;
  /** Writes what the content holds on its account, by HELD, and makes it hold nothing. False when it held nothing. */
  takeHeld(handle: number, into: Int32Array): boolean;
  /**
   * Where the value of the first such header field begins (FIELD); NO_FIELD where there is none; FIELD_UNKNOWN for content
   * in a file, or that no reactor received.
   */
  fieldAt(handle: number, field: number): number;
  /**
   * Octets of the first block of a content in memory as Latin-1, from `from` to `to` or its end; '' for content in a file.
   * Costs less than `parts`, which makes a view.
   */
  textAt(handle: number, from: number, to: number): string;
  /** Whether the reactor has seen a header field in it whose name begins with 'X-ProtoRelay-'. */
  marked(handle: number): boolean;
  /**
   * Takes these ranges, ascending and apart, out of a content of which the caller has the only reference. In memory only the
   * blocks they lie in are touched; of a file what stands before the last of them is written again. @throws Error of the file.
   */
  cut(handle: number, ranges: readonly ByteRange[]): void;
  /** First `maxBytes` of the content, copied, wherever it lies (header parsing, DSN). */
  head(handle: number, maxBytes: number): Buffer;
}

// ---------------------------------------------------------------------------------------------------- events

/** Records of four Uint32: kind | flags << 8, connection id, a, b. */
export const EVENT_WORDS = 4;

export const EVENT = {
  /**
   * Server: a socket was handed over. Client: connect succeeded. a, b = offset and length in `text` of
   * "listener remoteIp remotePort localIp localPort", where a Unix socket has "unix 0" for each end and a client has
   * listener 0.
   */
  opened: 1,
  /** A line without its end; a, b = offset and length in `text`. */
  line: 2,
  /**
   * End of data, or of the BDAT chunk marked last; a = content handle or NO_CONTENT, b = number of Received: fields.
   * Whoever takes the content, and with it its reference, puts NO_CONTENT in its place before the turn ends; the reactor
   * releases what nobody took. Nothing is read until an `expect…`.
   */
  content: 3,
  /** A BDAT chunk that is not the last was read; b as with `content`, so far. Nothing is read until an `expect…`. */
  chunk: 4,
  /** The connection is gone, and its id may be used again; a = CLOSE_REASON, b = errno. Exactly once per connection. */
  closed: 5,
  /**
   * A deadline passed (a = 0), or content comes slower than the minimum rate (a = 1). b = bytes read of a line whose end
   * has not come. The connection stays open.
   */
  timeout: 6,
  /** Client: all bytes of sendContent were handed to the kernel. */
  sent: 7,
  /**
   * Server, after expectProxy: the whole PROXY header; a, b = offset and length in `text`; flags = 1 when what came is
   * no such header. Nothing is read until an `expect…`.
   */
  proxy: 8,
  /** TLS is up; a, b = offset and length of its facts in `text` (see readTlsFacts). Lines are read again. */
  secured: 9,
  /** The handshake failed; a, b = offset and length of the reason in `text`. A `closed` follows. */
  notSecured: 10,
} as const;

/**
 * How the peer's certificate is checked. none: a client is not asked for one; ask: it is asked, and the handshake goes on
 * whatever it shows; need: the same, but it must show one; trust: a certificate that cannot be trusted ends the handshake;
 * dane: the same, trusted by TLSA records.
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

/** HopKind of native/hop.h. */
export const HOP = { socks5: 1, haproxy: 2 } as const;

/** What is said to a proxy before the connection leads to the peer. */
export interface Hop {
  kind: (typeof HOP)[keyof typeof HOP];
  /** SOCKS5: the CONNECT request (RFC 1928 §4). HAProxy: the PROXY header. */
  request: Uint8Array;
  /** SOCKS5: the message with user name and password (RFC 1929 §2); empty: none. */
  credentials: Uint8Array;
}

export interface ReactorOptions {
  arena: Arena;
  spillDir: string;
  spillThresholdBytes: number;
  maxConnections: number;
  /** A longer command or reply line is cut and flagged. */
  maxLineBytes: number;
  /** For servers: after a line that begins with DATA, BDAT, STARTTLS or AUTH nothing is read until an `expect…`. */
  holdAfterVerbs: boolean;
  /** TLS handshakes under way at once, default 1000; more wait for their turn. */
  maxHandshakes?: number;
  /** Accounts of clients, as src/policy/accounts.ts lays them out; absent: nothing is counted. */
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
  /** The same for a string of Latin-1 characters. */
  sendLatin1(connection: number, text: string): void;
  sendUtf8(connection: number, text: string): void;
  /** Read command lines again. */
  expectLines(connection: number): void;
  /** Read a PROXY header and nothing beyond it; to be called when the connection opens. */
  expectProxy(connection: number): void;
  /** Read dot-stuffed content up to CRLF.CRLF. */
  expectData(connection: number, rules: ContentRules): void;
  /** Read a BDAT chunk of `bytes`; chunks are joined until last. */
  expectChunk(connection: number, bytes: number, last: boolean, rules: ContentRules): void;
  /** Discards content gathered by chunks (RSET between BDATs). */
  dropContent(connection: number): void;
  /** Read nothing until the next `expect…`; the caller has to keep lines that are already in `events`. */
  hold(connection: number): void;
  /**
   * Timeout event at now + ms (0: none). While content is received every byte renews it, while content is sent all
   * progress does; for lines it is absolute. What the peer sent before the deadline is read and reported before the
   * timeout event. Ignored while connecting: connect has its own timeout.
   */
  deadline(connection: number, ms: number): void;
  /** Timeout event (a = 1) when, after graceMs of a content phase, the mean rate is below bytesPerSecond. 0: off. */
  minRate(connection: number, bytesPerSecond: number, graceMs: number): void;
  /** Close after what was sent is flushed (bounded by `lingerMs`), or at once. A closed event follows. */
  close(connection: number, atOnce?: boolean): void;
  /**
   * Client: sends prefix (trace), then the content. dotStuffed: dots are stuffed, a missing final CRLF is added, and
   * CRLF.CRLF ends it; else raw bytes (BDAT). A bare LF begins no line for stuffing. A `sent` event follows. The operation
   * takes its own reference on the handle at once, and releases it when done or dropped. Content that cannot be read to
   * its end is never completed: the connection closes with EIO instead.
   */
  sendContent(connection: number, prefix: Uint8Array, handle: number, dotStuffed: boolean): void;
  /**
   * Begins TLS once what was sent is out; `secured` or `notSecured` follows, and nothing else is sent until then. Input
   * that is not parsed yet is dropped. The deadline goes on counting.
   * @param slot of `tlsSlot`. @param verify of TLS_VERIFY.
   * @param name client: the server's name, for SNI and verification; '' for none. No spaces.
   * @param key client: a session made under a key is resumed under the same one; '' for none. No spaces.
   * @param silenceMs server: a timeout event follows when the peer sends nothing for so long; 0: never.
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
  /** Server: from here on the content of this connection is counted for this account (see src/policy/accounts.ts). */
  account(connection: number, client: number, network: number, trusted: boolean): void;
  /**
   * Client: starts a connection and returns its id at once, or -1 when maxConnections is reached. `opened` or `closed`
   * (connectFailed) follows; its flag 1 says that the proxy is to blame, not the peer. @param address of the peer, or of
   * the proxy that leads there. @param source own address; '' for any.
   */
  connect(address: string, port: number, source: string, timeoutMs: number, hop?: Hop): number;

  /** Executes the operations written outside a turn; may call onTurn before it returns. */
  flush(): void;
  /** Connections open now. */
  connections(): number;
  /** TLS handshakes that have work or wait for their turn, as of the last loop turn; not those that wait for their peer. */
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
  /** Accept on this listening socket instead of opening one. It stays the caller's, who may close it at any time. */
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
  /** Gives the socket to a reactor of any thread; false, and `fd` stays the caller's, when the reactor is gone or full. */
  handOff(fd: number, reactorId: number, address: string): boolean;
  /** Sends `reply` without waiting and closes. */
  refuse(fd: number, reply: string): void;
  pause(): void;
  resume(): void;
  close(): void;
}
