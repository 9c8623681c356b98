// The content arena: fixed chunks inside one SharedArrayBuffer that every thread of the process attaches to.
//
// Owns the layout of that buffer (header, one 64-byte record per chunk, then the chunks), the lock-free free list
// and the reference count of each content. Promises that allocation and release are safe from any thread without
// a lock. Must never keep state outside the buffer, except the name of the spill folder.
//
// src/native.ts reads and writes the same words with Atomics: a change here is a change there.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

namespace protorelay {

constexpr uint32_t kChunkBytes = 65536;
constexpr uint32_t kNoContent = 0xffffffffu;
constexpr uint32_t kArenaMagic = 0x50524131u;  // "PRA1"

/** Flags of a content, in its first chunk's record. */
constexpr uint32_t kInFile = 1;
constexpr uint32_t kSpillFile = 2;
constexpr uint32_t kClaimed = 4;

struct ArenaHeader {
  uint32_t magic;
  uint32_t chunk_count;
  /** Free list: tag << 32 | chunk + 1. The tag changes with every pop and push, so a recycled head never matches. */
  uint64_t free_head;
  uint32_t free_count;
  uint32_t next_spill;
  /** Chunks from here on were never used; they stay untouched (and cost no memory) until the free list is empty. */
  uint32_t fresh;
  /** Where chunk 0 begins, in bytes from the start of the buffer. */
  uint32_t chunks_at;
  uint32_t reserved[8];
};
static_assert(sizeof(ArenaHeader) == 64, "header is read by src/native.ts");

struct ChunkRecord {
  /** Next chunk + 1: of the same content, or of the free list. 0 ends. */
  uint32_t next;
  uint32_t refs;
  uint32_t state;
  uint32_t flags;
  uint64_t length;
  uint64_t offset;
  int32_t fd;
  uint32_t spill;
  /** Bytes of content in this chunk. */
  uint32_t used;
  /** Of a content, in its first chunk: whose account it is on, and what it holds there (KiB). Whoever settles
      the content gives that back (src/policy/content-account.ts). */
  uint32_t client;
  uint32_t network;
  uint32_t held_kib;
  uint32_t spilled_kib;
  uint32_t envelope_kib;
};
static_assert(sizeof(ChunkRecord) == 64, "record is read by src/native.ts");

class Arena {
 public:
  /** Lays out fresh memory (zeroed). False when it is too small for one chunk. The memory is the caller's. */
  bool create(uint8_t* base, size_t bytes, const char* spill_dir);
  /** Attaches to memory that create() laid out. False when it was not. */
  bool attach(uint8_t* base, size_t bytes, const char* spill_dir);

  ArenaHeader* header() const { return reinterpret_cast<ArenaHeader*>(base_); }
  ChunkRecord* record(uint32_t chunk) const {
    return reinterpret_cast<ChunkRecord*>(base_ + sizeof(ArenaHeader)) + chunk;
  }
  uint8_t* bytes(uint32_t chunk) const { return base_ + chunks_at_ + size_t{chunk} * kChunkBytes; }
  bool valid(uint32_t handle) const { return handle < count_; }

  /** A chunk with a cleared record, or kNoContent when all are in use. */
  uint32_t take();
  /** Gives one chunk back. */
  void give(uint32_t chunk);
  /** A new content of one empty chunk with one reference, or kNoContent. */
  uint32_t begin();
  /** Copies bytes into a new content; kNoContent when they do not fit. */
  uint32_t store(const uint8_t* from, size_t length);
  /** A content that lies in a file; owns fd from here on. kNoContent (fd untouched) when full. */
  uint32_t store_file(int fd, uint64_t offset, uint64_t length);
  void retain(uint32_t handle);
  /** Drops a reference; the last one frees chunks, closes and unlinks an unclaimed spill file. */
  void release(uint32_t handle);

  /** Creates a new spill file, mode 0600. Returns the fd, or -errno. */
  int open_spill(uint32_t* number);
  void unlink_spill(uint32_t number) const;

 private:
  uint8_t* base_ = nullptr;
  uint32_t count_ = 0;
  uint32_t chunks_at_ = 0;
  std::string spill_dir_;
};

}  // namespace protorelay
