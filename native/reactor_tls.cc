// TLS handshakes: begun by an operation, and worked on for a bounded time in each loop turn, so that established
// connections have their turn however many handshakes there are. During its handshake a connection parses nothing and
// sends nothing else.
#include <cerrno>

#include "reactor.h"
#include "transport.h"

namespace protorelay {

/**
 * Words: slot, verify, offset and length of "name key dane" (each may be empty; the last is explained at
 * TlsStream::create), longest silence of the peer. Bytes that were read in the clear and not parsed are dropped:
 * anybody may have sent them, and they must not count after the handshake (CVE-2011-0411).
 */
void Reactor::op_secure(Connection* c, const uint32_t* op) {
  if (c->mode != Mode::kLines || c->tls != nullptr || c->secure_due) return;
  if (uint64_t{op[4]} + op[5] > setup_.byte_capacity) return;
  if (c->staged_first != 0) send_staged(c);
  c->drop_left();
  c->skipping = false;
  c->held = true;
  std::string text(reinterpret_cast<const char*>(setup_.bytes) + op[4], op[5]);
  size_t space = text.find(' ');
  std::string key = space == std::string::npos ? "" : text.substr(space + 1);
  text.resize(space == std::string::npos ? text.size() : space);
  space = key.find(' ');
  std::string dane = space == std::string::npos ? "" : key.substr(space + 1);
  key.resize(space == std::string::npos ? key.size() : space);
  std::shared_ptr<TlsContext> context = tls_slot_get(static_cast<int>(op[2]));
  if (tls_ == nullptr) tls_.reset(new TlsShared());
  if (context != nullptr && context->server() == c->server) {
    c->tls_next = TlsStream::create(std::move(context), tls_.get(), c->fd, c->server, op[3], text, key, dane);
  }
  c->secure_due = true;
  c->silence_ms = op[6];
  if (c->out_first == nullptr) begin_handshake(c);
}

/** The clear text is out: from here on the socket carries TLS. */
void Reactor::begin_handshake(Connection* c) {
  c->secure_due = false;
  c->tls = c->tls_next;
  c->tls_next = nullptr;
  c->mode = Mode::kHandshake;
  // A client speaks first. A server's handshake waits for it, and counts only once there is something to do. Without a
  // context the handshake fails at once.
  if (!c->server || c->tls == nullptr) queue_handshake(c);
  await_peer(c);
  watch(c);
}

/** Waits for the peer, which is to speak next. */
void Reactor::await_peer(Connection* c) {
  uint64_t now = uv_now(loop_);
  c->silence_at = c->silence_ms == 0 ? 0 : now + c->silence_ms;
  if (c->silence_at != 0) due_at(c->silence_at);
  // Slow servers are no attack, and we have to wait for them.
  if (!c->server || !c->handshake_counted || c->handshake_queued || c->handshake_silent) return;
  c->handshake_silent = true;
  c->silent_since = now;
  c->silent_before = silent_last_;
  c->silent_after = nullptr;
  (silent_last_ == nullptr ? silent_first_ : silent_last_->silent_after) = c;
  silent_last_ = c;
  ++silent_count_;
  // Others may already wait for a place.
  pass_over_silent();
}

void Reactor::heard_from(Connection* c) {
  c->silence_at = 0;
  if (!c->handshake_silent) return;
  c->handshake_silent = false;
  (c->silent_before == nullptr ? silent_first_ : c->silent_before->silent_after) = c->silent_after;
  (c->silent_after == nullptr ? silent_last_ : c->silent_after->silent_before) = c->silent_before;
  c->silent_before = c->silent_after = nullptr;
  --silent_count_;
}

/**
 * Gives places of silent clients, the longest silent first, to handshakes that wait. Done at the end of a turn, when
 * all input that came before was read.
 */
void Reactor::pass_over_silent() {
  uint64_t now = uv_now(loop_);
  while (waiting_count_ > 0 && silent_first_ != nullptr) {
    if (silent_first_->silent_since + kHandshakeGraceMs > now) {
      due_at(silent_first_->silent_since + kHandshakeGraceMs);
      return;
    }
    retire(silent_first_, kError, ETIMEDOUT);
  }
}

void Reactor::queue_handshake(Connection* c) {
  if (c->handshake_queued) return;
  heard_from(c);
  c->handshake_queued = true;
  if (!c->handshake_counted && handshakes_counted_ >= setup_.max_handshakes) {
    handshakes_waiting_.push_back(c->id);
    ++waiting_count_;
  } else {
    if (!c->handshake_counted) ++handshakes_counted_;
    c->handshake_counted = true;
    handshakes_.push_back(c->id);
  }
  count_handshakes();
  watch(c);
}

/**
 * Tells JavaScript, which decides on new handshakes, how many have work or wait for a place. Silent ones give way,
 * and do not count.
 */
void Reactor::count_handshakes() {
  setup_.control[2] = handshakes_counted_ - silent_count_ + waiting_count_;
}

void Reactor::run_handshakes() {
  if (handshakes_.empty()) return;
  uint64_t until = uv_hrtime() + kHandshakeNs;
  while (!handshakes_.empty() && room()) {
    Connection* c = find(handshakes_.front());
    handshakes_.pop_front();
    if (c == nullptr || c->mode != Mode::kHandshake) continue;
    c->handshake_queued = false;
    step_handshake(c);
    if (uv_hrtime() > until) break;
  }
  count_handshakes();
}

void Reactor::step_handshake(Connection* c) {
  c->served_at = uv_now(loop_);
  std::string reason = "no TLS context";
  TlsStream::Step step = c->tls == nullptr ? TlsStream::Step::kFailed : c->tls->handshake(&reason);
  if (step == TlsStream::Step::kMore) {
    await_peer(c);
    watch(c);
    return;
  }
  end_handshake(c);
  c->mode = Mode::kLines;
  c->held = false;
  c->input_parked = false;
  if (step == TlsStream::Step::kDone) {
    std::string facts = c->tls->facts();
    text_event(kSecured, 0, c->id, reinterpret_cast<const uint8_t*>(facts.data()), facts.size());
    want_input(c);
    if (c->out_first != nullptr) write_output(c);
    watch(c);
    return;
  }
  text_event(kNotSecured, 0, c->id, reinterpret_cast<const uint8_t*>(reason.data()), reason.size());
  // The alert is on its way; closing with unread input would destroy it.
  c->drop_output(setup_.arena);
  c->closing = true;
  c->deadline_ms = 0;
  if (setup_.linger_ms == 0 || c->tls == nullptr) {
    retire(c, kError, EPROTO);
    return;
  }
  transport_finish(c);
  c->mode = Mode::kLingering;
  c->deadline_at = uv_now(loop_) + setup_.linger_ms;
  due_at(c->deadline_at);
  watch(c);
}

/** The handshake is not under way any more: the next one that waits is. */
void Reactor::end_handshake(Connection* c) {
  heard_from(c);
  if (!c->handshake_counted) return;
  c->handshake_counted = false;
  --handshakes_counted_;
  while (!handshakes_waiting_.empty() && handshakes_counted_ < setup_.max_handshakes) {
    Connection* next = find(handshakes_waiting_.front());
    handshakes_waiting_.pop_front();
    if (next == nullptr || next->mode != Mode::kHandshake) continue;
    --waiting_count_;
    next->handshake_counted = true;
    ++handshakes_counted_;
    handshakes_.push_back(next->id);
  }
  if (!handshakes_.empty()) wake_soon();
  count_handshakes();
}

void Reactor::drop_tls(Connection* c) {
  // Its id stays in a queue, and is skipped there.
  if (c->handshake_queued && !c->handshake_counted) --waiting_count_;
  c->handshake_queued = false;
  end_handshake(c);
  if (c->tls != nullptr) count_handshakes();
  delete c->tls;
  delete c->tls_next;
  c->tls = c->tls_next = nullptr;
}

}  // namespace protorelay
