// Arena calls. Whatever Atomics on the shared buffer can do is done in src/native/shared-arena.ts.
#include <stdlib.h>
#include <string.h>

#include "addon.h"
#include "napi_values.h"

namespace protorelay {
namespace {

/** One thread's view of the arena; keeps the shared buffer alive. */
struct ArenaBox {
  Arena arena;
  napi_ref buffer = nullptr;
};

void finalize(napi_env env, void* data, void*) {
  auto* box = static_cast<ArenaBox*>(data);
  napi_delete_reference(env, box->buffer);
  delete box;
}

napi_value open(napi_env env, napi_callback_info info, bool fresh) {
  Arguments args(env, info);
  Bytes memory = to_bytes(env, args.at[0]);
  std::string spill_dir = to_text(env, args.at[1]);
  auto* box = new ArenaBox();
  bool ok = memory.at != nullptr && (fresh ? box->arena.create(memory.at, memory.length, spill_dir.c_str())
                                           : box->arena.attach(memory.at, memory.length, spill_dir.c_str()));
  if (!ok) {
    delete box;
    return throw_error(env, fresh ? "the content arena needs room for at least one chunk of 64 KiB"
                                  : "the shared buffer holds no content arena");
  }
  napi_create_reference(env, args.at[0], 1, &box->buffer);
  napi_value external = nullptr;
  napi_create_external(env, box, finalize, nullptr, &external);
  return external;
}

void free_aligned(napi_env, void* memory, void*) { free(memory); }

/** alignedBuffer(bytes): zeroed memory that begins at a page, for direct input and output. */
napi_value aligned_buffer(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  size_t bytes = to_uint32(env, args.at[0]);
  void* memory = nullptr;
  if (bytes == 0 || posix_memalign(&memory, 4096, bytes) != 0) return throw_error(env, "no memory for an aligned buffer");
  memset(memory, 0, bytes);
  napi_value buffer = nullptr;
  if (napi_create_external_buffer(env, bytes, memory, free_aligned, nullptr, &buffer) == napi_ok) return buffer;
  free(memory);
  return throw_error(env, "this Node allows no external buffers");
}

/** arenaCreate(buffer, spillDir) */
napi_value create(napi_env env, napi_callback_info info) { return open(env, info, true); }

/** arenaAttach(buffer, spillDir) */
napi_value attach(napi_env env, napi_callback_info info) { return open(env, info, false); }

/** arenaStore(arena, bytes): content */
napi_value store(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  Bytes bytes = to_bytes(env, args.at[1]);
  return from_number(env, to_arena(env, args.at[0])->store(bytes.at, bytes.length));
}

/** arenaStoreFile(arena, fd, offset, length): content */
napi_value store_file(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  return from_number(env, to_arena(env, args.at[0])->store_file(to_int32(env, args.at[1]),
                                              static_cast<uint64_t>(to_number(env, args.at[2])),
                                              static_cast<uint64_t>(to_number(env, args.at[3]))));
}

/** arenaRelease(arena, content) */
napi_value release(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  to_arena(env, args.at[0])->release(to_uint32(env, args.at[1]));
  return nullptr;
}

}  // namespace

Arena* to_arena(napi_env env, napi_value value) {
  void* data = nullptr;
  napi_get_value_external(env, value, &data);
  return &static_cast<ArenaBox*>(data)->arena;
}

void register_arena(napi_env env, napi_value exports) {
  add_function(env, exports, "alignedBuffer", aligned_buffer);
  add_function(env, exports, "arenaCreate", create);
  add_function(env, exports, "arenaAttach", attach);
  add_function(env, exports, "arenaStore", store);
  add_function(env, exports, "arenaStoreFile", store_file);
  add_function(env, exports, "arenaRelease", release);
}

}  // namespace protorelay
