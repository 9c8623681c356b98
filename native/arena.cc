#include "arena.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

namespace protorelay {
namespace {

constexpr uint32_t kPage = 4096;

uint32_t chunks_offset(uint64_t count) {
  uint64_t end = sizeof(ArenaHeader) + count * sizeof(ChunkRecord);
  return static_cast<uint32_t>((end + kPage - 1) / kPage * kPage);
}

/** A wrong reference count is our own fault: stop before a chunk that is still read is given to someone else. */
[[noreturn]] void broken(const char* what, uint32_t handle) {
  fprintf(stderr, "protorelay: content arena: %s (content %u)\n", what, handle);
  abort();
}

}  // namespace

bool Arena::create(uint8_t* base, size_t bytes, const char* spill_dir) {
  uint64_t count = bytes / (kChunkBytes + sizeof(ChunkRecord));
  while (count > 0 && chunks_offset(count) + count * kChunkBytes > bytes) --count;
  if (count == 0 || count >= kNoContent - 1) return false;
  auto* header = reinterpret_cast<ArenaHeader*>(base);
  header->chunk_count = static_cast<uint32_t>(count);
  header->free_count = static_cast<uint32_t>(count);
  header->free_head = 0;
  header->fresh = 0;
  header->next_spill = 1;
  header->chunks_at = chunks_offset(count);
  __atomic_store_n(&header->magic, kArenaMagic, __ATOMIC_RELEASE);
  return attach(base, bytes, spill_dir);
}

bool Arena::attach(uint8_t* base, size_t bytes, const char* spill_dir) {
  auto* header = reinterpret_cast<ArenaHeader*>(base);
  if (bytes < sizeof(ArenaHeader)) return false;
  if (__atomic_load_n(&header->magic, __ATOMIC_ACQUIRE) != kArenaMagic) return false;
  if (header->chunks_at + uint64_t{header->chunk_count} * kChunkBytes > bytes) return false;
  base_ = base;
  count_ = header->chunk_count;
  chunks_at_ = header->chunks_at;
  spill_dir_ = spill_dir;
  return true;
}

uint32_t Arena::take() {
  ArenaHeader* h = header();
  uint32_t chunk;
  uint64_t head = __atomic_load_n(&h->free_head, __ATOMIC_ACQUIRE);
  for (;;) {
    uint32_t first = static_cast<uint32_t>(head);
    if (first == 0) {
      // Nothing to reuse: take memory that was never touched.
      uint32_t fresh = __atomic_load_n(&h->fresh, __ATOMIC_RELAXED);
      do {
        if (fresh >= count_) return kNoContent;
      } while (!__atomic_compare_exchange_n(&h->fresh, &fresh, fresh + 1, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
      chunk = fresh;
      break;
    }
    // Another thread may pop `first` and overwrite its next at this moment; then the tag differs and we retry.
    uint64_t next = __atomic_load_n(&record(first - 1)->next, __ATOMIC_RELAXED);
    uint64_t wanted = ((head >> 32) + 1) << 32 | next;
    if (__atomic_compare_exchange_n(&h->free_head, &head, wanted, true, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
      chunk = first - 1;
      break;
    }
  }
  __atomic_sub_fetch(&h->free_count, 1, __ATOMIC_RELAXED);
  ChunkRecord* r = record(chunk);
  __atomic_store_n(&r->next, 0, __ATOMIC_RELAXED);
  r->refs = 0;
  r->state = 0;
  r->flags = 0;
  r->length = 0;
  r->offset = 0;
  r->fd = -1;
  r->spill = 0;
  r->used = 0;
  r->client = 0;
  r->network = 0;
  r->held_kib = 0;
  r->spilled_kib = 0;
  r->envelope_kib = 0;
  return chunk;
}

void Arena::give(uint32_t chunk) {
  ArenaHeader* h = header();
  uint64_t head = __atomic_load_n(&h->free_head, __ATOMIC_RELAXED);
  uint64_t wanted;
  do {
    __atomic_store_n(&record(chunk)->next, static_cast<uint32_t>(head), __ATOMIC_RELAXED);
    wanted = ((head >> 32) + 1) << 32 | (chunk + 1);
  } while (!__atomic_compare_exchange_n(&h->free_head, &head, wanted, true, __ATOMIC_RELEASE, __ATOMIC_RELAXED));
  __atomic_add_fetch(&h->free_count, 1, __ATOMIC_RELAXED);
}

uint32_t Arena::begin() {
  uint32_t chunk = take();
  if (chunk != kNoContent) __atomic_store_n(&record(chunk)->refs, 1, __ATOMIC_RELEASE);
  return chunk;
}

uint32_t Arena::store(const uint8_t* from, size_t length) {
  uint32_t first = begin();
  if (first == kNoContent) return kNoContent;
  uint32_t last = first;
  size_t done = 0;
  for (;;) {
    size_t piece = length - done < kChunkBytes ? length - done : kChunkBytes;
    if (piece > 0) memcpy(bytes(last), from + done, piece);
    record(last)->used = static_cast<uint32_t>(piece);
    done += piece;
    if (done == length) break;
    uint32_t next = take();
    if (next == kNoContent) {
      release(first);
      return kNoContent;
    }
    __atomic_store_n(&record(last)->next, next + 1, __ATOMIC_RELAXED);
    last = next;
  }
  record(first)->length = length;
  return first;
}

uint32_t Arena::store_file(int fd, uint64_t offset, uint64_t length) {
  uint32_t first = begin();
  if (first == kNoContent) return kNoContent;
  ChunkRecord* r = record(first);
  r->fd = fd;
  r->offset = offset;
  r->length = length;
  r->flags = kInFile;
  return first;
}

void Arena::retain(uint32_t handle) {
  if (!valid(handle) || __atomic_fetch_add(&record(handle)->refs, 1, __ATOMIC_RELAXED) == 0) {
    broken("retained after its last release", handle);
  }
}

void Arena::release(uint32_t handle) {
  if (!valid(handle)) broken("released, but there is no such content", handle);
  ChunkRecord* r = record(handle);
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
    uint32_t chunk = next - 1;
    next = __atomic_load_n(&record(chunk)->next, __ATOMIC_RELAXED);
    give(chunk);
  }
}

int Arena::open_spill(uint32_t* number) {
  // A file of that name may be left from an earlier run that was killed: never write into it, take the next name.
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
