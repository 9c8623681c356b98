// The reactor's life, its connection slots, and the turn.
#include "reactor.h"

#include <cerrno>
#include <cstdlib>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include "address.h"
#include "napi_values.h"
#include "transport.h"

namespace protorelay {

Reactor* Reactor::create(napi_env env, napi_ref on_turn, const ReactorSetup& setup, void* owner, Released released,
                         int* error) {
  uv_loop_t* loop = nullptr;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) {
    *error = UV_EINVAL;
    return nullptr;
  }
  auto* r = new Reactor();
  r->env_ = env;
  r->on_turn_ = on_turn;
  r->setup_ = setup;
  r->owner_ = owner;
  r->released_ = released;
  r->loop_ = loop;
  while ((1u << r->slot_bits_) < setup.max_connections) ++r->slot_bits_;
  *error = uv_async_init(loop, &r->async_, on_async);
  if (*error != 0) {
    delete r;
    return nullptr;
  }
  uv_check_init(loop, &r->check_);
  uv_idle_init(loop, &r->idle_);
  uv_timer_init(loop, &r->timer_);
  uv_handle_t* own[] = {reinterpret_cast<uv_handle_t*>(&r->async_), reinterpret_cast<uv_handle_t*>(&r->check_),
                        reinterpret_cast<uv_handle_t*>(&r->idle_), reinterpret_cast<uv_handle_t*>(&r->timer_)};
  for (uv_handle_t* handle : own) handle->data = r;
  r->open_handles_ = 4;
  uv_check_start(&r->check_, on_check);
  // These handles must not keep the thread alive; only connections, and work for the next turn, do.
  uv_unref(own[0]);
  uv_unref(own[1]);
  uv_unref(own[3]);
  r->id_ = registry_add(&r->async_, setup.max_connections);
  return r;
}

void Reactor::destroy() {
  if (destroyed_) return;
  destroyed_ = true;
  registry_remove(id_);
  for (const HandOff& arrival : arrivals_) ::close(arrival.fd);
  arrivals_.clear();
  for (Connection* c : slots_) {
    if (c->mode != Mode::kFree) retire(c, kLocal, 0);
  }
  pending_.clear();
  drop_ops();
  // During a turn JavaScript still works on the events.
  if (!in_turn_) give_back_contents();
  event_count_ = 0;
  uv_close(reinterpret_cast<uv_handle_t*>(&async_), on_own_closed);
  uv_close(reinterpret_cast<uv_handle_t*>(&check_), on_own_closed);
  uv_close(reinterpret_cast<uv_handle_t*>(&idle_), on_own_closed);
  uv_close(reinterpret_cast<uv_handle_t*>(&timer_), on_own_closed);
}

void Reactor::handle_closed() {
  if (--open_handles_ > 0 || !destroyed_) return;
  for (Connection* c : slots_) delete c;
  Released released = released_;
  void* owner = owner_;
  delete this;
  released(owner);
}

void Reactor::on_own_closed(uv_handle_t* handle) { static_cast<Reactor*>(handle->data)->handle_closed(); }

// ------------------------------------------------------------------------------------------------------ slots

Connection* Reactor::new_connection() {
  Connection* c;
  if (!free_slots_.empty()) {
    c = slots_[free_slots_.back()];
    free_slots_.pop_back();
  } else {
    if (slots_.size() >= setup_.max_connections) return nullptr;
    c = new Connection();
    c->slot = static_cast<uint32_t>(slots_.size());
    c->reactor = this;
    slots_.push_back(c);
  }
  c->reset();
  // Ids stay above 0 and below 2^31 (a small integer in JavaScript). A slot repeats an id after 2^(31 - bits) uses.
  uint32_t generations = 1u << (31 - slot_bits_);
  c->generation = c->generation + 1 >= generations ? 1 : c->generation + 1;
  c->id = c->generation << slot_bits_ | c->slot;
  ++live_;
  return c;
}

Connection* Reactor::find(uint32_t id) const {
  uint32_t slot = id & ((1u << slot_bits_) - 1);
  if (slot >= slots_.size()) return nullptr;
  Connection* c = slots_[slot];
  return c->id == id && c->mode != Mode::kClosed && c->mode != Mode::kFree ? c : nullptr;
}

void Reactor::open_poll(Connection* c) {
  int error = uv_poll_init(loop_, &c->poll, c->fd);
  if (error != 0) {
    retire(c, kError, -error);
    return;
  }
  c->poll.data = c;
  c->poll_open = true;
  ++open_handles_;
}

