// From the socket to lines and content.
#include <cerrno>
#include <cstring>

#include "address.h"
#include "line_scan.h"
#include "reactor.h"
#include "transport.h"

namespace protorelay {
namespace {

/** When a block has less free space than this, a new one is begun: small reads cost more than the space. */
constexpr size_t kLeastSpace = 512;
/** If the first read of a content brings this much, half a block, it stays where it was read to. */
constexpr size_t kLandedBytes = kChunkBytes / 2;

uint8_t content_flags(const Connection* c) { return static_cast<uint8_t>(c->scan.flags() | c->gather.flags()); }

/** The number of trace headers so far; with kSpillFailed the errno. */
uint32_t content_note(const Connection* c) {
  return c->gather.flags() & kSpillFailed ? static_cast<uint32_t>(c->gather.spill_error()) : c->scan.trace_count();
}

}  // namespace

void Reactor::read(Connection* c) {
  if (c->mode == Mode::kLingering) {
    read_lingering(c);
    return;
  }
  if (c->held) {
    // Bytes wait in the kernel until the session says how to read them. Polling on would only spin.
    c->input_parked = true;
    watch(c);
    return;
  }
  // Either input that was read earlier comes first, or there is no room for events. This turn's call solves both.
  if (c->pending || (c->server && (c->out_first != nullptr || transport_blocked(c)))) {
    if (transport_has_input(c)) c->unread = true;
    return;
  }
  if (!room()) {
    c->unread = true;
    push_pending(c);
    return;
  }
  c->served_at = uv_now(loop_);
  bool starved = transport_starved(c);
  if (c->mode == Mode::kLines) {
    read_lines(c);
  } else if (c->mode == Mode::kProxyHeader) {
    read_proxy(c);
  } else {
    read_content(c);
  }
  if (starved) watch(c);
  // Polling does not tell of an end by close_notify, because the socket itself has not ended.
  if (transport_ended(c)) want_input(c);
}

/** Schedules the reading of input that TLS holds, because polling the socket does not tell of it. */
void Reactor::want_input(Connection* c) {
  if (!transport_has_input(c)) return;
  c->unread = true;
  push_pending(c);
}

void Reactor::received_nothing(Connection* c, ssize_t result) {
  if (result == -EAGAIN) return;
  if (result == 0) {
    retire(c, kPeer, 0);
  } else {
    retire(c, kError, static_cast<int>(-result));
  }
}

/** The socket is broken, but lines may still lie in it (a last reply before a reset): delivers them, then retires. */
void Reactor::read_rest(Connection* c) {
  int error = c->failed;
  c->drop_output(setup_.arena);
  if (c->mode == Mode::kLines && !c->held && !c->closing) {
    if (c->left_length > 0 && !c->skipping) take_lines(c, c->left, c->left_length);
    for (int i = 0; i < 4 && c->mode == Mode::kLines && !c->held && !c->pending; ++i) read_lines(c);
    if (c->pending) return;
  }
  if (error == EBADF) {
    // libuv reports every socket error as EBADF.
    error = socket_error(c->fd);
    if (error == 0) error = ECONNRESET;
  }
  retire(c, c->closing ? kLocal : kError, error);
}

// ------------------------------------------------------------------------------------------------------ lines

void Reactor::read_lines(Connection* c) {
  size_t have = c->left_length;
  if (have > 0) memcpy(scratch_.get(), c->left, have);
  ssize_t n = transport_receive(c, scratch_.get() + have, kScratchBytes - have);
  if (n <= 0) {
    received_nothing(c, n);
    return;
  }
  const uint8_t* from = scratch_.get();
  if (static_cast<size_t>(n) == kScratchBytes - have) want_input(c);
  size_t count = have + static_cast<size_t>(n);
  if (c->skipping) {
    size_t used = take_skipped(c, scratch_.get() + have, static_cast<size_t>(n));
    if (c->skipping) return;
    from += have + used;
    count -= have + used;
  }
  take_lines(c, from, count);
}

/**
 * Splits bytes into line events until a hold, the end of the connection's share, or the end; keeps the rest. `from`
 * may be c->left.
 */
void Reactor::take_lines(Connection* c, const uint8_t* from, size_t count) {
  size_t at = 0;
  for (uint32_t lines = 0; at < count && !c->held; ++lines) {
    if (lines == kTurnLines || !room()) {
      push_pending(c);
      break;
    }
    const uint8_t* start = from + at;
    Line line = scan_line(start, count - at, setup_.max_line);
    if (line.consumed == 0) {
      // One byte more than the limit may be the CR of a line that just fits.
      if (count - at > size_t{setup_.max_line} + 1) {
        c->skipping = true;
        c->skip_last = from[count - 1];
        c->skip_flags = static_cast<uint8_t>(line_flags(start, setup_.max_line) | kLineTooLong);
        count = at + setup_.max_line;
      }
      break;
    }
    at += line.consumed;
    text_event(kLine, line.flags, c->id, start, line.length);
    if (setup_.hold_after_verbs && changes_reading(start, line.length)) c->held = true;
  }
  c->keep(from + at, count - at);
}

/** Skips the rest of a line that is too long; returns the number of bytes used, its end included. */
size_t Reactor::take_skipped(Connection* c, const uint8_t* from, size_t count) {
  const auto* end = static_cast<const uint8_t*>(memchr(from, '\n', count));
  if (end == nullptr) {
    c->skip_last = from[count - 1];
    return count;
  }
  uint8_t last = end == from ? c->skip_last : end[-1];
  uint8_t flags = static_cast<uint8_t>(c->skip_flags | (last == '\r' ? 0 : kLineBareLf));
  text_event(kLine, flags, c->id, c->left, c->left_length);
  if (setup_.hold_after_verbs && changes_reading(c->left, c->left_length)) c->held = true;
  c->skipping = false;
  c->drop_left();
  return static_cast<size_t>(end - from) + 1;
}

void Reactor::read_lingering(Connection* c) {
  ssize_t n = transport_discard(c, scratch_.get(), kScratchBytes);
  if (n == 0 || (n < 0 && n != -EAGAIN)) retire(c, kLocal, 0);
}

// ---------------------------------------------------------------------------------------------------- content

void Reactor::read_content(Connection* c) {
  size_t budget = kTurnBytes;
  while (!c->held) {
    // Long content is read straight into shared memory; for the first bytes that is decided when their number is known.
    uint8_t* to = scratch_.get();
    size_t room = kScratchBytes;
    bool direct = !c->scan.normalizes() && c->gather.streams() && c->gather.space(kLeastSpace, &to, &room);
    if (!direct) {
      to = scratch_.get();
      room = kScratchBytes;
    }
    // Content is unstuffed where it lies, unless it is normalized, which can make it longer.
    bool in_place = !c->scan.normalizes();
    uint32_t landing = in_place && c->gather.empty() ? setup_.arena->take(kChunkUnits) : kNoContent;
    if (landing != kNoContent) to = setup_.arena->bytes(landing);
    size_t gap = in_place ? c->scan.held() : 0;
    room -= gap;
    if (c->mode == Mode::kChunk && room > c->chunk_left) room = static_cast<size_t>(c->chunk_left);
    ssize_t n = transport_receive(c, to + gap, room);
    if (n <= 0) {
      if (landing != kNoContent) setup_.arena->give(landing);
      received_nothing(c, n);
      return;
    }
    size_t count = static_cast<size_t>(n);
    c->content_bytes += count;
    renew(c);
    if (landing != kNoContent) {
      scan_landed(c, gap, count, landing);
    } else if (in_place) {
      scan_in_place(c, to, gap, count, direct);
    } else {
      size_t used = take_content(c, to, count);
      if (used < count) c->keep(to + used, count - used);
    }
    if (count < room) return;
    if (count >= budget) {
      want_input(c);
      return;
    }
    budget -= count;
  }
}

/** Takes content that was read together with something else; returns the number of bytes used. */
size_t Reactor::take_content(Connection* c, const uint8_t* from, size_t count) {
  size_t at = 0;
  while (at < count && !c->held) {
    size_t piece = count - at;
    if (c->mode == Mode::kChunk && piece > c->chunk_left) piece = static_cast<size_t>(c->chunk_left);
    size_t most = c->scan.normalizes() ? (kScratchBytes - 2) / 2 : kScratchBytes - c->scan.held();
    at += scan_into(c, from + at, piece < most ? piece : most, spare_.get());
  }
  return at;
}

/** Does one step of the scanner, to memory of ours; handles the end of the content or the chunk. */
size_t Reactor::scan_into(Connection* c, const uint8_t* from, size_t count, uint8_t* to) {
  size_t written = 0;
  size_t used = c->scan.feed(from, count, to, &written);
  c->gather.append(to, written);
  end_scan(c, used);
  return used;
}

/** Like scan_into, but in place: in the block in which the content goes on (direct), or in memory of ours. */
void Reactor::scan_in_place(Connection* c, uint8_t* to, size_t gap, size_t count, bool direct) {
  size_t written = 0;
  size_t used = c->scan.feed(to + gap, count, to, &written);
  // Before the content is given away: the rest of the block is given back with that, and another thread may take it
  // at once.
  if (used < count) c->keep(to + gap + used, count - used);
  if (direct) {
    c->gather.wrote(written);
  } else {
    c->gather.append(to, written);
  }
  end_scan(c, used);
}

/** Like scan_in_place, for the first bytes of a content, in a block of their own: many stay there, few are copied. */
void Reactor::scan_landed(Connection* c, size_t gap, size_t count, uint32_t landing) {
  uint8_t* to = setup_.arena->bytes(landing);
  size_t written = 0;
  size_t used = c->scan.feed(to + gap, count, to, &written);
  // Before the block is given away: another thread may take it at once.
  if (used < count) c->keep(to + gap + used, count - used);
  if (written >= kLandedBytes) {
    c->gather.adopt(landing, written);
  } else {
    c->gather.append(to, written);
    setup_.arena->give(landing);
  }
  end_scan(c, used);
}

void Reactor::end_scan(Connection* c, size_t used) {
  if (c->mode == Mode::kContent) {
    if (c->scan.ended()) end_content(c);
  } else {
    c->chunk_left -= used;
    if (c->chunk_left == 0) end_chunk(c);
  }
}

void Reactor::end_content(Connection* c) {
  uint32_t handle = c->gather.finish();
  if (handle != kNoContent && (setup_.arena->record(handle)->flags & kInFile) == 0) {
    uint32_t* fields = setup_.arena->record(handle)->fields;
    fields[kMessageId] = c->scan.field_at(kMessageId);
    fields[kContentType] = c->scan.field_at(kContentType);
  }
  if (handle != kNoContent && c->scan.marked()) {
    __atomic_fetch_or(&setup_.arena->record(handle)->flags, kMarked, __ATOMIC_RELAXED);
  }
  c->held = true;
  c->rate_check_at = 0;
  content_event(c, content_flags(c), handle, content_note(c));
}

void Reactor::end_chunk(Connection* c) {
  if (!c->chunk_last) {
    c->held = true;
    c->rate_check_at = 0;
    event(kChunkEnd, content_flags(c), c->id, 0, content_note(c));
    return;
  }
  uint8_t tail[2];
  size_t more = c->scan.finish(tail);
  c->gather.append(tail, more);
  end_content(c);
}

/** Goes on with bytes that were read before the session said how to read them. */
void Reactor::parse_left(Connection* c) {
  if (c->server && (c->out_first != nullptr || transport_blocked(c))) return;
  if (c->mode == Mode::kChunk && c->chunk_left == 0) {
    end_chunk(c);
    return;
  }
  if (c->left_length == 0) return;
  if (c->mode == Mode::kProxyHeader) {
    parse_proxy(c);
  } else if (c->mode == Mode::kLines) {
    if (!c->skipping) take_lines(c, c->left, c->left_length);
  } else if (c->mode == Mode::kContent || c->mode == Mode::kChunk) {
    size_t count = c->left_length;
    c->content_bytes += count;
    size_t used = take_content(c, c->left, count);
    c->keep(c->left + used, count - used);
  }
}

}  // namespace protorelay
