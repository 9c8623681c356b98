// Gathers the content of one message into arena chunks, or, past the spill threshold, into a spill file.
//
// Owns the content until finish() gives it away or drop() frees it. Promises that a failure (too big, arena full,
// disk full, the client's share of either used up) only sets a flag: the caller goes on reading the connection to the end
// of the content, discarding. What it holds is on the client's account until finish() or drop().
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

  /** Free space of at least `least` bytes to write content to; false when the content is being discarded. */
  bool space(size_t least, uint8_t** to, size_t* room);
  /** `count` bytes were written to that space. */
  void wrote(size_t count);
  /** Bytes that were read but not kept count towards the limit too. */
  void skipped(size_t count);
  /** Gives the content away with one reference, what it holds noted in its record; kNoContent when it was discarded. */
  uint32_t finish();
  /** Frees what was gathered. */
  void drop();

 private:
  void discard(uint8_t flag);
  bool start_spill();
  bool write_out();
  bool write_file(const uint8_t* from, size_t count);
  bool hold(uint32_t amount);
  void give_back();

  Arena* arena_ = nullptr;
  Accounts* accounts_ = nullptr;
  Account account_ = {};
  uint32_t held_kib_ = 0;
  uint64_t spilled_bytes_ = 0;
  uint64_t max_bytes_ = 0;
  uint64_t spill_threshold_ = 0;
  uint64_t length_ = 0;
  uint32_t first_ = kNoContent;
  uint32_t last_ = kNoContent;
  uint32_t spill_number_ = 0;
  int spill_fd_ = -1;
  int spill_error_ = 0;
  uint8_t flags_ = 0;
  bool active_ = false;
  bool discarding_ = false;
};

}  // namespace protorelay