/** Polls for what the connection wants now; makes a system call only when that changed. */
void Reactor::watch(Connection* c) {
  if (!c->poll_open || c->mode == Mode::kClosed) return;
  int mask = 0;
  if (c->mode == Mode::kConnecting) {
    mask = UV_WRITABLE;
  } else if (c->mode == Mode::kHop) {
    mask = c->hop->output().empty() ? UV_READABLE : UV_WRITABLE;
  } else if (c->mode == Mode::kLingering) {
    mask = UV_READABLE;
  } else if (c->mode == Mode::kHandshake) {
    mask = (c->handshake_queued ? 0 : UV_READABLE) | (transport_blocked(c) ? UV_WRITABLE : 0);
  } else {
    // While a peer does not read its replies, we do not read from it, or its unsent output would grow.
    bool unsent = c->out_first != nullptr || transport_blocked(c);
    bool reads = !c->closing && !c->input_parked && !(c->server && unsent);
    // Output that waits for input must not poll: the socket would be writable for ever.
    bool starved = unsent && transport_starved(c);
    bool writes = unsent && (!starved || transport_blocked(c));
    mask = (reads || starved ? UV_READABLE : 0) | (writes ? UV_WRITABLE : 0);
  }
  if (mask == c->poll_mask) return;
  c->poll_mask = static_cast<uint8_t>(mask);
  if (mask == 0) {
    uv_poll_stop(&c->poll);
  } else {
    uv_poll_start(&c->poll, mask, on_poll);
  }
}

/** Ends the connection: closes its socket and frees its memory now; a `closed` event follows. */
void Reactor::retire(Connection* c, CloseReason reason, int error) {
  if (c->mode == Mode::kClosed || c->mode == Mode::kFree) return;
  if (error == 0 && c->failed == 0) transport_goodbye(c);
  c->mode = Mode::kClosed;
  c->close_reason = reason;
  c->close_error = error;
  c->gather.drop();
  c->drop_output(setup_.arena);
  c->drop_left();
  drop_tls(c);
  c->at_proxy = c->hop != nullptr && c->hop->blames_proxy();
  delete c->hop;
  c->hop = nullptr;
  c->deadline_at = 0;
  c->rate_check_at = 0;
  if (c->poll_open) uv_close(reinterpret_cast<uv_handle_t*>(&c->poll), on_poll_closed);
  if (c->fd >= 0) ::close(c->fd);
  c->fd = -1;
  push_pending(c);
}

void Reactor::on_poll_closed(uv_handle_t* handle) {
  auto* c = static_cast<Connection*>(handle->data);
  Reactor* r = c->reactor;
  c->poll_open = false;
  r->settle_slot(c);
  r->handle_closed();
}

/** Frees the slot once JavaScript was told of the end and libuv has let go of the handle. */
void Reactor::settle_slot(Connection* c) {
  if (destroyed_ || c->mode != Mode::kClosed || c->poll_open || !c->closed_told) return;
  c->mode = Mode::kFree;
  --live_;
  registry_count(id_, -1);
  free_slots_.push_back(c->slot);
}

void Reactor::adopt(const HandOff& arrival) {
  Connection* c = new_connection();
  if (c == nullptr) {
    ::close(arrival.fd);
    registry_count(id_, -1);
    return;
  }
  c->server = true;
  c->fd = arrival.fd;
  c->mode = Mode::kLines;
  text_event(kOpened, 0, c->id, reinterpret_cast<const uint8_t*>(arrival.address.data()), arrival.address.size());
  open_poll(c);
  watch(c);
}

int64_t Reactor::connect(const std::string& address, uint16_t port, const std::string& source,
                         uint32_t timeout_ms, const HopSetup& hop) {
  Connection* c = destroyed_ ? nullptr : new_connection();
  if (c == nullptr) return -1;
  registry_count(id_, 1);
  c->mode = Mode::kConnecting;
  if (hop.kind != HopKind::kNone) c->hop = new Hop(hop);
  struct sockaddr_storage to;
  struct sockaddr_storage from;
  socklen_t to_length = 0;
  socklen_t from_length = 0;
  int error = 0;
  if (!parse_address(address, port, &to, &to_length)) error = EINVAL;
  if (error == 0 && !source.empty() && !parse_address(source, 0, &from, &from_length)) error = EINVAL;
  if (error == 0) {
    int fd = open_socket(to.ss_family);
    if (fd < 0) {
      error = -fd;
    } else {
      c->fd = fd;
    }
  }
  int on = 1;
  if (error == 0 && to.ss_family != AF_UNIX) ::setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (error == 0 && !source.empty()) {
#ifdef IP_BIND_ADDRESS_NO_PORT
    ::setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
#endif
    if (::bind(c->fd, reinterpret_cast<struct sockaddr*>(&from), from_length) != 0) error = errno;
  }
  if (error == 0 && ::connect(c->fd, reinterpret_cast<struct sockaddr*>(&to), to_length) != 0) error = errno;
  if (error != 0 && error != EINPROGRESS) {
    retire(c, kConnectFailed, error);
  } else {
    open_poll(c);
    if (timeout_ms > 0 && c->mode == Mode::kConnecting) {
      uv_update_time(loop_);  // See run_ops.
      c->deadline_at = uv_now(loop_) + timeout_ms;
      due_at(c->deadline_at);
    }
    if (error == 0 && c->mode == Mode::kConnecting) {
      finish_connecting(c);
    } else {
      watch(c);
    }
  }
  if (!in_turn_ && !pending_.empty()) wake_soon();
  return c->id;
}

// ------------------------------------------------------------------------------------------------------- turn

void Reactor::push_pending(Connection* c) {
  if (c->pending) return;
  c->pending = true;
  pending_.push_back(c);
}

