// Converts values between JavaScript and C++, and governs the life of objects that outlive a call.
#pragma once
#include <node_api.h>

#include <string>
#include <vector>

namespace protorelay {

/** Arguments of a call; missing ones are undefined. */
struct Arguments {
  napi_value at[8];
  size_t count = 8;
  Arguments(napi_env env, napi_callback_info info);
};

double to_number(napi_env env, napi_value value);
uint32_t to_uint32(napi_env env, napi_value value);
int32_t to_int32(napi_env env, napi_value value);
bool to_bool(napi_env env, napi_value value);
std::string to_text(napi_env env, napi_value value);
napi_value property(napi_env env, napi_value object, const char* name);

struct Bytes {
  uint8_t* at = nullptr;
  size_t length = 0;
};
/** Memory of a Buffer, also over shared memory; valid while the caller keeps a reference to it. */
Bytes to_bytes(napi_env env, napi_value value);
/** Memory of a Uint32Array over ordinary memory. */
uint32_t* to_words(napi_env env, napi_value value, size_t* count);

napi_value from_number(napi_env env, double value);
napi_value from_bool(napi_env env, bool value);
napi_value from_text(napi_env env, const std::string& value);
napi_value undefined(napi_env env);
napi_value throw_error(napi_env env, const char* message);

void add_function(napi_env env, napi_value exports, const char* name, napi_callback callback);

/**
 * Calls a JavaScript function from the loop, and runs its microtasks. An exception in it is our own fault, and fatal.
 */
void call_from_loop(napi_env env, napi_ref function, size_t count, napi_value* arguments);

/**
 * Ties an object with libuv handles to its environment. JavaScript holds the box as an external. When the object is
 * closed or the environment ends, the object lives on until its handles are closed; the box lives as long as object
 * and external.
 */
struct Box {
  napi_env env = nullptr;
  /** nullptr once close began. */
  void* object = nullptr;
  /** Begins closing the object, which calls box_released when its handles are gone. */
  void (*close)(void* object) = nullptr;
  /** References to the JavaScript memory that the object points into. */
  std::vector<napi_ref> references;
  napi_async_cleanup_hook_handle hook = nullptr;
  bool external_alive = false;
  bool released = false;
  bool environment_ends = false;
};

napi_ref box_keep(Box* box, napi_value value);
napi_value box_open(Box* box);
void box_close(Box* box);
void box_released(void* box);
Box* to_box(napi_env env, napi_value value);

}  // namespace protorelay
