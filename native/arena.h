// The content arena: memory for content inside one SharedArrayBuffer that every thread of the process attaches to.
//
// Content lies in blocks of 1 to 64 units of 1 KiB. Blocks lie in chunks of 64 KiB, each with a map of its units.
// Chunks with room are listed by their longest free run: a block is taken where it fits best, and a chunk that is
// empty again serves any size. A block is named by the number of its first unit, a content by that of its first block.
//
// Owns the layout of that buffer (header, one 64-byte record per unit, the chunks' maps, the chunks) and the reference
// count of each content. Promises that every call is safe from any thread: maps and lists change under one lock in the
// header, which is held for some tens of nanoseconds; reference counts need no lock. Must never keep state outside the
// buffer, except the name of the spill folder.
//
// src/native/shared-arena.ts reads and writes the same words with Atomics: a change here is a change there.
#pragma once
#include <pthread.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace protorelay {

constexpr uint32_t kUnitBytes = 1024;
constexpr uint32_t kChunkUnits = 64;
constexpr uint32_t kChunkBytes = kUnitBytes * kChunkUnits;
constexpr uint32_t kNoContent = 0xffffffffu;
constexpr uint32_t kArenaMagic = 0x50524132u;  // "PRA2"
/** Number of lists of chunks: one for each logarithm of the longest free run. */
constexpr uint32_t kRunLists = 7;

/** Flags of a content, in the record of its first block. */
constexpr uint32_t kInFile = 1;
constexpr uint32_t kSpillFile = 2;
constexpr uint32_t kClaimed = 4;
/** The hash of its body was computed (body_hashes.h). */
constexpr uint32_t kHashed = 8;
/** It has header fields of our own (content_scan.h). */
constexpr uint32_t kMarked = 16;

/** How many units hold this many bytes; an empty content has one as well. */
constexpr uint32_t units_for(size_t bytes) {
  return bytes == 0 ? 1 : static_cast<uint32_t>((bytes + kUnitBytes - 1) / kUnitBytes);
}

struct ArenaHeader {
  uint32_t magic;
  uint32_t chunk_count;
  uint32_t free_units;
  uint32_t next_spill;
  /** Where chunk 0 begins, in bytes from the start of the buffer. */
  uint64_t chunks_at;
  uint64_t maps_at;
  /** Chunks from this one on were never used. They stay untouched, and cost no memory, until no other has room. */
  uint32_t fresh;
  /** The first chunk of each list, + 1; 0: the list is empty. */
  uint32_t lists[kRunLists];
  pthread_mutex_t lock;
  uint8_t reserved[192 - sizeof(pthread_mutex_t)];
};
static_assert(sizeof(ArenaHeader) == 256, "header is read by src/native/shared-arena.ts");

struct BlockRecord {
  /** The next block of the same content, + 1; 0: this is the last. */
  uint32_t next;
  uint32_t refs;
  uint32_t state;
  uint32_t flags;
  uint64_t length;
  union {
    /** Content in a file: where it begins there. */
    uint64_t offset;
    /** Content in memory: where the values of two header fields begin (content_scan.h); 0: not known. */
    uint32_t fields[2];
  };
  int32_t fd;
  uint32_t spill;
  /** Bytes of content in this block. */
  uint32_t used;
  /** Size of this block; 0: no block begins here. */
  uint32_t units;
  /** In the first block of a content: the account it is on, and what it holds there in KiB. Whoever settles the content
      gives that back (src/policy/content-account.ts). */
  uint32_t client;
  uint32_t network;
  uint32_t held_kib;
  uint32_t envelope_kib;
};
static_assert(sizeof(BlockRecord) == 64, "record is read by src/native/shared-arena.ts");

/** The units of a chunk that are in use, and its neighbours in its list (+ 1; 0: none). */
struct ChunkMap {
  uint64_t taken;
  uint32_t next;
  uint32_t previous;
  /** The list it is in, + 1; 0: in none, because it is full. */
  uint32_t list;
  uint32_t reserved;
};
static_assert(sizeof(ChunkMap) == 24, "chunks' maps lie one behind the other");

class Arena {
 public:
  /** Lays out fresh memory, which stays the caller's. False when it is too small for one chunk. */
  bool create(uint8_t* base, size_t bytes, const char* spill_dir);
  /** Attaches to memory that create() laid out. False when the memory was not laid out so. */
  bool attach(uint8_t* base, size_t bytes, const char* spill_dir);

  ArenaHeader* header() const { return reinterpret_cast<ArenaHeader*>(base_); }
  BlockRecord* record(uint32_t block) const {
    return reinterpret_cast<BlockRecord*>(base_ + sizeof(ArenaHeader)) + block;
  }
  uint8_t* bytes(uint32_t block) const { return base_ + chunks_at_ + size_t{block} * kUnitBytes; }
  /** How many bytes fit into a block. */
  uint32_t capacity(uint32_t block) const { return record(block)->units * kUnitBytes; }
  bool valid(uint32_t handle) const { return handle < unit_count_; }

  /** Takes a block of `units` (1 to 64), and clears its record; kNoContent when there is no such run. */
  uint32_t take(uint32_t units);
  /**
   * Like take(), but takes the largest smaller block if there is none of that size: kNoContent only when every unit
   * is in use.
   */
  uint32_t take_most(uint32_t units);
  /** Gives back the units of a block beyond the first `units`. */
  void trim(uint32_t block, uint32_t units);
  /** Gives back a block. */
  void give(uint32_t block);
  /** Copies bytes into a new content with one reference; kNoContent when they do not fit. */
  uint32_t store(const uint8_t* from, size_t length);
  /** Makes a content that lies in a file, and owns fd from then on. kNoContent, with fd untouched, when the arena is full. */
  uint32_t store_file(int fd, uint64_t offset, uint64_t length);
  void retain(uint32_t handle);
  /**
   * Drops a reference. With the last one it frees the blocks, and closes and unlinks a spill file that nobody claimed.
   */
  void release(uint32_t handle);

  /** Creates a spill file, mode 0600. Returns the fd, or -errno. */
  int open_spill(uint32_t* number);
  void unlink_spill(uint32_t number) const;

 private:
  ChunkMap* map(uint32_t chunk) const { return reinterpret_cast<ChunkMap*>(base_ + maps_at_) + chunk; }
  void close_off();
  bool find(uint32_t units, uint32_t* chunk, uint32_t* first);
  void list(uint32_t chunk);
  void unlist(uint32_t chunk);
  void change(uint32_t chunk, uint64_t taken);

  uint8_t* base_ = nullptr;
  uint32_t unit_count_ = 0;
  uint64_t chunks_at_ = 0;
  uint64_t maps_at_ = 0;
  std::string spill_dir_;
};

}  // namespace protorelay
