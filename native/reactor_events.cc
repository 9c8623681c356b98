// Event records for the next turn, and deadlines.
#include <cerrno>
#include <cstring>

#include "address.h"
#include "reactor.h"

namespace protorelay {

/** Whether there is room for two more events and their text; whoever writes events asks first. */
bool Reactor::room() const {
  return event_count_ + 2 <= setup_.event_capacity && text_used_ + setup_.max_line + 512 <= setup_.text_capacity;
}

void Reactor::event(EventKind kind, uint8_t flags, uint32_t connection, uint32_t a, uint32_t b) {
  uint32_t* record = setup_.events + size_t{event_count_} * kEventWords;
  record[0] = kind | uint32_t{flags} << 8;
  record[1] = connection;
  record[2] = a;
  record[3] = b;
  ++event_count_;
}

void Reactor::text_event(EventKind kind, uint8_t flags, uint32_t connection, const uint8_t* from, size_t length) {
  size_t free = setup_.text_capacity - text_used_;
  if (length > free) length = free;
  if (length > 0) memcpy(setup_.text + text_used_, from, length);
  event(kind, flags, connection, text_used_, static_cast<uint32_t>(length));
  text_used_ += static_cast<uint32_t>(length);
}

/**
 * The event owns the reference until JavaScript takes it, and puts kNoContent in its place. Content that no session
 * took, or could be told of, is given back.
 */
void Reactor::content_event(Connection* c, uint8_t flags, uint32_t handle, uint32_t note) {
  if (handle != kNoContent) content_events_.push_back(event_count_);
  event(kContentEnd, flags, c->id, handle, note);
}

void Reactor::give_back_contents() {
  for (uint32_t index : content_events_) {
    uint32_t handle = setup_.events[size_t{index} * kEventWords + 2];
    if (handle != kNoContent) setup_.arena->release(handle);
  }
  content_events_.clear();
}

void Reactor::opened_event(Connection* c) {
  struct sockaddr_storage peer = {};
  socklen_t length = sizeof peer;
  ::getpeername(c->fd, reinterpret_cast<struct sockaddr*>(&peer), &length);
  std::string text = "0 " + address_text(peer) + " " + local_address_text(c->fd);
  text_event(kOpened, 0, c->id, reinterpret_cast<const uint8_t*>(text.data()), text.size());
}

// -------------------------------------------------------------------------------------------------- deadlines

/**
 * One timer serves all connections, set to the earliest deadline known. Renewals only move deadlines later, so they
 * cost nothing: the timer fires, finds nothing due, and is set to the deadline that is the earliest by then.
 */
void Reactor::due_at(uint64_t at) {
  if (timer_at_ != 0 && timer_at_ <= at) return;
  timer_at_ = at;
  uint64_t now = uv_now(loop_);
  uv_timer_start(&timer_, on_timer, at > now ? at - now : 0, 0);
}

void Reactor::renew(Connection* c) {
  if (c->deadline_ms != 0) c->deadline_at = uv_now(loop_) + c->deadline_ms;
}

/**
 * Timers run before libuv polls. When this thread did not run for a while (stopped process, paused machine, long work),
 * the input that came meanwhile still lies in the sockets. It is read first, by a poll that does not wait, and the
 * sessions are told. Only if a deadline has passed after that, the peer is to blame.
 */
void Reactor::on_timer(uv_timer_t* handle) {
  auto* r = static_cast<Reactor*>(handle->data);
  r->timer_at_ = 0;
  r->deadlines_due_ = true;
  r->wake_soon();
}

/** Whether input of this connection waits for us, and none was looked at since its deadline passed. */
bool Reactor::owed(const Connection* c) const {
  return (c->pending || (c->handshake_queued && c->handshake_counted)) && c->served_at < c->deadline_at;
}

void Reactor::check_deadlines() {
  uint64_t now = uv_now(loop_);
  uint64_t next = 0;
  deadlines_due_ = false;
  for (Connection* c : slots_) {
    if (c->mode == Mode::kFree || c->mode == Mode::kClosed) continue;
    if ((c->deadline_at != 0 && c->deadline_at <= now) || (c->rate_check_at != 0 && c->rate_check_at <= now)) {
      expire(c, now);
    }
    if (c->silence_at != 0 && c->silence_at <= now) expire_silence(c, now);
    if (c->silence_at != 0 && (next == 0 || c->silence_at < next)) next = c->silence_at;
    if (c->deadline_at != 0 && (next == 0 || c->deadline_at < next)) next = c->deadline_at;
    if (c->rate_check_at != 0 && (next == 0 || c->rate_check_at < next)) next = c->rate_check_at;
  }
  // Not before 20 ms, because each time all connections are walked, which may be thousands.
  if (next != 0) due_at(next < now + 20 ? now + 20 : next);
}

void Reactor::expire(Connection* c, uint64_t now) {
  if (c->deadline_at != 0 && c->deadline_at <= now && !owed(c)) {
    if (c->opening()) {
      retire(c, kConnectFailed, ETIMEDOUT);
      return;
    }
    if (c->closing || c->mode == Mode::kLingering) {
      retire(c, kLocal, 0);
      return;
    }
    if (!room()) {
      c->deadline_at = now + 1;
      return;
    }
    c->deadline_at = 0;
    event(kTimeout, 0, c->id, 0, c->mode == Mode::kLines ? c->left_length : 0);
  }
  if (c->rate_check_at == 0 || c->rate_check_at > now) return;
  uint64_t late = now - c->rate_check_at;
  c->rate_check_at = 0;
  bool in_content = (c->mode == Mode::kContent || c->mode == Mode::kChunk) && !c->held;
  if (!in_content || c->rate == 0) return;
  if (late > kStallMs) c->content_started_at += late;
  uint64_t elapsed_ms = now - c->content_started_at;
  bool slow = c->content_bytes * 1000 < uint64_t{c->rate} * elapsed_ms;
  if (slow && room()) {
    event(kTimeout, 0, c->id, 1, 0);
  } else {
    c->rate_check_at = now + 1000;
  }
}

/** Ends the handshake of a client that has been silent for as long as it may. */
void Reactor::expire_silence(Connection* c, uint64_t now) {
  if (!room()) {
    c->silence_at = now + 1;
    return;
  }
  c->silence_at = 0;
  if (c->mode == Mode::kHandshake) event(kTimeout, 0, c->id, 0, 0);
}

/** A content phase began: watches the minimum rate from the end of the grace time on. */
void Reactor::watch_rate(Connection* c) {
  if (c->rate == 0) return;
  c->rate_check_at = c->content_started_at + c->rate_grace_ms;
  due_at(c->rate_check_at);
}

}  // namespace protorelay
