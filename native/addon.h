// The parts of the addon that register themselves.
#pragma once
#include <node_api.h>

#include "arena.h"

namespace protorelay {

void register_arena(napi_env env, napi_value exports);
void register_reactor(napi_env env, napi_value exports);
void register_acceptor(napi_env env, napi_value exports);
void register_pure(napi_env env, napi_value exports);
void register_host(napi_env env, napi_value exports);
void register_tls(napi_env env, napi_value exports);
void register_pam(napi_env env, napi_value exports);
void register_dkim(napi_env env, napi_value exports);

/** The arena behind an external made by arenaCreate or arenaAttach; it lives as long as the external. */
Arena* to_arena(napi_env env, napi_value value);

}  // namespace protorelay
