// Acceptor calls.
#include <cstring>

#include "acceptor.h"
#include "addon.h"
#include "napi_values.h"

namespace protorelay {
namespace {

/** Indexes of the callbacks among the references of the box. */
constexpr size_t kOnAccept = 0;
constexpr size_t kOnError = 1;

Acceptor* to_acceptor(napi_env env, napi_value value) {
  Box* box = to_box(env, value);
  return box == nullptr ? nullptr : static_cast<Acceptor*>(box->object);
}

void tell_batch(void* owner, const std::vector<int>& fds, const std::vector<std::string>& addresses) {
  auto* box = static_cast<Box*>(owner);
  napi_handle_scope scope;
  if (napi_open_handle_scope(box->env, &scope) != napi_ok) return;
  void* memory = nullptr;
  napi_value buffer = nullptr;
  napi_value args[2] = {};
  napi_create_arraybuffer(box->env, fds.size() * sizeof(int32_t), &memory, &buffer);
  memcpy(memory, fds.data(), fds.size() * sizeof(int32_t));
  napi_create_typedarray(box->env, napi_int32_array, fds.size(), buffer, 0, &args[0]);
  napi_create_array_with_length(box->env, addresses.size(), &args[1]);
  for (uint32_t i = 0; i < addresses.size(); ++i) {
    napi_set_element(box->env, args[1], i, from_text(box->env, addresses[i]));
  }
  call_from_loop(box->env, box->references[kOnAccept], 2, args);
  napi_close_handle_scope(box->env, scope);
}

void tell_error(void* owner, int code) {
  auto* box = static_cast<Box*>(owner);
  napi_handle_scope scope;
  if (napi_open_handle_scope(box->env, &scope) != napi_ok) return;
  napi_value arg = from_number(box->env, code);
  call_from_loop(box->env, box->references[kOnError], 1, &arg);
  napi_close_handle_scope(box->env, scope);
}

ListenOptions to_listen_options(napi_env env, napi_value o) {
  ListenOptions options;
  options.host = to_text(env, property(env, o, "host"));
  options.path = to_text(env, property(env, o, "path"));
  options.port = static_cast<uint16_t>(to_uint32(env, property(env, o, "port")));
  options.backlog = to_int32(env, property(env, o, "backlog"));
  options.reuse_port = to_bool(env, property(env, o, "reusePort"));
  return options;
}

/** acceptorCreate({host, port, path, backlog, reusePort, fd, listener, batch, onAccept, onError}): acceptor, or -errno */
napi_value create(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  napi_value o = args.at[0];
  Acceptor::Options options;
  options.listen = to_listen_options(env, o);
  options.fd = to_int32(env, property(env, o, "fd"));
  options.listener = to_uint32(env, property(env, o, "listener"));
  options.batch = to_uint32(env, property(env, o, "batch"));
  if (options.batch == 0) options.batch = 1;
  uv_loop_t* loop = nullptr;
  napi_get_uv_event_loop(env, &loop);

  auto* box = new Box();
  box->env = env;
  box->close = [](void* object) { static_cast<Acceptor*>(object)->close(); };
  int error = 0;
  Acceptor* acceptor = Acceptor::create(loop, options, {tell_batch, tell_error, box_released},
                                        box, &error);
  if (acceptor == nullptr) {
    delete box;
    return from_number(env, error);
  }
  box_keep(box, property(env, o, "onAccept"));
  box_keep(box, property(env, o, "onError"));
  box->object = acceptor;
  return box_open(box);
}

/** listenOpen({host, port, path, backlog, reusePort}): descriptor, or -errno */
napi_value open(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  return from_number(env, listen_open(to_listen_options(env, args.at[0])));
}

/** listenPlace(fd): "192.0.2.1 25", "2001:db8::1 25", or the path of a Unix socket */
napi_value place(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  return from_text(env, listen_place(to_int32(env, args.at[0])));
}

/** acceptorPort(acceptor) */
napi_value port(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  Acceptor* acceptor = to_acceptor(env, args.at[0]);
  return from_number(env, acceptor == nullptr ? 0 : acceptor->port());
}

/** acceptorHandOff(acceptor, fd, reactorId, address): boolean */
napi_value hand_off(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  Acceptor* acceptor = to_acceptor(env, args.at[0]);
  return from_bool(env, acceptor != nullptr && acceptor->hand_off(to_int32(env, args.at[1]), to_int32(env, args.at[2]),
                                                                  to_text(env, args.at[3])));
}

/** acceptorRefuse(acceptor, fd, reply) */
napi_value refuse(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  Acceptor* acceptor = to_acceptor(env, args.at[0]);
  if (acceptor != nullptr) acceptor->refuse(to_int32(env, args.at[1]), to_text(env, args.at[2]));
  return nullptr;
}

/** acceptorPause(acceptor, paused) */
napi_value pause(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  Acceptor* acceptor = to_acceptor(env, args.at[0]);
  if (acceptor == nullptr) return nullptr;
  if (to_bool(env, args.at[1])) {
    acceptor->pause();
  } else {
    acceptor->resume();
  }
  return nullptr;
}

/** acceptorClose(acceptor) */
napi_value close(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  if (Box* box = to_box(env, args.at[0])) box_close(box);
  return nullptr;
}

}  // namespace

void register_acceptor(napi_env env, napi_value exports) {
  add_function(env, exports, "listenOpen", open);
  add_function(env, exports, "listenPlace", place);
  add_function(env, exports, "acceptorCreate", create);
  add_function(env, exports, "acceptorPort", port);
  add_function(env, exports, "acceptorHandOff", hand_off);
  add_function(env, exports, "acceptorRefuse", refuse);
  add_function(env, exports, "acceptorPause", pause);
  add_function(env, exports, "acceptorClose", close);
}

}  // namespace protorelay
