// TLS contexts and certificates.
#include "addon.h"
#include "napi_values.h"
#include "tls_certificate.h"
#include "tls_context.h"

namespace protorelay {
namespace {

template <typename Each>
void for_each(napi_env env, napi_value array, Each each) {
  uint32_t length = 0;
  if (napi_get_array_length(env, array, &length) != napi_ok) return;
  for (uint32_t i = 0; i < length; ++i) {
    napi_value item = nullptr;
    if (napi_get_element(env, array, i, &item) == napi_ok) each(item);
  }
}

std::vector<std::string> to_texts(napi_env env, napi_value array) {
  std::vector<std::string> texts;
  for_each(env, array, [&](napi_value item) { texts.push_back(to_text(env, item)); });
  return texts;
}

/** tlsSlot(): number of a new, empty slot */
napi_value slot(napi_env env, napi_callback_info) { return from_number(env, tls_slot_open()); }

/**
 * tlsConfigure(slot, {server, certificates: [{chain, key}], groups: [{certificates, names}], minVersion, ciphers,
 * ciphersuites, ca, crl, caLater, namesCa, ticketSecret, sessionSeconds, resumption}): '', or what is wrong (then the slot
 * stays as it was)
 */
napi_value configure(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  napi_value o = args.at[1];
  TlsSetup setup;
  setup.server = to_bool(env, property(env, o, "server"));
  for_each(env, property(env, o, "certificates"), [&](napi_value item) {
    setup.certificates.push_back({to_text(env, property(env, item, "chain")), to_text(env, property(env, item, "key"))});
  });
  for_each(env, property(env, o, "groups"), [&](napi_value item) {
    TlsGroup group;
    for_each(env, property(env, item, "certificates"),
             [&](napi_value index) { group.certificates.push_back(to_uint32(env, index)); });
    group.names = to_texts(env, property(env, item, "names"));
    setup.groups.push_back(group);
  });
  setup.min_version = to_text(env, property(env, o, "minVersion"));
  setup.ciphers = to_text(env, property(env, o, "ciphers"));
  setup.ciphersuites = to_text(env, property(env, o, "ciphersuites"));
  setup.ca = to_text(env, property(env, o, "ca"));
  setup.crl = to_text(env, property(env, o, "crl"));
  setup.ca_later = to_bool(env, property(env, o, "caLater"));
  setup.names_ca = to_bool(env, property(env, o, "namesCa"));
  Bytes secret = to_bytes(env, property(env, o, "ticketSecret"));
  setup.ticket_secret.assign(reinterpret_cast<const char*>(secret.at), secret.length);
  setup.session_seconds = to_uint32(env, property(env, o, "sessionSeconds"));
  std::string resumption = to_text(env, property(env, o, "resumption"));
  setup.resumption = resumption == "none"    ? TlsResumption::kNone
                     : resumption == "light" ? TlsResumption::kLight
                                             : TlsResumption::kFull;
  std::string error;
  std::shared_ptr<TlsContext> context = TlsContext::create(setup, &error);
  if (context != nullptr) tls_slot_set(to_int32(env, args.at[0]), std::move(context));
  return from_text(env, error);
}

/** tlsClear(slot): connections that begin after this get no TLS */
napi_value clear(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  tls_slot_set(to_int32(env, args.at[0]), nullptr);
  return nullptr;
}

/** tlsSelfSigned(names, days, rsa): {certificate, key}, or null */
napi_value self_signed(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  SelfSigned made;
  napi_value result = nullptr;
  if (!make_self_signed(to_texts(env, args.at[0]), to_uint32(env, args.at[1]), to_bool(env, args.at[2]), &made)) {
    napi_get_null(env, &result);
    return result;
  }
  napi_create_object(env, &result);
  napi_set_named_property(env, result, "certificate", from_text(env, made.certificate));
  napi_set_named_property(env, result, "key", from_text(env, made.key));
  return result;
}

}  // namespace

void register_tls(napi_env env, napi_value exports) {
  add_function(env, exports, "tlsSlot", slot);
  add_function(env, exports, "tlsConfigure", configure);
  add_function(env, exports, "tlsClear", clear);
  add_function(env, exports, "tlsSelfSigned", self_signed);
}

}  // namespace protorelay
