// Reactor calls. JavaScript holds a reactor in a Box; calls on a destroyed reactor do nothing.
#include <uv.h>

#include "addon.h"
#include "napi_values.h"
#include "reactor.h"

namespace protorelay {
namespace {

Reactor* to_reactor(napi_env env, napi_value value) {
  Box* box = to_box(env, value);
  return box == nullptr ? nullptr : static_cast<Reactor*>(box->object);
}

/** reactorCreate({arena, spillThreshold, …, events, text, ops, control, bytes, onTurn}): reactor */
napi_value create(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  napi_value o = args.at[0];
  ReactorSetup setup;
  size_t count = 0;
  Bytes accounts = to_bytes(env, property(env, o, "accounts"));
  if (accounts.length > 0 && !setup.accounts.attach(accounts.at, accounts.length)) {
    return throw_error(env, "reactor: the memory of accounts is too short");
  }
  setup.arena = to_arena(env, property(env, o, "arena"));
  setup.spill_threshold = static_cast<uint64_t>(to_number(env, property(env, o, "spillThreshold")));
  setup.max_connections = to_uint32(env, property(env, o, "maxConnections"));
  setup.max_line = to_uint32(env, property(env, o, "maxLine"));
  setup.linger_ms = to_uint32(env, property(env, o, "lingerMs"));
  setup.hold_after_verbs = to_bool(env, property(env, o, "holdAfterVerbs"));
  setup.max_handshakes = to_uint32(env, property(env, o, "maxHandshakes"));
  setup.events = to_words(env, property(env, o, "events"), &count);
  setup.event_capacity = static_cast<uint32_t>(count / kEventWords);
  Bytes text = to_bytes(env, property(env, o, "text"));
  setup.text = text.at;
  setup.text_capacity = static_cast<uint32_t>(text.length);
  setup.ops = to_words(env, property(env, o, "ops"), &count);
  setup.op_words = static_cast<uint32_t>(count);
  setup.control = to_words(env, property(env, o, "control"), &count);
  if (count < 3) setup.control = nullptr;
  Bytes bytes = to_bytes(env, property(env, o, "bytes"));
  setup.bytes = bytes.at;
  setup.byte_capacity = bytes.length;
  bool usable = setup.events != nullptr && setup.text != nullptr && setup.ops != nullptr && setup.control != nullptr &&
                setup.bytes != nullptr && setup.max_handshakes >= 1 && setup.max_connections >= 1 &&
                setup.max_connections <= kMaxConnections &&
                setup.max_line >= kLeastLine && setup.max_line <= kMaxLine && setup.text_capacity >= setup.max_line + 512;
  if (!usable) return throw_error(env, "reactor: maxConnections must be 1 to 1048576, maxLineBytes 64 to 16384");

  auto* box = new Box();
  box->env = env;
  box->close = [](void* object) { static_cast<Reactor*>(object)->destroy(); };
  for (const char* name : {"arena", "accounts", "events", "text", "ops", "control", "bytes"}) {
    box_keep(box, property(env, o, name));
  }
  napi_ref on_turn = box_keep(box, property(env, o, "onTurn"));
  int error = 0;
  Reactor* reactor = Reactor::create(env, on_turn, setup, box, box_released, &error);
  if (reactor == nullptr) {
    box_released(box);
    return throw_error(env, uv_strerror(error));
  }
  box->object = reactor;
  return box_open(box);
}

/** reactorId(reactor) */
napi_value id(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  Reactor* reactor = to_reactor(env, args.at[0]);
  return from_number(env, reactor == nullptr ? -1 : reactor->id());
}

/** reactorFlush(reactor) */
napi_value flush(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  if (Reactor* reactor = to_reactor(env, args.at[0])) reactor->flush();
  return nullptr;
}

/**
 * reactorUseBytes(reactor, buffer): replaces the byte area by a larger one for a large send. The ring must be empty.
 */
napi_value use_bytes(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  Box* box = to_box(env, args.at[0]);
  if (box == nullptr || box->object == nullptr) return nullptr;
  Bytes bytes = to_bytes(env, args.at[1]);
  box_keep(box, args.at[1]);
  static_cast<Reactor*>(box->object)->use_bytes(bytes.at, bytes.length);
  return nullptr;
}

/**
 * reactorConnect(reactor, address, port, source, timeoutMs, kind?, request?, credentials?): connection id, or -1. kind is a
 * HopKind.
 */
napi_value connect(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  Reactor* reactor = to_reactor(env, args.at[0]);
  if (reactor == nullptr) return from_number(env, -1);
  HopSetup hop;
  if (args.count > 5) {
    hop.kind = static_cast<HopKind>(to_uint32(env, args.at[5]));
    Bytes request = to_bytes(env, args.at[6]);
    Bytes credentials = to_bytes(env, args.at[7]);
    hop.request.assign(reinterpret_cast<const char*>(request.at), request.length);
    hop.credentials.assign(reinterpret_cast<const char*>(credentials.at), credentials.length);
  }
  int64_t connection = reactor->connect(to_text(env, args.at[1]), static_cast<uint16_t>(to_uint32(env, args.at[2])),
                                        to_text(env, args.at[3]), to_uint32(env, args.at[4]), hop);
  return from_number(env, static_cast<double>(connection));
}

/** reactorConnections(reactor) */
napi_value connections(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  Reactor* reactor = to_reactor(env, args.at[0]);
  return from_number(env, reactor == nullptr ? 0 : reactor->connections());
}

/** reactorDestroy(reactor) */
napi_value destroy(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  if (Box* box = to_box(env, args.at[0])) box_close(box);
  return nullptr;
}

/** reactorLoad(id) */
napi_value load(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  return from_number(env, registry_load(to_int32(env, args.at[0])));
}

}  // namespace

void register_reactor(napi_env env, napi_value exports) {
  napi_value limits = nullptr;
  napi_create_object(env, &limits);
  napi_set_named_property(env, limits, "maxConnections", from_number(env, kMaxConnections));
  napi_set_named_property(env, limits, "minLineBytes", from_number(env, kLeastLine));
  napi_set_named_property(env, limits, "maxLineBytes", from_number(env, kMaxLine));
  napi_set_named_property(env, exports, "limits", limits);
  add_function(env, exports, "reactorCreate", create);
  add_function(env, exports, "reactorId", id);
  add_function(env, exports, "reactorFlush", flush);
  add_function(env, exports, "reactorUseBytes", use_bytes);
  add_function(env, exports, "reactorConnect", connect);
  add_function(env, exports, "reactorConnections", connections);
  add_function(env, exports, "reactorDestroy", destroy);
  add_function(env, exports, "reactorLoad", load);
}

}  // namespace protorelay
