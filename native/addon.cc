// Registration: every function that src/native.ts calls.
#include <node_api.h>

#include "addon.h"
#include "napi_values.h"

namespace protorelay {
namespace {

napi_value build_info(napi_env env, napi_callback_info) {
  napi_value info = nullptr;
  napi_create_object(env, &info);
#if defined(__clang__)
  std::string compiler = "clang " __clang_version__;
#else
  std::string compiler = "gcc " __VERSION__;
#endif
#if defined(PROTORELAY_SANITIZE)
  std::string sanitizer = "address,undefined";
#else
  std::string sanitizer;
#endif
  napi_set_named_property(env, info, "compiler", from_text(env, compiler));
  napi_set_named_property(env, info, "sanitizer", from_text(env, sanitizer));
  return info;
}

}  // namespace
}  // namespace protorelay

NAPI_MODULE_INIT(/* napi_env env, napi_value exports */) {
  protorelay::add_function(env, exports, "buildInfo", protorelay::build_info);
  protorelay::register_arena(env, exports);
  protorelay::register_reactor(env, exports);
  protorelay::register_acceptor(env, exports);
  protorelay::register_pure(env, exports);
  protorelay::register_host(env, exports);
  protorelay::register_tls(env, exports);
  protorelay::register_pam(env, exports);
  protorelay::register_dkim(env, exports);
  return exports;
}
