// One connection of tls_fuzz.cc: our end, the peer, the bytes between them, and what must hold of all.
#pragma once
#include "tls_world.h"

#include <algorithm>

namespace fuzz {

using protorelay::TlsShared;
using protorelay::TlsStream;

class Input {
 public:
  Input(const uint8_t* bytes, size_t size) : at_(bytes), end_(bytes + size) {}
  bool empty() const { return at_ == end_; }
  uint8_t next() { return empty() ? 0 : *at_++; }
  size_t wide() {
    size_t high = next();
    return high << 8 | next();
  }

 private:
  const uint8_t* at_;
  const uint8_t* end_;
};

/** The first actions are harmless: a schedule of these alone ends well. */
enum Action : uint8_t {
  kDeliver,
  kPump,
  kPeerWrites,
  kWeWrite,
  kWindow,
  kKeyUpdate,
  kSmallRoom,
  kFlush,
  kHarmless,
  kFlip = kHarmless,
  kCut,
  kInsert,
  kAlert,
  kRepeat,
  kEnd,
  kReceiveError,
  kSendError,
  kRenegotiate,
  kPeerShutdown,
  kWeFinish,
  kFlood,
  kChangeOurs,
  kClose,
  kActions
};

enum class State : uint8_t { kProxy, kShaking, kOpen, kEnded, kFailed };

/** How the two ends are set up; drawn from the input. */
struct Setup {
  explicit Setup(Input* in) {
    uint8_t bits = in->next();
    server = bits & 1;
    tls12 = bits & 2;
    small_records = bits & 4;
    certificate = bits & 8;
    proxy = server && (bits & 16) != 0;
    connections = 1 + (bits >> 5) % 3;
    uint8_t more = in->next();
    trust = more % 5;
    name = (more / 5) % 4;
    tickets = (more / 20) % 4;
  }
  bool server;
  bool tls12;
  bool small_records;
  bool certificate;
  bool proxy;
  uint8_t connections;
  uint8_t trust;
  uint8_t name;
  uint8_t tickets;
};

class Play {
 public:
  Play(const Setup& setup, TlsShared* shared, SSL_SESSION* session) : setup_(setup), shared_(shared) {
    begin_call();
    ours_ = open_ours();
    end_call();
    open_peer(session);
    state_ = setup.proxy ? State::kProxy : State::kShaking;
    if (setup.proxy) socket_.to_us = "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n";
  }
  ~Play() {
    delete ours_;
    SSL_free(peer_);
    current() = nullptr;
  }

  /** false: the connection is over. */
  bool act(Action action, Input* in);
  /** Delivers everything, and checks the result. */
  void conclude(bool expect_resumption);
  /** Whether nothing was done to the bytes and the two ends suit each other, so that the session can be resumed. */
  bool clean() const { return clean_ && !fails_by_design(); }
  SSL_SESSION* session() { return SSL_get1_session(peer_); }

 private:
  TlsStream* open_ours();
  void open_peer(SSL_SESSION* session);
  void begin_call() {
    ERR_clear_error();
    socket_.drawn = 0;
    current() = &socket_;
  }
  void end_call() {
    require(socket_.drawn <= kMostDrawn, "one call reads without end");
    require(ERR_peek_error() == 0, "an error stays in the queue");
    // Another connection of the reactor has its turn.
    memset(shared_->records, 0xa5, sizeof shared_->records);
    memset(shared_->joined, 0xa5, sizeof shared_->joined);
    current() = nullptr;
  }
  void step_ours();
  void shake();
  void receive();
  void we_write(size_t count, size_t pieces);
  void step_peer();
  void peer_write(size_t count);
  void pump();
  bool fails_by_design() const;
  void tampered() { clean_ = false; }

  const Setup setup_;
  TlsShared* shared_;
  Socket socket_;
  TlsStream* ours_ = nullptr;
  SSL* peer_ = nullptr;
  State state_;
  bool peer_open_ = false;
  bool peer_dead_ = false;
  bool peer_heard_end_ = false;
  bool clean_ = true;
  bool resumed_ = false;
  size_t room_ = 65536;
  size_t we_owe_ = 0;
  size_t we_sent_ = 0;
  size_t we_got_ = 0;
  size_t peer_sent_ = 0;
  size_t peer_got_ = 0;
};

}  // namespace fuzz
