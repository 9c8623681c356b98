#include "content_gather.h"

#include <cerrno>
#include <cstring>
#include <unistd.h>

#include "content_scan.h"

namespace protorelay {
namespace {

uint32_t kib(uint64_t bytes) { return static_cast<uint32_t>((bytes + 1023) / 1024); }

}  // namespace

void ContentGather::begin(Arena* arena, Accounts* accounts, const Account& account, uint64_t max_bytes,
                          uint64_t spill_threshold) {
  drop();
  arena_ = arena;
  accounts_ = accounts;
  account_ = account;
  max_bytes_ = max_bytes;
  spill_threshold_ = spill_threshold;
  active_ = true;
}

bool ContentGather::space(size_t least, uint8_t** to, size_t* free) {
  if (room() < least && !make_room(kChunkBytes)) return false;
  *to = arena_->bytes(last_) + arena_->record(last_)->used;
  *free = room();
  return *free >= least;
}

void ContentGather::wrote(size_t count) {
  arena_->record(last_)->used += static_cast<uint32_t>(count);
  length_ += count;
  if (length_ > max_bytes_) discard(kTooBig);
}

void ContentGather::adopt(uint32_t block, size_t count) {
  first_ = last_ = block;
  __atomic_store_n(&arena_->record(block)->refs, 1, __ATOMIC_RELEASE);
  uint32_t units = arena_->record(block)->units;
  if (!accounts_->take(account_, kContentKib, units)) {
    length_ += count;
    discard(kNoMemory);
    return;
  }
  held_kib_ = units;
  wrote(count);
}

void ContentGather::append(const uint8_t* from, size_t count) {
  while (count > 0 && active_ && !discarding_) {
    bool small = last_ == kNoContent || (arena_->record(last_)->units < kChunkUnits && room() < count);
    if ((small || room() == 0) && !make_room(count)) break;
    size_t piece = room() < count ? room() : count;
    memcpy(arena_->bytes(last_) + arena_->record(last_)->used, from, piece);
    from += piece;
    count -= piece;
    wrote(piece);
  }
  length_ += count;
  if (length_ > max_bytes_) flags_ |= kTooBig;
}

/** Makes room for some of `count` more bytes; false when the content is being discarded from now on. */
bool ContentGather::make_room(size_t count) {
  uint32_t units = units_for(count < kChunkBytes ? count : kChunkBytes);
  if (last_ == kNoContent) return begin_block(units);
  if (spill_fd_ >= 0) return room() > 0 && count < kChunkBytes ? true : write_out();
  BlockRecord* r = arena_->record(last_);
  if (r->units < kChunkUnits && grow(units_for(r->used + (count < kChunkBytes ? count : kChunkBytes)))) return true;
  if (room() > 0 && count < kChunkBytes) return true;
  if (length_ >= spill_threshold_) return start_spill() && write_out();
  return next_block(units);
}

bool ContentGather::begin_block(uint32_t units) {
  first_ = last_ = take_most(units);
  if (first_ == kNoContent) {
    discard(kNoMemory);
    return false;
  }
  __atomic_store_n(&arena_->record(first_)->refs, 1, __ATOMIC_RELEASE);
  return true;
}

bool ContentGather::next_block(uint32_t units) {
  uint32_t next = take_most(units);
  if (next == kNoContent) {
    discard(kNoMemory);
    return false;
  }
  __atomic_store_n(&arena_->record(last_)->next, next + 1, __ATOMIC_RELAXED);
  previous_ = last_;
  last_ = next;
  return true;
}

/** Moves the last block to a larger one, of at least `units` or twice its size if possible. */
bool ContentGather::grow(uint32_t units) {
  BlockRecord* from = arena_->record(last_);
  if (units < from->units * 2) units = from->units * 2;
  uint32_t moved = take(units < kChunkUnits ? units : kChunkUnits);
  if (moved == kNoContent) return false;
  BlockRecord* to = arena_->record(moved);
  memcpy(arena_->bytes(moved), arena_->bytes(last_), from->used);
  to->used = from->used;
  if (last_ == first_) {
    // Nobody else knows of the block yet: the reference is the gatherer's own.
    from->refs = 0;
    __atomic_store_n(&to->refs, 1, __ATOMIC_RELEASE);
    first_ = moved;
  } else {
    __atomic_store_n(&arena_->record(previous_)->next, moved + 1, __ATOMIC_RELAXED);
  }
  give(last_);
  last_ = moved;
  return true;
}

uint32_t ContentGather::finish() {
  if (!active_) return kNoContent;
  if (!discarding_ && first_ == kNoContent) begin_block(1);
  if (!discarding_ && spill_fd_ >= 0) write_out();
  uint32_t handle = kNoContent;
  if (!discarding_) {
    BlockRecord* r = arena_->record(first_);
    r->length = length_;
    if (spill_fd_ >= 0) {
      r->fd = spill_fd_;
      r->spill = spill_number_;
      __atomic_store_n(&r->flags, kInFile | kSpillFile, __ATOMIC_RELEASE);
    }
    uint32_t before = arena_->record(last_)->units;
    arena_->trim(last_, units_for(arena_->record(last_)->used));
    give_back(before - arena_->record(last_)->units);
    r->client = account_.client;
    r->network = account_.network;
    // What is held by a spill file follows from its length.
    r->held_kib = held_kib_;
    held_kib_ = 0;
    spilled_bytes_ = 0;
    handle = first_;
  }
  first_ = kNoContent;
  last_ = kNoContent;
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
  if (held_kib_ > 0) give_back(held_kib_);
  if (spilled_bytes_ > 0) accounts_->give(account_, kSpillKib, kib(spilled_bytes_));
  *this = ContentGather();
}

void ContentGather::discard(uint8_t flag) {
  uint8_t flags = static_cast<uint8_t>(flags_ | flag);
  uint64_t length = length_;
  uint64_t max_bytes = max_bytes_;
  int error = spill_error_;
  Arena* arena = arena_;
  Accounts* accounts = accounts_;
  Account account = account_;
  drop();
  arena_ = arena;
  accounts_ = accounts;
  account_ = account;
  flags_ = flags;
  length_ = length;
  max_bytes_ = max_bytes;
  spill_error_ = error;
  active_ = true;
  discarding_ = true;
}

/**
 * Moves the content from its blocks to a new file. The first block stays, as the handle and as a buffer for writing.
 */
bool ContentGather::start_spill() {
  int fd = arena_->open_spill(&spill_number_);
  if (fd < 0) {
    spill_error_ = -fd;
    discard(kSpillFailed);
    return false;
  }
  spill_fd_ = fd;
  for (uint32_t block = first_;;) {
    BlockRecord* r = arena_->record(block);
    if (!write_file(arena_->bytes(block), r->used)) return false;
    uint32_t next = r->next;
    if (next == 0) break;
    block = next - 1;
  }
  uint32_t next = arena_->record(first_)->next;
  arena_->record(first_)->next = 0;
  while (next != 0) {
    uint32_t block = next - 1;
    next = arena_->record(block)->next;
    give(block);
  }
  arena_->record(first_)->used = 0;
  last_ = first_;
  previous_ = kNoContent;
  return true;
}

bool ContentGather::write_out() {
  BlockRecord* r = arena_->record(first_);
  if (r->used == 0) return true;
  if (!write_file(arena_->bytes(first_), r->used)) return false;
  r->used = 0;
  return true;
}

/** Takes a block on the client's account; kNoContent when the client's share or the arena is used up. */
uint32_t ContentGather::take(uint32_t units) {
  if (!accounts_->take(account_, kContentKib, units)) return kNoContent;
  uint32_t block = arena_->take(units);
  if (block == kNoContent) {
    accounts_->give(account_, kContentKib, units);
  } else {
    held_kib_ += units;
  }
  return block;
}

uint32_t ContentGather::take_most(uint32_t units) {
  for (; units > 0; units /= 2) {
    uint32_t block = take(units);
    if (block != kNoContent) return block;
  }
  return kNoContent;
}

void ContentGather::give(uint32_t block) {
  give_back(arena_->record(block)->units);
  arena_->give(block);
}

void ContentGather::give_back(uint32_t amount) {
  held_kib_ -= amount;
  accounts_->give(account_, kContentKib, amount);
}

bool ContentGather::write_file(const uint8_t* from, size_t count) {
  // Taken before the bytes are written, so that all clients together never spill more than the disk may hold.
  if (!accounts_->take(account_, kSpillKib, kib(spilled_bytes_ + count) - kib(spilled_bytes_))) {
    spill_error_ = ENOSPC;
    discard(kSpillFailed);
    return false;
  }
  spilled_bytes_ += count;
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