/** Makes libuv poll without waiting, so that a turn follows. */
void Reactor::wake_soon() {
  if (idle_on_ || destroyed_) return;
  idle_on_ = true;
  uv_idle_start(&idle_, on_idle);
}

void Reactor::on_idle(uv_idle_t*) {}

void Reactor::on_async(uv_async_t* handle) {
  auto* r = static_cast<Reactor*>(handle->data);
  registry_collect(r->id_, &r->arrivals_);
}

void Reactor::on_check(uv_check_t* handle) { static_cast<Reactor*>(handle->data)->turn(); }

void Reactor::on_poll(uv_poll_t* handle, int status, int events) {
  auto* c = static_cast<Connection*>(handle->data);
  Reactor* r = c->reactor;
  if (status < 0) c->poll_mask = 0;  // libuv stopped the handle
  if (c->mode == Mode::kConnecting) {
    r->finish_connecting(c);
    return;
  }
  if (c->mode == Mode::kHop) {
    // If the socket failed, reading or sending says how.
    r->run_hop(c);
    return;
  }
  if (status < 0) {
    if (c->failed == 0) c->failed = -status;
    r->push_pending(c);
    return;
  }
  if ((events & UV_WRITABLE) != 0 || transport_starved(c)) r->write_output(c);
  if (c->mode == Mode::kHandshake) {
    if (events & UV_READABLE) r->queue_handshake(c);
    return;
  }
  if (c->mode != Mode::kClosed && (events & UV_READABLE)) r->read(c);
}

void Reactor::turn() {
  if (in_turn_ || destroyed_) return;
  run_handshakes();
  serve();
  if (deadlines_due_ && !destroyed_) {
    check_deadlines();
    serve();
  }
  if (destroyed_) return;
  pass_over_silent();
  if (event_count_ > 0 || !pending_.empty() || !arrivals_.empty() || !handshakes_.empty()) {
    wake_soon();
  } else if (idle_on_) {
    idle_on_ = false;
    uv_idle_stop(&idle_);
  }
}

void Reactor::serve() {
  for (int round = 0; round < kMaxRounds && !destroyed_; ++round) {
    run_pending();
    if (event_count_ == 0) break;
    call_turn();
  }
}

/** The one call into JavaScript; runs its microtasks, then the operations it wrote. */
void Reactor::call_turn() {
  napi_handle_scope scope;
  if (napi_open_handle_scope(env_, &scope) != napi_ok) return;
  napi_value count = nullptr;
  napi_create_uint32(env_, event_count_, &count);
  in_turn_ = true;
  call_from_loop(env_, on_turn_, 1, &count);
  in_turn_ = false;
  give_back_contents();
  event_count_ = 0;
  text_used_ = 0;
  napi_close_handle_scope(env_, scope);
  if (!destroyed_) run_ops();
}

void Reactor::run_pending() {
  if (!arrivals_.empty()) {
    size_t taken = 0;
    while (taken < arrivals_.size() && room()) adopt(arrivals_[taken++]);
    arrivals_.erase(arrivals_.begin(), arrivals_.begin() + static_cast<std::ptrdiff_t>(taken));
  }
  if (pending_.empty()) return;
  working_.swap(pending_);
  size_t served = 0;
  while (served < working_.size() && room()) {
    Connection* c = working_[served++];
    c->pending = false;
    work(c);
  }
  // Connections that found no room come before those that were served and want more, so that none waits for ever.
  pending_.insert(pending_.begin(), working_.begin() + static_cast<std::ptrdiff_t>(served), working_.end());
  working_.clear();
}

/** Does the work of a connection that may produce events. */
void Reactor::work(Connection* c) {
  if (c->opened_due) {
    c->opened_due = false;
    opened_event(c);
  }
  for (; c->sent_due > 0 && room(); --c->sent_due) event(kSent, 0, c->id, 0, 0);
  if (!room()) {
    push_pending(c);
    return;
  }
  if (c->mode == Mode::kClosed) {
    if (!c->closed_told) event(kClosedEvent, c->at_proxy ? 1 : 0, c->id, c->close_reason, static_cast<uint32_t>(c->close_error));
    c->closed_told = true;
    settle_slot(c);
    return;
  }
  if (c->failed != 0) {
    read_rest(c);
    return;
  }
  bool unread = c->unread;
  c->unread = false;
  if (c->closing || c->mode == Mode::kFree || c->mode == Mode::kHandshake) return;
  c->served_at = uv_now(loop_);
  if (!c->held) parse_left(c);
  if (!unread || c->mode == Mode::kClosed) return;
  // Input that came before the end is answered before the end is handled.
  if (transport_ended(c) && event_count_ > 0) {
    want_input(c);
  } else {
    read(c);
  }
}

void Reactor::flush() {
  run_ops();
  if (!in_turn_ && (!pending_.empty() || !handshakes_.empty())) wake_soon();
}

void Reactor::use_bytes(const uint8_t* bytes, size_t capacity) {
  setup_.bytes = bytes;
  setup_.byte_capacity = capacity;
}

}  // namespace protorelay
