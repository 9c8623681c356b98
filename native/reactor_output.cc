// From operations to the socket.
#include <cerrno>
#include <unistd.h>

#include "address.h"
#include "reactor.h"
#include "transport.h"

namespace protorelay {

void Reactor::finish_connecting(Connection* c) {
  int error = socket_error(c->fd);
  if (error != 0) {
    retire(c, kConnectFailed, error);
    return;
  }
  if (c->hop != nullptr) {
    begin_hop(c);
  } else {
    connected(c);
  }
}

/** There is a way to the peer. */
void Reactor::connected(Connection* c) {
  c->mode = Mode::kLines;
  c->deadline_at = 0;
  c->opened_due = true;
  push_pending(c);
  watch(c);
}

/** Notes a send of this turn; the sends of one connection are chained, and go out together. */
void Reactor::stage(Connection* c, uint32_t offset, uint32_t length) {
  staged_.push_back({offset, length, 0});
  uint32_t index = static_cast<uint32_t>(staged_.size());
  if (c->staged_first == 0) {
    c->staged_first = index;
  } else {
    staged_[c->staged_last - 1].next = index;
  }
  c->staged_last = index;
}

/** Sends what this turn staged for the connection, in one system call; keeps what the kernel does not take. */
void Reactor::send_staged(Connection* c) {
  uint32_t index = c->staged_first;
  c->staged_first = c->staged_last = 0;
  if (c->mode == Mode::kClosed || c->failed != 0) return;
  bool direct = c->out_first == nullptr && !c->opening() && c->mode != Mode::kHandshake;
  while (index != 0) {
    struct iovec pieces[kMaxPieces];
    size_t count = 0;
    size_t total = 0;
    for (; index != 0 && count < kMaxPieces; index = staged_[index - 1].next) {
      const StagedSend& piece = staged_[index - 1];
      pieces[count++] = {const_cast<uint8_t*>(setup_.bytes + piece.offset), piece.length};
      total += piece.length;
    }
    size_t sent = 0;
    if (direct) {
      ssize_t n = transport_send(c, pieces, count);
      if (n < 0 && n != -EAGAIN) {
        c->failed = static_cast<int>(-n);
        push_pending(c);
        return;
      }
      if (n > 0) sent = static_cast<size_t>(n);
      if (sent == total) continue;
      direct = false;
    }
    for (size_t i = 0; i < count; ++i) {
      size_t skip = sent < pieces[i].iov_len ? sent : pieces[i].iov_len;
      sent -= skip;
      c->queue_bytes(static_cast<const uint8_t*>(pieces[i].iov_base) + skip, pieces[i].iov_len - skip);
    }
    if (c->out_bytes > kMaxUnsent) {
      c->failed = ENOBUFS;
      push_pending(c);
      return;
    }
  }
}

/** Writes unsent output until the kernel takes no more, or the connection has had its share of this turn. */
void Reactor::write_output(Connection* c) {
  size_t budget = kTurnBytes;
  int error = transport_flush(c);
  if (error != 0) c->failed = -error;
  while (c->out_first != nullptr && c->failed == 0 && c->mode != Mode::kHandshake) {
    OutItem* item = c->out_first;
    if (item->content) {
      size_t written = write_content(c, item);
      if (written == 0 || written >= budget) break;
      budget -= written;
      continue;
    }
    struct iovec piece = {item->data + item->sent, item->length - item->sent};
    ssize_t n = transport_send(c, &piece, 1);
    if (n == -EAGAIN) break;
    if (n < 0) {
      c->failed = static_cast<int>(-n);
      break;
    }
    item->sent += static_cast<size_t>(n);
    if (item->sent < item->length) break;
    c->shift_output(setup_.arena);
  }
  if (c->failed != 0) {
    push_pending(c);
  } else if (c->out_first == nullptr && !transport_blocked(c) && c->mode != Mode::kHandshake) {
    if (c->secure_due) {
      begin_handshake(c);
    } else if (c->closing) {
      finish_closing(c);
    } else if (!c->held) {
      if (c->has_left()) push_pending(c);
      want_input(c);
    }
  }
  watch(c);
}

/** Writes one plan of a content. The number of bytes written, or 0 when it has to wait, or the connection failed. */
size_t Reactor::write_content(Connection* c, OutItem* item) {
  Piece plan[kMaxPieces];
  int error = 0;
  spare_used_ = false;
  size_t count = item->cursor.plan(
      plan, [&](uint64_t at, const uint8_t** from) { return fetch(item, at, from, &error); });
  if (count == 0 && !item->cursor.done()) {
    // If content cannot be read, the connection fails: the peer must not take a part for the whole.
    c->failed = error != 0 ? error : EIO;
    return 0;
  }
  struct iovec pieces[kMaxPieces];
  size_t total = 0;
  for (size_t i = 0; i < count; ++i) {
    pieces[i] = {const_cast<uint8_t*>(plan[i].from), plan[i].length};
    total += plan[i].length;
  }
  if (total > 0) {
    ssize_t n = transport_send(c, pieces, count);
    if (n < 0) {
      if (n != -EAGAIN) c->failed = static_cast<int>(-n);
      return 0;
    }
    item->cursor.advance(plan, count, static_cast<size_t>(n));
    renew(c);
    if (static_cast<size_t>(n) < total || transport_blocked(c)) return 0;
  }
  if (item->cursor.done()) {
    c->shift_output(setup_.arena);
    ++c->sent_due;
    push_pending(c);
  }
  return total;
}

/** Fetches bytes of an item (prefix, then content) from position `at` on; they stay until the plan is written. */
size_t Reactor::fetch(OutItem* item, uint64_t at, const uint8_t** from, int* error) {
  if (at < item->length) {
    *from = item->data + at;
    return static_cast<size_t>(item->length - at);
  }
  uint64_t position = at - item->length;
  BlockRecord* first = setup_.arena->record(item->handle);
  if (first->flags & kInFile) {
    if (spare_used_) return 0;
    spare_used_ = true;
    ssize_t n;
    do {
      n = ::pread(first->fd, spare_.get(), kScratchBytes, static_cast<off_t>(first->offset + position));
    } while (n < 0 && errno == EINTR);
    if (n <= 0) *error = n < 0 ? errno : EIO;
    *from = spare_.get();
    return n > 0 ? static_cast<size_t>(n) : 0;
  }
  uint32_t block = item->block;
  uint64_t base = item->block_base;
  while (position >= base + setup_.arena->record(block)->used) {
    base += setup_.arena->record(block)->used;
    uint32_t next = setup_.arena->record(block)->next;
    if (next == 0) return 0;
    block = next - 1;
  }
  if (at == item->cursor.offset()) {
    item->block = block;
    item->block_base = base;
  }
  *from = setup_.arena->bytes(block) + (position - base);
  return static_cast<size_t>(base + setup_.arena->record(block)->used - position);
}

/** Output is flushed: closes. Unread input would turn close() into a reset, which can destroy our last reply on its way. */
void Reactor::finish_closing(Connection* c) {
  ssize_t n = transport_discard(c, scratch_.get(), kScratchBytes);
  bool unread = n > 0 || c->left_length > 0;
  if (!unread || setup_.linger_ms == 0 || (n <= 0 && n != -EAGAIN)) {
    // The peer only has to be told the end of TLS, which retire does.
    retire(c, kLocal, 0);
    return;
  }
  transport_finish(c);
  c->drop_left();
  c->mode = Mode::kLingering;
  c->deadline_at = uv_now(loop_) + setup_.linger_ms;
  due_at(c->deadline_at);
  watch(c);
}

}  // namespace protorelay
