// The reactor: connections of one thread on that thread's libuv loop.
//
// Mechanism only. It reads, splits lines, gathers content, writes, and watches deadlines; the session behind
// `on_turn` decides what any of it means. Events are collected while libuv polls, and delivered in one call per loop
// turn; operations come back in a ring and are executed after that call. No connection record moves or is freed while
// a call to JavaScript can re-enter, and operations never write events: work that produces events waits in `pending_`
// until the operations are done.
#pragma once
#include <node_api.h>
#include <uv.h>

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "connection.h"
#include "registry.h"

namespace protorelay {

/** Memory shared with src/native.ts; the creator keeps references to all of it until the reactor is gone. */
struct ReactorSetup {
  Arena* arena = nullptr;
  /** Counts what clients hold; without its memory nothing is counted. */
  Accounts accounts;
  uint64_t spill_threshold = 0;
  uint32_t max_connections = 0;
  uint32_t max_line = 0;
  uint32_t linger_ms = 0;
  bool hold_after_verbs = false;
  /** Most TLS handshakes under way at the same time; others wait for their turn. */
  uint32_t max_handshakes = 0;
  uint32_t* events = nullptr;
  uint32_t event_capacity = 0;
  uint8_t* text = nullptr;
  uint32_t text_capacity = 0;
  /** Operations: records of kOpWords. */
  const uint32_t* ops = nullptr;
  uint32_t op_words = 0;
  /** Word 0: words used in ops. Word 1: bytes used in bytes. Word 2, written here: how many handshakes have work or wait
      for a place. */
  uint32_t* control = nullptr;
  const uint8_t* bytes = nullptr;
  size_t byte_capacity = 0;
};

/** Bounds of what a reactor can be asked for; the config's schema keeps within them (test/config/bounds.test.ts). */
constexpr uint32_t kMaxConnections = 1u << 20;
constexpr uint32_t kLeastLine = 64;
constexpr uint32_t kMaxLine = 16384;

constexpr uint32_t kEventWords = 4;
constexpr uint32_t kOpWords = 8;
constexpr size_t kScratchBytes = 65536;
/** Most bytes read from one connection before the others have their turn. */
constexpr size_t kTurnBytes = 262144;
/** Most lines of one connection in one call: a flood of short lines must not keep other connections waiting. */
constexpr uint32_t kTurnLines = 512;
/** Most unsent output of one connection, not counting content; beyond it the connection is closed (ENOBUFS). */
constexpr size_t kMaxUnsent = 4194304;
/** How long one loop turn works on handshakes; after that, established connections have their turn. */
constexpr uint64_t kHandshakeNs = 2000000;
/** A client that has kept a handshake waiting for this long has to make room for another one. */
constexpr uint64_t kHandshakeGraceMs = 1000;
/**
 * If a check is this late, we were held up ourselves (stopped process, paused machine): the peer's rate is not judged
 * by it.
 */
constexpr uint64_t kStallMs = 1000;
/** Most calls into JavaScript in one loop turn before libuv polls again. */
constexpr int kMaxRounds = 8;

struct StagedSend {
  uint32_t offset;
  uint32_t length;
  /** The next send of the same connection, + 1; 0: none. */
  uint32_t next;
};

class Reactor {
 public:
  using Released = void (*)(void* owner);

  /**
   * Makes a reactor on the loop of env; nullptr and a libuv error when that fails. `released` runs when all handles
   * are closed.
   */
  static Reactor* create(napi_env env, napi_ref on_turn, const ReactorSetup& setup, void* owner, Released released,
                         int* error);

  int id() const { return id_; }
  uint32_t connections() const { return live_; }
  /** Executes the operations in the ring. Outside a turn also schedules a turn for the work that follows from them. */
  void flush();
  void use_bytes(const uint8_t* bytes, size_t capacity);
  /** Opens a client connection. Its id, or -1 when all slots are in use. */
  int64_t connect(const std::string& address, uint16_t port, const std::string& source, uint32_t timeout_ms,
                  const HopSetup& hop);
  /** Closes everything; `released` is called later, on the loop. */
  void destroy();

 private:
  Reactor() = default;
  ~Reactor() = default;

  // reactor.cc: life, slots, the turn
  void turn();
  void serve();
  void call_turn();
  void run_pending();
  void work(Connection* c);
  void push_pending(Connection* c);
  void wake_soon();
  void adopt(const HandOff& arrival);
  Connection* new_connection();
  Connection* find(uint32_t id) const;
  void open_poll(Connection* c);
  void watch(Connection* c);
  void retire(Connection* c, CloseReason reason, int error);
  void settle_slot(Connection* c);
  void handle_closed();
  static void on_check(uv_check_t* handle);
  static void on_idle(uv_idle_t* handle);
  static void on_async(uv_async_t* handle);
  static void on_poll(uv_poll_t* handle, int status, int events);
  static void on_poll_closed(uv_handle_t* handle);
  static void on_own_closed(uv_handle_t* handle);

