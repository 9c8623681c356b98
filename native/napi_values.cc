#include "napi_values.h"

namespace protorelay {

Arguments::Arguments(napi_env env, napi_callback_info info) {
  napi_get_cb_info(env, info, &count, at, nullptr, nullptr);
}

double to_number(napi_env env, napi_value value) {
  double result = 0;
  napi_get_value_double(env, value, &result);
  return result;
}

uint32_t to_uint32(napi_env env, napi_value value) {
  uint32_t result = 0;
  napi_get_value_uint32(env, value, &result);
  return result;
}

int32_t to_int32(napi_env env, napi_value value) {
  int32_t result = 0;
  napi_get_value_int32(env, value, &result);
  return result;
}

bool to_bool(napi_env env, napi_value value) {
  bool result = false;
  napi_get_value_bool(env, value, &result);
  return result;
}

std::string to_text(napi_env env, napi_value value) {
  size_t length = 0;
  if (napi_get_value_string_utf8(env, value, nullptr, 0, &length) != napi_ok) return std::string();
  std::string text(length, '\0');
  napi_get_value_string_utf8(env, value, &text[0], length + 1, &length);
  return text;
}

napi_value property(napi_env env, napi_value object, const char* name) {
  napi_value value = nullptr;
  if (napi_get_named_property(env, object, name, &value) != napi_ok) napi_get_undefined(env, &value);
  return value;
}

Bytes to_bytes(napi_env env, napi_value value) {
  Bytes bytes;
  void* at = nullptr;
  if (napi_get_buffer_info(env, value, &at, &bytes.length) != napi_ok) return Bytes();
  bytes.at = static_cast<uint8_t*>(at);
  return bytes;
}

uint32_t* to_words(napi_env env, napi_value value, size_t* count) {
  napi_typedarray_type type;
  void* at = nullptr;
  *count = 0;
  if (napi_get_typedarray_info(env, value, &type, count, &at, nullptr, nullptr) != napi_ok) return nullptr;
  if (type != napi_uint32_array) return nullptr;
  return static_cast<uint32_t*>(at);
}

napi_value from_number(napi_env env, double value) {
  napi_value result = nullptr;
  napi_create_double(env, value, &result);
  return result;
}

napi_value from_bool(napi_env env, bool value) {
  napi_value result = nullptr;
  napi_get_boolean(env, value, &result);
  return result;
}

napi_value from_text(napi_env env, const std::string& value) {
  napi_value result = nullptr;
  napi_create_string_utf8(env, value.data(), value.size(), &result);
  return result;
}

napi_value undefined(napi_env env) {
  napi_value result = nullptr;
  napi_get_undefined(env, &result);
  return result;
}

napi_value throw_error(napi_env env, const char* message) {
  napi_throw_error(env, nullptr, message);
  return undefined(env);
}

void add_function(napi_env env, napi_value exports, const char* name, napi_callback callback) {
  napi_value function = nullptr;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &function);
  napi_set_named_property(env, exports, name, function);
}

void call_from_loop(napi_env env, napi_ref function, size_t count, napi_value* arguments) {
  napi_value global = nullptr;
  napi_value callee = nullptr;
  if (napi_get_global(env, &global) != napi_ok) return;
  if (napi_get_reference_value(env, function, &callee) != napi_ok || callee == nullptr) return;
  // There is no async context: hooks and async-local storage make no sense for a batch of connections.
  if (napi_make_callback(env, nullptr, global, callee, count, arguments, nullptr) != napi_pending_exception) return;
  napi_value error = nullptr;
  if (napi_get_and_clear_last_exception(env, &error) == napi_ok) napi_fatal_exception(env, error);
}

// -------------------------------------------------------------------------------------------------------- box

static void box_settle(Box* box) {
  if (box->released && !box->external_alive) delete box;
}

static void box_finalize(napi_env, void* data, void*) {
  auto* box = static_cast<Box*>(data);
  box->external_alive = false;
  box_settle(box);
}

static void on_environment_end(napi_async_cleanup_hook_handle, void* data) {
  auto* box = static_cast<Box*>(data);
  box->environment_ends = true;
  if (box->object != nullptr) {
    box_close(box);
  } else if (box->released) {
    napi_remove_async_cleanup_hook(box->hook);
  }
}

napi_ref box_keep(Box* box, napi_value value) {
  napi_ref reference = nullptr;
  napi_create_reference(box->env, value, 1, &reference);
  box->references.push_back(reference);
  return reference;
}

napi_value box_open(Box* box) {
  napi_value external = nullptr;
  box->external_alive = true;
  napi_create_external(box->env, box, box_finalize, nullptr, &external);
  napi_add_async_cleanup_hook(box->env, on_environment_end, box, &box->hook);
  return external;
}

void box_close(Box* box) {
  void* object = box->object;
  box->object = nullptr;
  if (object != nullptr) box->close(object);
}

void box_released(void* data) {
  auto* box = static_cast<Box*>(data);
  box->released = true;
  if (!box->environment_ends) {
    napi_handle_scope scope;
    if (napi_open_handle_scope(box->env, &scope) == napi_ok) {
      for (napi_ref reference : box->references) napi_delete_reference(box->env, reference);
      napi_close_handle_scope(box->env, scope);
    }
  }
  box->references.clear();
  if (box->hook != nullptr) napi_remove_async_cleanup_hook(box->hook);
  box->hook = nullptr;
  box_settle(box);
}

Box* to_box(napi_env env, napi_value value) {
  void* data = nullptr;
  if (napi_get_value_external(env, value, &data) != napi_ok) return nullptr;
  return static_cast<Box*>(data);
}

}  // namespace protorelay
