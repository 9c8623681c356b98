// Gathers the content of one message into the arena, or, past the spill threshold, into a spill file.
//
// Content of up to 64 KiB lies in one block, of at most twice the size of what has come so far: as it grows it moves
// to a larger block, and finish() gives back units that are not needed. Longer content goes on in further blocks of
// 64 KiB.
//
// Owns the content until finish() gives it away or drop() frees it. Promises that a failure (too big, arena full, disk
// full, the client's share of either used up) only sets a flag: the caller goes on reading the connection to the end of
// the content, which is discarded. Until finish() or drop() the memory is on the client's account.
#pragma once
#include "accounts.h"
#include "arena.h"

namespace protorelay {

class ContentGather {
 public:
  /** Starts a new content (an unfinished one is dropped). The arena must outlive it. */
  void begin(Arena* arena, Accounts* accounts, const Account& account, uint64_t max_bytes, uint64_t spill_threshold);
  bool active() const { return active_; }
  bool discarding() const { return discarding_; }
  uint64_t length() const { return length_; }
  uint8_t flags() const { return flags_; }
  int spill_error() const { return spill_error_; }
  void limit(uint64_t max_bytes) { max_bytes_ = max_bytes; }

  /** Whether nothing came yet. */
  bool empty() const { return active_ && !discarding_ && first_ == kNoContent; }
  /** Takes over a block that has `count` bytes in it; only while empty(). */
  void adopt(uint32_t block, size_t count);
  /** Whether more should be read straight into the arena: the content already fills blocks of full size. */
  bool streams() const {
    return active_ && !discarding_ && last_ != kNoContent && arena_->record(last_)->units == kChunkUnits;
  }
  /**
   * While streams(): gives free space of at least `least` bytes to write content to; false when the content is being
   * discarded.
   */
  bool space(size_t least, uint8_t** to, size_t* room);
  /** Says that `count` bytes were written to that space. */
  void wrote(size_t count);
  /** Copies bytes in. If the content is being discarded, they only count towards the limit. */
  void append(const uint8_t* from, size_t count);
  /**
   * Gives the content away, with one reference and with its record saying what it holds; kNoContent when it was
   * discarded.
   */
  uint32_t finish();
  /** Frees what was gathered. */
  void drop();

 private:
  void discard(uint8_t flag);
  bool make_room(size_t count);
  bool begin_block(uint32_t units);
  bool next_block(uint32_t units);
  bool grow(uint32_t units);
  size_t room() const { return arena_->capacity(last_) - arena_->record(last_)->used; }
  bool start_spill();
  bool write_out();
  bool write_file(const uint8_t* from, size_t count);
  uint32_t take(uint32_t units);
  uint32_t take_most(uint32_t units);
  void give(uint32_t block);
  void give_back(uint32_t amount);

  Arena* arena_ = nullptr;
  Accounts* accounts_ = nullptr;
  Account account_ = {};
  /** What is on the client's account; a unit of the arena is a KiB. */
  uint32_t held_kib_ = 0;
  uint64_t spilled_bytes_ = 0;
  uint64_t max_bytes_ = 0;
  uint64_t spill_threshold_ = 0;
  uint64_t length_ = 0;
  uint32_t first_ = kNoContent;
  uint32_t last_ = kNoContent;
  /** The block before the last one. */
  uint32_t previous_ = kNoContent;
  uint32_t spill_number_ = 0;
  int spill_fd_ = -1;
  int spill_error_ = 0;
  uint8_t flags_ = 0;
  bool active_ = false;
  bool discarding_ = false;
};

}  // namespace protorelay
