#include "content_gather.h"

#include <cerrno>
#include <unistd.h>

#include "content_scan.h"

namespace protorelay {

void ContentGather::begin(Arena* arena, uint64_t max_bytes, uint64_t spill_threshold) {
  drop();
  arena_ = arena;
  max_bytes_ = max_bytes;
  spill_threshold_ = spill_threshold;
  active_ = true;
}

bool ContentGather::space(size_t least, uint8_t** to, size_t* room) {
  // Without a begin there is nothing to gather: a session that dropped its content goes on to what comes next.
  if (discarding_ || !active_) return false;
  if (first_ == kNoContent) {
    first_ = last_ = arena_->begin();
    if (first_ == kNoContent) {
      discard(kNoMemory);
      return false;
    }
  } else if (arena_->record(last_)->used + least > kChunkBytes) {
    if (spill_fd_ < 0 && length_ >= spill_threshold_ && !start_spill()) return false;
    if (spill_fd_ >= 0) {
      if (!write_out()) return false;
    } else {
      uint32_t next = arena_->take();
      if (next == kNoContent) {
        discard(kNoMemory);
        return false;
      }
      __atomic_store_n(&arena_->record(last_)->next, next + 1, __ATOMIC_RELAXED);
      last_ = next;
    }
  }
  uint32_t used = arena_->record(last_)->used;
  *to = arena_->bytes(last_) + used;
  *room = kChunkBytes - used;
  return true;
}

void ContentGather::wrote(size_t count) {
  arena_->record(last_)->used += static_cast<uint32_t>(count);
  length_ += count;
  if (length_ > max_bytes_) discard(kTooBig);
}

void ContentGather::skipped(size_t count) {
  length_ += count;
  if (length_ > max_bytes_) flags_ |= kTooBig;
}

uint32_t ContentGather::finish() {
  if (!active_) return kNoContent;
  if (!discarding_ && first_ == kNoContent) {
    first_ = last_ = arena_->begin();
    if (first_ == kNoContent) discard(kNoMemory);
  }
  if (!discarding_ && spill_fd_ >= 0) write_out();
  uint32_t handle = kNoContent;
  if (!discarding_) {
    ChunkRecord* r = arena_->record(first_);
    r->length = length_;
    if (spill_fd_ >= 0) {
      r->fd = spill_fd_;
      r->spill = spill_number_;
      __atomic_store_n(&r->flags, kInFile | kSpillFile, __ATOMIC_RELEASE);
    }
    handle = first_;
  }
  first_ = kNoContent;
  spill_fd_ = -1;
  active_ = false;
  return handle;
}

void ContentGather::drop() {
  if (spill_fd_ >= 0) {
    ::close(spill_fd_);
    arena_->unlink_spill(spill_number_);
  }
  if (first_ != kNoContent) arena_->release(first_);
  *this = ContentGather();
}

void ContentGather::discard(uint8_t flag) {
  uint8_t flags = static_cast<uint8_t>(flags_ | flag);
  uint64_t length = length_;
  uint64_t max_bytes = max_bytes_;
  int error = spill_error_;
  Arena* arena = arena_;
  drop();
  arena_ = arena;
  flags_ = flags;
  length_ = length;
  max_bytes_ = max_bytes;
  spill_error_ = error;
  active_ = true;
  discarding_ = true;
}

/** Moves what lies in chunks to a new file; the first chunk stays as the handle and as the buffer for writing. */
bool ContentGather::start_spill() {
  int fd = arena_->open_spill(&spill_number_);
  if (fd < 0) {
    spill_error_ = -fd;
    discard(kSpillFailed);
    return false;
  }
  spill_fd_ = fd;
  for (uint32_t chunk = first_;;) {
    ChunkRecord* r = arena_->record(chunk);
    if (!write_file(arena_->bytes(chunk), r->used)) return false;
    uint32_t next = r->next;
    if (next == 0) break;
    chunk = next - 1;
  }
  uint32_t next = arena_->record(first_)->next;
  arena_->record(first_)->next = 0;
  while (next != 0) {
    uint32_t chunk = next - 1;
    next = arena_->record(chunk)->next;
    arena_->give(chunk);
  }
  arena_->record(first_)->used = 0;
  last_ = first_;
  return true;
}

bool ContentGather::write_out() {
  ChunkRecord* r = arena_->record(first_);
  if (r->used == 0) return true;
  if (!write_file(arena_->bytes(first_), r->used)) return false;
  r->used = 0;
  return true;
}

bool ContentGather::write_file(const uint8_t* from, size_t count) {
  while (count > 0) {
    ssize_t n = ::write(spill_fd_, from, count);
    if (n < 0) {
      if (errno == EINTR) continue;
      spill_error_ = errno;
      discard(kSpillFailed);
      return false;
    }
    from += n;
    count -= static_cast<size_t>(n);
  }
  return true;
}

}  // namespace protorelay
