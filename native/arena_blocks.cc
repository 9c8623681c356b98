// Blocks of the arena: which units of which chunk are in use. All of this runs under the lock in the header.
#include <cstdio>
#include <cstdlib>

#include "arena.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#endif
#endif
#ifndef ASAN_POISON_MEMORY_REGION
#define ASAN_POISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#endif

namespace protorelay {
namespace {

/** How many chunks are looked at in the list whose runs may or may not be long enough. */
constexpr int kTries = 4;

class Locked {
 public:
  explicit Locked(ArenaHeader* header) : header_(header) { pthread_mutex_lock(&header->lock); }
  ~Locked() { pthread_mutex_unlock(&header_->lock); }
  Locked(const Locked&) = delete;
  Locked& operator=(const Locked&) = delete;

 private:
  ArenaHeader* header_;
};

uint64_t bits(uint32_t first, uint32_t units) {
  uint64_t run = units == kChunkUnits ? ~uint64_t{0} : (uint64_t{1} << units) - 1;
  return run << first;
}

/** The positions in a map of free units at which `units` of them follow one another. */
uint64_t runs_of(uint64_t free, uint32_t units) {
  for (uint32_t have = 1; have < units;) {
    uint32_t step = have < units - have ? have : units - have;
    free &= free >> step;
    have += step;
  }
  return free;
}

/** Logarithm of the longest run, rounded down; `free` has one. */
uint32_t run_class(uint64_t free) {
  uint32_t result = 0;
  for (uint32_t have = 1; have < kChunkUnits; have *= 2) {
    free &= free >> have;
    if (free == 0) break;
    ++result;
  }
  return result;
}

uint32_t floor_log(uint32_t units) { return 31u - static_cast<uint32_t>(__builtin_clz(units)); }

/** This is our own fault: stop before memory that is still being read is given to somebody else. */
[[noreturn]] void broken(const char* what, uint32_t block) {
  fprintf(stderr, "protorelay: content arena: %s (block %u)\n", what, block);
  abort();
}

}  // namespace

/** With a sanitizer, closes off memory that belongs to nobody from reads and writes, by C++ or by system calls. */
void Arena::close_off() { ASAN_POISON_MEMORY_REGION(bytes(0), size_t{unit_count_} * kUnitBytes); }

void Arena::list(uint32_t chunk) {
  ChunkMap* m = map(chunk);
  if (~m->taken == 0) return;
  uint32_t which = run_class(~m->taken);
  uint32_t* head = &header()->lists[which];
  m->list = which + 1;
  m->previous = 0;
  m->next = *head;
  if (*head != 0) map(*head - 1)->previous = chunk + 1;
  *head = chunk + 1;
}

void Arena::unlist(uint32_t chunk) {
  ChunkMap* m = map(chunk);
  if (m->list == 0) return;
  if (m->previous != 0) {
    map(m->previous - 1)->next = m->next;
  } else {
    header()->lists[m->list - 1] = m->next;
  }
  if (m->next != 0) map(m->next - 1)->previous = m->previous;
  m->list = 0;
}

/** Changes a chunk's map, and moves the chunk to the list of its longest run. */
void Arena::change(uint32_t chunk, uint64_t taken) {
  ChunkMap* m = map(chunk);
  m->taken = taken;
  uint32_t list_now = ~taken == 0 ? 0 : run_class(~taken) + 1;
  if (list_now == m->list) return;
  unlist(chunk);
  list(chunk);
}

bool Arena::find(uint32_t units, uint32_t* chunk, uint32_t* first) {
  ArenaHeader* h = header();
  uint32_t least = floor_log(units);
  uint32_t at = h->lists[least];
  bool surely = (units & (units - 1)) == 0;
  for (int tries = surely ? 1 : kTries; tries > 0 && at != 0; --tries) {
    if (surely || runs_of(~map(at - 1)->taken, units) != 0) break;
    at = tries == 1 ? 0 : map(at - 1)->next;
  }
  for (uint32_t which = least + 1; at == 0 && which < kRunLists; ++which) at = h->lists[which];
  if (at == 0) {
    if (h->fresh >= h->chunk_count) return false;
    // Take a chunk that was never used.
    at = ++h->fresh;
    ChunkMap* m = map(at - 1);
    m->taken = 0;
    m->list = 0;
    list(at - 1);
  }
  *chunk = at - 1;
  *first = static_cast<uint32_t>(__builtin_ctzll(runs_of(~map(*chunk)->taken, units)));
  return true;
}

uint32_t Arena::take(uint32_t units) {
  ArenaHeader* h = header();
  uint32_t chunk = 0;
  uint32_t first = 0;
  {
    Locked locked(h);
    if (h->free_units < units || !find(units, &chunk, &first)) return kNoContent;
    change(chunk, map(chunk)->taken | bits(first, units));
    __atomic_store_n(&h->free_units, h->free_units - units, __ATOMIC_RELAXED);
  }
  uint32_t block = chunk * kChunkUnits + first;
  ASAN_UNPOISON_MEMORY_REGION(bytes(block), size_t{units} * kUnitBytes);
  BlockRecord* r = record(block);
  __atomic_store_n(&r->next, 0, __ATOMIC_RELAXED);
  r->refs = 0;
  r->state = 0;
  r->flags = 0;
  r->length = 0;
  r->offset = 0;
  r->fd = -1;
  r->spill = 0;
  r->used = 0;
  r->units = units;
  r->client = 0;
  r->network = 0;
  r->held_kib = 0;
  r->envelope_kib = 0;
  return block;
}

uint32_t Arena::take_most(uint32_t units) {
  for (; units > 0; units /= 2) {
    uint32_t block = take(units);
    if (block != kNoContent) return block;
  }
  return kNoContent;
}

void Arena::trim(uint32_t block, uint32_t units) {
  BlockRecord* r = record(block);
  if (units >= r->units) return;
  ArenaHeader* h = header();
  uint32_t more = r->units - units;
  r->units = units;
  uint32_t chunk = block / kChunkUnits;
  Locked locked(h);
  ASAN_POISON_MEMORY_REGION(bytes(block + units), size_t{more} * kUnitBytes);
  change(chunk, map(chunk)->taken & ~bits(block % kChunkUnits + units, more));
  __atomic_store_n(&h->free_units, h->free_units + more, __ATOMIC_RELAXED);
}

void Arena::give(uint32_t block) {
  BlockRecord* r = record(block);
  uint32_t units = r->units;
  if (units == 0 || units > kChunkUnits) broken("given back, but there is no such block", block);
  r->units = 0;
  ArenaHeader* h = header();
  uint32_t chunk = block / kChunkUnits;
  Locked locked(h);
  uint64_t taken = map(chunk)->taken;
  uint64_t mine = bits(block % kChunkUnits, units);
  if ((taken & mine) != mine) broken("given back twice", block);
  ASAN_POISON_MEMORY_REGION(bytes(block), size_t{units} * kUnitBytes);
  change(chunk, taken & ~mine);
  __atomic_store_n(&h->free_units, h->free_units + units, __ATOMIC_RELAXED);
}

}  // namespace protorelay
