// Hashes of bodies (relaxed, SHA-256), each computed once for a content however often it is signed.
//
// A table of the process, of a fixed size: an entry belongs to a content of an arena for as long as that content lives,
// which kHashed in its record says. A content whose entry was pushed out is hashed anew. Safe from any thread; a thread that
// wants the hash that another one is computing waits for it.
#pragma once
#include <cstdint>

#include "arena.h"
#include "dkim_sign.h"

namespace protorelay {

/** Puts the hash of the body of a content into `hash`. @param compute does so the first time; false when it cannot. */
bool body_hash_of(Arena* arena, uint32_t handle, uint8_t hash[kBodyHashBytes], bool (*compute)(void* with, uint8_t* hash),
                  void* with);

/** How many hashes were computed since the process began. */
uint64_t body_hashes_computed();

}  // namespace protorelay
