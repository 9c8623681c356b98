// One connection: a record of plain fields, with a fixed address for the life of its slot. Decides nothing.
//
// Owns its socket, its unread bytes, its unsent output and the content it is gathering. An idle connection needs only
// this record: buffers exist only while there is something in them.
#pragma once
#include <uv.h>

#include "content_gather.h"
#include "content_scan.h"
#include "content_send.h"
#include "hop.h"
#include "tls_stream.h"

namespace protorelay {

class Reactor;

enum class Mode : uint8_t {
  kFree,
  kConnecting,
  kHop,
  kHandshake,
  kLines,
  kContent,
  kChunk,
  kLingering,
  kClosed,
  kProxyHeader
};

/** EVENT and CLOSE_REASON of src/native.ts. */
enum EventKind : uint32_t {
  kOpened = 1,
  kLine = 2,
  kContentEnd = 3,
  kChunkEnd = 4,
  kClosedEvent = 5,
  kTimeout = 6,
  kSent = 7,
  kProxy = 8,
  kSecured = 9,
  kNotSecured = 10,
};
enum CloseReason : uint8_t { kPeer = 0, kError = 1, kLocal = 2, kConnectFailed = 3 };

/** One piece of output that the kernel did not take yet: bytes, or a content with its prefix. */
struct OutItem {
  OutItem* next;
  bool content;
  /** Length of `data`, which is the output itself, or the prefix of the content. */
  size_t length;
  size_t sent;
  // For content: how far it was sent, and the block that begins at its byte `block_base` (only moves forward).
  ContentCursor cursor;
  uint32_t handle;
  uint32_t block;
  uint64_t block_base;
  uint8_t data[1];
};

struct Connection {
  uv_poll_t poll;
  Reactor* reactor;
  uint32_t id;
  uint32_t slot;
  uint32_t generation;
  int fd;
  Mode mode;
  bool server;
  /** Lines are not parsed until an expect operation. */
  bool held;
  bool pending;
  /** Close once the output is flushed. */
  bool closing;
  /** The socket was readable while lines were held: polling for input is off until input is wanted. */
  bool input_parked;
  /** The socket was readable when there was no room for events: it is read when its turn in pending_ comes. */
  bool unread;
  bool opened_due;
  bool closed_told;
  bool poll_open;
  bool touched;
  uint8_t poll_mask;
  /** The proxy between us and the peer until it has connected us; nullptr: none. */
  Hop* hop;
  /** It ended before the proxy had connected us, and not by the peer's fault. */
  bool at_proxy;
  uint8_t close_reason;
  int close_error;
  /** The socket failed with this errno; input that it still has is read before the connection is retired. */
  int failed;
  uint32_t sent_due;

  // The rest of a line that is longer than the limit is being skipped; its first bytes lie in `left`.
  bool skipping;
  uint8_t skip_flags;
  uint8_t skip_last;

  /** TLS between this connection and its socket; nullptr: none. */
  TlsStream* tls;
  /** The TLS whose handshake begins when the clear text is out; nullptr: none. */
  TlsStream* tls_next;
  bool secure_due;
  /** handshake_queued: in the queue of handshakes, and not polled; handshake_counted: among those under way. */
  bool handshake_queued;
  bool handshake_counted;
  /** Counted, and the client is to speak next: it is in the list of silent ones, oldest first. */
  bool handshake_silent;
  Connection* silent_before;
  Connection* silent_after;
  uint64_t silent_since;
  /** When the time of a silent client is over; 0: it has all the time of the handshake. */
  uint64_t silence_at;
  uint32_t silence_ms;

  /** Bytes that were read and not parsed: an incomplete line, or whatever came after a hold. */
  uint8_t* left;
  uint32_t left_length;
  uint32_t left_capacity;

  OutItem* out_first;
  OutItem* out_last;
  size_t out_bytes;
  /** First and last of this turn's sends in the reactor's list, + 1; 0: none. */
  uint32_t staged_first;
  uint32_t staged_last;

  /** The client for whom content is counted. */
  Account account;
  ContentScan scan;
  ContentGather gather;
  uint64_t chunk_left;
  bool chunk_last;

  uint64_t deadline_at;
  uint32_t deadline_ms;
  /** When input from the peer was last looked at. */
  uint64_t served_at;
  uint32_t rate;
  uint32_t rate_grace_ms;
  uint64_t rate_check_at;
  uint64_t content_started_at;
  uint64_t content_bytes;

  /** Whether there is no way to the peer yet. */
  bool opening() const { return mode == Mode::kConnecting || mode == Mode::kHop; }
  /** Puts every field but the slot, the generation and the reactor into the state of a new connection. */
  void reset();
  /** Whether there is something to parse before anything is read: bytes, or the end of an empty chunk. */
  bool has_left() const { return left_length > 0 || (mode == Mode::kChunk && chunk_left == 0); }
  /** Replaces the unparsed bytes (`from` may lie within them). */
  void keep(const uint8_t* from, size_t count);
  void drop_left();
  /** Appends bytes to the unsent output. */
  void queue_bytes(const uint8_t* from, size_t count);
  /** Appends a content to the unsent output; the item takes over its reference. */
  void queue_content(const uint8_t* prefix, size_t prefix_length, uint32_t handle, uint64_t length, bool stuffed);
  /** Frees the first item of the output. */
  void shift_output(Arena* arena);
  void drop_output(Arena* arena);
};

}  // namespace protorelay
