// DKIM: keys, and signers that sign on threads of their own.
#include <algorithm>

#include "addon.h"
#include "body_hashes.h"
#include "dkim_canon.h"
#include "dkim_key.h"
#include "napi_values.h"
#include "signing_pool.h"

namespace protorelay {
namespace {

Signer* to_signer(napi_env env, napi_value value) {
  Box* box = to_box(env, value);
  return box == nullptr ? nullptr : static_cast<Signer*>(box->object);
}

uint32_t length_of(napi_env env, napi_value array) {
  uint32_t length = 0;
  return napi_get_array_length(env, array, &length) == napi_ok ? length : 0;
}

napi_value element(napi_env env, napi_value array, uint32_t index) {
  napi_value item = nullptr;
  if (napi_get_element(env, array, index, &item) != napi_ok) napi_get_undefined(env, &item);
  return item;
}

/** dkimKeyOpen(pem, domain, selector): number of its slot; 0: this is no RSA or Ed25519 key in PEM without a passphrase */
napi_value key_open(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  auto key = dkim_key_parse(to_text(env, args.at[0]), to_text(env, args.at[1]), to_text(env, args.at[2]));
  return from_number(env, key == nullptr ? 0 : dkim_key_open(std::move(key)));
}

/** dkimKeyClose(slot): jobs that have the key sign with it still */
napi_value key_close(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  dkim_key_close(to_uint32(env, args.at[0]));
  return nullptr;
}

/** Gives the results as one array: ticket, fields, fault, ticket … */
void tell_done(void* owner, const std::vector<Signed>& done) {
  auto* box = static_cast<Box*>(owner);
  napi_handle_scope scope;
  if (napi_open_handle_scope(box->env, &scope) != napi_ok) return;
  napi_value list = nullptr;
  napi_create_array_with_length(box->env, 3 * done.size(), &list);
  uint32_t at = 0;
  for (const Signed& one : done) {
    napi_value fields = nullptr;
    napi_create_string_latin1(box->env, one.fields.data(), one.fields.size(), &fields);
    napi_set_element(box->env, list, at++, from_number(box->env, one.ticket));
    napi_set_element(box->env, list, at++, fields);
    napi_set_element(box->env, list, at++, from_text(box->env, one.fault));
  }
  call_from_loop(box->env, box->references.back(), 1, &list);
  napi_close_handle_scope(box->env, scope);
}

/** signerCreate(arena, onDone): signer */
napi_value create(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  uv_loop_t* loop = nullptr;
  napi_get_uv_event_loop(env, &loop);
  auto* box = new Box();
  box->env = env;
  box->close = [](void* object) { static_cast<Signer*>(object)->close(); };
  Signer* signer = Signer::create(loop, to_arena(env, args.at[0]), {tell_done, box_released}, box);
  if (signer == nullptr) {
    delete box;
    return throw_error(env, "signer: libuv has no handle left");
  }
  box_keep(box, args.at[0]);
  box_keep(box, args.at[1]);
  box->object = signer;
  return box_open(box);
}

void finalize_rules(napi_env, void* data, void*) { delete static_cast<std::shared_ptr<const DkimRules>*>(data); }

/** dkimRules(names, oversigned): rules; `oversigned` has the index of each name that is to be named once more */
napi_value rules(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  auto made = std::make_shared<DkimRules>();
  for (uint32_t i = 0; i < length_of(env, args.at[0]); ++i) made->names.push_back({to_text(env, element(env, args.at[0], i))});
  for (uint32_t i = 0; i < length_of(env, args.at[1]); ++i) {
    uint32_t index = to_uint32(env, element(env, args.at[1], i));
    if (index < made->names.size()) made->names[index].oversigned = true;
  }
  napi_value external = nullptr;
  napi_create_external(env, new std::shared_ptr<const DkimRules>(std::move(made)), finalize_rules, nullptr, &external);
  return external;
}

/** signerAdd(signer, ticket, content, before, slots, rules, signedAt, expiresAt): false, and nothing happens, when a slot is closed */
napi_value add(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  Signer* signer = to_signer(env, args.at[0]);
  SigningJob job;
  job.ticket = to_uint32(env, args.at[1]);
  job.content = to_uint32(env, args.at[2]);
  job.before = to_text(env, args.at[3]);
  for (uint32_t i = 0; i < length_of(env, args.at[4]); ++i) {
    job.keys.push_back(dkim_key_at(to_uint32(env, element(env, args.at[4], i))));
    if (job.keys.back() == nullptr) return from_bool(env, false);
  }
  void* data = nullptr;
  napi_get_value_external(env, args.at[5], &data);
  if (signer == nullptr || data == nullptr) return from_bool(env, false);
  job.rules = *static_cast<std::shared_ptr<const DkimRules>*>(data);
  job.times.signed_at = static_cast<uint64_t>(to_number(env, args.at[6]));
  job.times.expires_at = static_cast<uint64_t>(to_number(env, args.at[7]));
  signer->add(std::move(job));
  return from_bool(env, true);
}

/** signerFlush(signer): begins what was added */
napi_value flush(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  if (Signer* signer = to_signer(env, args.at[0])) signer->flush();
  return nullptr;
}

/** signerClose(signer): waits for jobs that a thread has begun, drops the others */
napi_value close(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  if (Box* box = to_box(env, args.at[0])) box_close(box);
  return nullptr;
}

/** signingThreads(count): 0: as many as there are processors */
napi_value threads(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  signing_threads(to_uint32(env, args.at[0]));
  return nullptr;
}

/** bodyHashesComputed(): since the process began */
napi_value hashes(napi_env env, napi_callback_info) {
  return from_number(env, static_cast<double>(body_hashes_computed()));
}

/** relaxedForms(content, pieceBytes): { header, body }, for the test that compares them with other implementations */
napi_value relaxed(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  Bytes content = to_bytes(env, args.at[0]);
  size_t piece = std::max<size_t>(to_uint32(env, args.at[1]), 1);
  std::string_view text(reinterpret_cast<const char*>(content.at), content.length);
  HeaderEnd end = {text.size(), text.size()};
  size_t from = 0;
  for (size_t read = 0; read < text.size();) {
    read = std::min(read + piece, text.size());
    if (find_header_end(text.substr(0, read), &from, &end)) break;
  }
  std::vector<HeaderField> fields;
  split_fields(text.substr(0, end.header), &fields);
  std::string header;
  for (const HeaderField& field : fields) {
    relax_field(field, &header);
    header.append("\r\n");
  }
  std::string body;
  RelaxedBody relaxed_body(
      [](void* to, const uint8_t* at, size_t count) {
        static_cast<std::string*>(to)->append(reinterpret_cast<const char*>(at), count);
      },
      &body);
  for (size_t at = end.body; at < content.length; at += piece) {
    relaxed_body.feed(content.at + at, std::min(piece, content.length - at));
  }
  relaxed_body.finish();
  napi_value result = nullptr;
  napi_create_object(env, &result);
  napi_value buffer = nullptr;
  napi_create_buffer_copy(env, header.size(), header.data(), nullptr, &buffer);
  napi_set_named_property(env, result, "header", buffer);
  napi_create_buffer_copy(env, body.size(), body.data(), nullptr, &buffer);
  napi_set_named_property(env, result, "body", buffer);
  return result;
}

}  // namespace

void register_dkim(napi_env env, napi_value exports) {
  add_function(env, exports, "dkimKeyOpen", key_open);
  add_function(env, exports, "dkimKeyClose", key_close);
  add_function(env, exports, "dkimRules", rules);
  add_function(env, exports, "signerCreate", create);
  add_function(env, exports, "signerAdd", add);
  add_function(env, exports, "signerFlush", flush);
  add_function(env, exports, "signerClose", close);
  add_function(env, exports, "signingThreads", threads);
  add_function(env, exports, "bodyHashesComputed", hashes);
  add_function(env, exports, "relaxedForms", relaxed);
}

}  // namespace protorelay
