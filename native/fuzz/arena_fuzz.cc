// The arena and the gatherer against a model: in any order of calls contents keep their bytes, and free room is exact.
// Each input is played in one thread, and every eighth in several threads on one arena at once.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "../arena.h"
#include "../content_gather.h"
#include "../content_scan.h"

using namespace protorelay;

namespace {

constexpr size_t kArenaBytes = 3 * 72000;
constexpr int kThreads = 3;

#define CHECK(what)                                                        \
  do {                                                                     \
    if (!(what)) {                                                         \
      fprintf(stderr, "arena fuzz: line %d: %s is wrong\n", __LINE__, #what); \
      abort();                                                             \
    }                                                                      \
  } while (0)

/** Memory that begins at a page, as in the relay. */
struct Memory {
  uint8_t* at = nullptr;
  explicit Memory(size_t bytes) {
    if (posix_memalign(reinterpret_cast<void**>(&at), 4096, bytes) != 0) abort();
    memset(at, 0, bytes);
  }
  ~Memory() { free(at); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
};

class Input {
 public:
  Input(const uint8_t* from, size_t count) : from_(from), count_(count) {}
  bool more() const { return at_ < count_; }
  uint32_t byte() { return at_ < count_ ? from_[at_++] : 0; }
  /** A length: mostly small, and at most three chunks. */
  size_t length() {
    uint32_t value = byte() | byte() << 8;
    return (value & 7) == 0 ? size_t{value} * 3 : value % 6000;
  }

 private:
  const uint8_t* from_;
  size_t count_;
  size_t at_ = 0;
};

struct Held {
  uint32_t handle;
  std::string bytes;
};

std::string read(const Arena& arena, uint32_t handle) {
  std::string bytes;
  for (uint32_t next = handle + 1; next != 0; next = arena.record(next - 1)->next) {
    const BlockRecord* r = arena.record(next - 1);
    CHECK(r->units >= 1 && r->units <= kChunkUnits && r->used <= r->units * kUnitBytes);
    bytes.append(reinterpret_cast<const char*>(arena.bytes(next - 1)), r->used);
  }
  return bytes;
}

uint32_t units_of(const Arena& arena, uint32_t handle) {
  uint32_t units = 0;
  for (uint32_t next = handle + 1; next != 0; next = arena.record(next - 1)->next) units += arena.record(next - 1)->units;
  return units;
}

void check(const Arena& arena, const Held& held) {
  CHECK(arena.record(held.handle)->length == held.bytes.size());
  CHECK(read(arena, held.handle) == held.bytes);
}

/** Gathers one content as a connection does; false when there is no room. */
bool gather(Arena* arena, Input* input, uint8_t mark, std::vector<Held>* held) {
  ContentGather gatherer;
  uint64_t limit = input->byte() == 0 ? 1000 : 1 << 30;
  Accounts nobody;
  gatherer.begin(arena, &nobody, Account{}, limit, uint64_t{1} << 40);
  std::string all;
  uint32_t landing = input->byte() % 3 == 0 ? arena->take(kChunkUnits) : kNoContent;
  if (landing != kNoContent) {
    size_t count = input->length() % (kChunkBytes + 1);
    memset(arena->bytes(landing), mark, count);
    all.append(count, static_cast<char>(mark));
    gatherer.adopt(landing, count);
  }
  for (uint32_t pieces = input->byte() % 8; pieces > 0; --pieces) {
    std::string piece(input->length(), static_cast<char>(mark + pieces));
    uint8_t* to = nullptr;
    size_t room = 0;
    if (gatherer.streams() && gatherer.space(512, &to, &room)) {
      if (piece.size() > room) piece.resize(room);
      memcpy(to, piece.data(), piece.size());
      gatherer.wrote(piece.size());
    } else {
      gatherer.append(reinterpret_cast<const uint8_t*>(piece.data()), piece.size());
    }
    all += piece;
    CHECK(gatherer.length() == all.size() || gatherer.discarding());
  }
  if (input->byte() % 5 == 0) {
    gatherer.drop();
    return true;
  }
  uint32_t handle = gatherer.finish();
  if (handle == kNoContent) {
    CHECK((gatherer.flags() & (kNoMemory | kTooBig)) != 0);
    return (gatherer.flags() & kNoMemory) == 0;
  }
  CHECK(all.size() <= limit);
  held->push_back({handle, all});
  return true;
}

void play(Arena* arena, Input input, uint8_t mark, bool alone) {
  std::vector<Held> held;
  uint32_t total = arena->header()->chunk_count * kChunkUnits;
  while (input.more()) {
    switch (input.byte() % 6) {
      case 0:
      case 1: {
        std::string bytes(input.length(), static_cast<char>(mark + held.size()));
        uint32_t handle = arena->store(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
        if (handle != kNoContent) {
          held.push_back({handle, bytes});
        } else if (alone) {
          // It may fail only when the content does not fit: each 64 KiB takes at most one unit more than its bytes.
          CHECK(arena->header()->free_units < units_for(bytes.size()) + bytes.size() / kChunkBytes + 1);
        }
        break;
      }
      case 2:
        gather(arena, &input, mark, &held);
        break;
      case 3:
      case 4:
        if (!held.empty()) {
          size_t which = input.byte() % held.size();
          check(*arena, held[which]);
          arena->retain(held[which].handle);
          arena->release(held[which].handle);
          check(*arena, held[which]);
          arena->release(held[which].handle);
          held.erase(held.begin() + static_cast<std::ptrdiff_t>(which));
        }
        break;
      default: {
        uint32_t block = arena->take(input.byte() % kChunkUnits + 1);
        if (block == kNoContent) break;
        arena->trim(block, input.byte() % kChunkUnits + 1);
        arena->give(block);
      }
    }
    if (!alone) continue;
    uint32_t units = 0;
    for (const Held& one : held) units += units_of(*arena, one.handle);
    CHECK(arena->header()->free_units == total - units);
  }
  for (const Held& one : held) {
    check(*arena, one);
    arena->release(one.handle);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Memory memory(kArenaBytes);
  Arena arena;
  CHECK(arena.create(memory.at, kArenaBytes, "/nonexistent"));
  play(&arena, Input(data, size), 1, true);
  uint32_t total = arena.header()->chunk_count * kChunkUnits;
  CHECK(arena.header()->free_units == total);
  std::vector<std::thread> threads;
  for (int i = 0; i < (size % 8 == 0 ? kThreads : 0); ++i) {
    threads.emplace_back([&, i] { play(&arena, Input(data, size), static_cast<uint8_t>(40 * i + 2), false); });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(arena.header()->free_units == total);
  // Every chunk is whole again.
  for (uint32_t i = 0; i < arena.header()->chunk_count; ++i) CHECK(arena.take(kChunkUnits) != kNoContent);
  return 0;
}

#ifdef PROTORELAY_FUZZ_MAIN
int main(int count, char** arguments) {
  long rounds = count > 1 ? atol(arguments[1]) : 500;
  uint64_t seed = count > 2 ? strtoull(arguments[2], nullptr, 10) : 1;
  for (long round = 0; round < rounds; ++round) {
    std::vector<uint8_t> input;
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    size_t size = (seed >> 40) % 600;
    for (size_t i = 0; i < size; ++i) {
      seed = seed * 6364136223846793005u + 1442695040888963407u;
      input.push_back(static_cast<uint8_t>(seed >> 56));
    }
    LLVMFuzzerTestOneInput(input.data(), input.size());
  }
  printf("%ld inputs\n", rounds);
  return 0;
}
#endif
