#include "arena.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

namespace protorelay {
namespace {

constexpr uint64_t kPage = 4096;

uint64_t maps_offset(uint64_t count) { return sizeof(ArenaHeader) + count * kChunkUnits * sizeof(BlockRecord); }

uint64_t chunks_offset(uint64_t count) {
  return (maps_offset(count) + count * sizeof(ChunkMap) + kPage - 1) / kPage * kPage;
}

/** A wrong reference count is our own fault: stop before memory that is still being read is given to somebody else. */
[[noreturn]] void broken(const char* what, uint32_t handle) {
  fprintf(stderr, "protorelay: content arena: %s (content %u)\n", what, handle);
  abort();
}

}  // namespace

bool Arena::create(uint8_t* base, size_t bytes, const char* spill_dir) {
  uint64_t count = bytes / (kChunkBytes + kChunkUnits * sizeof(BlockRecord) + sizeof(ChunkMap));
  while (count > 0 && chunks_offset(count) + count * kChunkBytes > bytes) --count;
  if (count == 0 || count * kChunkUnits >= kNoContent - 1) return false;
  auto* header = reinterpret_cast<ArenaHeader*>(base);
  header->chunk_count = static_cast<uint32_t>(count);
  header->free_units = header->chunk_count * kChunkUnits;
  for (uint32_t& list : header->lists) list = 0;
  header->fresh = 0;
  header->next_spill = 1;
  header->maps_at = maps_offset(count);
  header->chunks_at = chunks_offset(count);
  if (pthread_mutex_init(&header->lock, nullptr) != 0) return false;
  __atomic_store_n(&header->magic, kArenaMagic, __ATOMIC_RELEASE);
  if (!attach(base, bytes, spill_dir)) return false;
  close_off();
  return true;
}

bool Arena::attach(uint8_t* base, size_t bytes, const char* spill_dir) {
  auto* header = reinterpret_cast<ArenaHeader*>(base);
  if (bytes < sizeof(ArenaHeader)) return false;
  if (__atomic_load_n(&header->magic, __ATOMIC_ACQUIRE) != kArenaMagic) return false;
  if (header->chunks_at + uint64_t{header->chunk_count} * kChunkBytes > bytes) return false;
  base_ = base;
  unit_count_ = header->chunk_count * kChunkUnits;
  chunks_at_ = header->chunks_at;
  maps_at_ = header->maps_at;
  spill_dir_ = spill_dir;
  return true;
}

uint32_t Arena::store(const uint8_t* from, size_t length) {
  uint32_t first = kNoContent;
  uint32_t last = kNoContent;
  size_t done = 0;
  do {
    size_t rest = length - done;
    uint32_t block = take_most(units_for(rest < kChunkBytes ? rest : kChunkBytes));
    if (block == kNoContent) {
      if (first != kNoContent) release(first);
      return kNoContent;
    }
    if (first == kNoContent) {
      first = block;
      __atomic_store_n(&record(block)->refs, 1, __ATOMIC_RELEASE);
    } else {
      __atomic_store_n(&record(last)->next, block + 1, __ATOMIC_RELAXED);
    }
    last = block;
    size_t piece = rest < capacity(block) ? rest : capacity(block);
    if (piece > 0) memcpy(bytes(block), from + done, piece);
    record(block)->used = static_cast<uint32_t>(piece);
    done += piece;
  } while (done < length);
  record(first)->length = length;
  return first;
}

uint32_t Arena::store_file(int fd, uint64_t offset, uint64_t length) {
  uint32_t first = take(1);
  if (first == kNoContent) return kNoContent;
  BlockRecord* r = record(first);
  r->fd = fd;
  r->offset = offset;
  r->length = length;
  r->flags = kInFile;
  __atomic_store_n(&r->refs, 1, __ATOMIC_RELEASE);
  return first;
}

void Arena::retain(uint32_t handle) {
  if (!valid(handle) || __atomic_fetch_add(&record(handle)->refs, 1, __ATOMIC_RELAXED) == 0) {
    broken("retained after its last release", handle);
  }
}

void Arena::release(uint32_t handle) {
  if (!valid(handle)) broken("released, but there is no such content", handle);
  BlockRecord* r = record(handle);
  uint32_t before = __atomic_fetch_sub(&r->refs, 1, __ATOMIC_ACQ_REL);
  if (before == 0) broken("released more often than retained", handle);
  if (before > 1) return;
  uint32_t flags = __atomic_load_n(&r->flags, __ATOMIC_ACQUIRE);
  if (flags & kInFile) {
    if (r->fd >= 0) ::close(r->fd);
    if ((flags & (kSpillFile | kClaimed)) == kSpillFile) unlink_spill(r->spill);
  }
  uint32_t next = handle + 1;
  while (next != 0) {
    uint32_t block = next - 1;
    next = __atomic_load_n(&record(block)->next, __ATOMIC_RELAXED);
    give(block);
  }
}

int Arena::open_spill(uint32_t* number) {
  // An earlier run that was killed may have left a file of that name: never write into it, but take the next name.
  for (int attempt = 0; attempt < 1000; ++attempt) {
    *number = __atomic_fetch_add(&header()->next_spill, 1, __ATOMIC_RELAXED);
    std::string path = spill_dir_ + "/" + std::to_string(*number) + ".spill";
    int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0) return fd;
    if (errno != EEXIST) return -errno;
  }
  return -EEXIST;
}

void Arena::unlink_spill(uint32_t number) const {
  std::string path = spill_dir_ + "/" + std::to_string(number) + ".spill";
  ::unlink(path.c_str());
}

}  // namespace protorelay