  // reactor_events.cc: event records and deadlines
  bool room() const;
  void event(EventKind kind, uint8_t flags, uint32_t connection, uint32_t a, uint32_t b);
  void text_event(EventKind kind, uint8_t flags, uint32_t connection, const uint8_t* from, size_t length);
  void opened_event(Connection* c);
  void content_event(Connection* c, uint8_t flags, uint32_t handle, uint32_t note);
  void give_back_contents();
  void due_at(uint64_t at);
  void watch_rate(Connection* c);
  void renew(Connection* c);
  bool owed(const Connection* c) const;
  void expire(Connection* c, uint64_t now);
  void expire_silence(Connection* c, uint64_t now);
  void check_deadlines();
  static void on_timer(uv_timer_t* handle);

  // reactor_input.cc
  void read(Connection* c);
  void read_lines(Connection* c);
  void read_content(Connection* c);
  void read_lingering(Connection* c);
  // reactor_proxy.cc
  void read_proxy(Connection* c);
  void parse_proxy(Connection* c);
  void proxy_event(Connection* c, int extent, const uint8_t* from, size_t count);
  // reactor_hop.cc
  void begin_hop(Connection* c);
  void run_hop(Connection* c);
  // reactor_input.cc
  void read_rest(Connection* c);
  void received_nothing(Connection* c, ssize_t result);
  void take_lines(Connection* c, const uint8_t* from, size_t count);
  size_t take_skipped(Connection* c, const uint8_t* from, size_t count);
  size_t take_content(Connection* c, const uint8_t* from, size_t count);
  size_t scan_into(Connection* c, const uint8_t* from, size_t count, uint8_t* to);
  void scan_in_place(Connection* c, uint8_t* to, size_t gap, size_t count, bool direct);
  void scan_landed(Connection* c, size_t gap, size_t count, uint32_t landing);
  void end_scan(Connection* c, size_t used);
  void parse_left(Connection* c);
  void want_input(Connection* c);
  void end_content(Connection* c);
  void end_chunk(Connection* c);

  // reactor_output.cc
  void stage(Connection* c, uint32_t offset, uint32_t length);
  void send_staged(Connection* c);
  void write_output(Connection* c);
  size_t write_content(Connection* c, OutItem* item);
  size_t fetch(OutItem* item, uint64_t at, const uint8_t** from, int* error);
  void finish_closing(Connection* c);
  void finish_connecting(Connection* c);
  void connected(Connection* c);

  // reactor_tls.cc
  void op_secure(Connection* c, const uint32_t* op);
  void begin_handshake(Connection* c);
  void queue_handshake(Connection* c);
  void run_handshakes();
  void step_handshake(Connection* c);
  void end_handshake(Connection* c);
  void count_handshakes();
  void await_peer(Connection* c);
  void heard_from(Connection* c);
  void pass_over_silent();
  void drop_tls(Connection* c);

  // reactor_ops.cc
  void run_ops();
  void run_op(const uint32_t* op);
  void drop_op(const uint32_t* op);
  void drop_ops();
  void expect(Connection* c, Mode mode);
  void op_content(Connection* c, const uint32_t* op);
  void op_chunk(Connection* c, const uint32_t* op);
  void op_send_content(Connection* c, const uint32_t* op);

  napi_env env_ = nullptr;
  napi_ref on_turn_ = nullptr;
  ReactorSetup setup_;
  void* owner_ = nullptr;
  Released released_ = nullptr;
  uv_loop_t* loop_ = nullptr;
  uv_check_t check_;
  uv_idle_t idle_;
  uv_timer_t timer_;
  uv_async_t async_;
  int id_ = -1;
  int open_handles_ = 0;
  bool in_turn_ = false;
  bool destroyed_ = false;
  bool idle_on_ = false;
  uint64_t timer_at_ = 0;
  /** The timer fired; deadlines are checked when input that came before them was read. */
  bool deadlines_due_ = false;

  uint32_t slot_bits_ = 0;
  uint32_t live_ = 0;
  std::vector<Connection*> slots_;
  std::vector<uint32_t> free_slots_;
  std::vector<Connection*> pending_;
  std::vector<Connection*> working_;
  std::vector<HandOff> arrivals_;
  std::vector<StagedSend> staged_;
  std::vector<Connection*> touched_;

  /** Handshakes by connection id: here those with something to do; below those that wait to be among max_handshakes. */
  std::deque<uint32_t> handshakes_;
  std::deque<uint32_t> handshakes_waiting_;
  uint32_t handshakes_counted_ = 0;
  uint32_t waiting_count_ = 0;
  /** Counted handshakes that wait for their client; the one that has waited longest is first. */
  Connection* silent_first_ = nullptr;
  Connection* silent_last_ = nullptr;
  uint32_t silent_count_ = 0;
  std::unique_ptr<TlsShared> tls_;

  uint32_t event_count_ = 0;
  /** Events of this turn that carry a content. */
  std::vector<uint32_t> content_events_;
  uint32_t text_used_ = 0;
  bool spare_used_ = false;
  /** Where each connection in turn reads lines; never kept. Memory of its own, so that sanitizers see where it ends. */
  const std::unique_ptr<uint8_t[]> scratch_{new uint8_t[kScratchBytes]};
  /** For content that was read from a file for the plan under way, or is on its way into the arena. */
  const std::unique_ptr<uint8_t[]> spare_{new uint8_t[kScratchBytes]};
};

}  // namespace protorelay
