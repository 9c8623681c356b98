// The pure functions, exposed so that a test can run them and their TypeScript twins on the same input.
#include <cstring>
#include <vector>

#include "addon.h"
#include "content_scan.h"
#include "content_send.h"
#include "line_scan.h"
#include "napi_values.h"
#include "proxy_header.h"

namespace protorelay {
namespace {

napi_value new_buffer(napi_env env, const std::vector<uint8_t>& bytes) {
  napi_value buffer = nullptr;
  napi_create_buffer_copy(env, bytes.size(), bytes.data(), nullptr, &buffer);
  return buffer;
}

void set(napi_env env, napi_value object, const char* name, napi_value value) {
  napi_set_named_property(env, object, name, value);
}

/** scanContent(input, pieceBytes, dots, normalize, maxLineBytes): { content, consumed, flags, trace, messageIdAt, contentTypeAt, marked, ended } */
napi_value scan_content(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  Bytes input = to_bytes(env, args.at[0]);
  size_t piece = to_uint32(env, args.at[1]);
  if (piece == 0) piece = input.length + 1;
  bool normalize = to_bool(env, args.at[3]);
  ContentScan scan;
  scan.begin(to_bool(env, args.at[2]), normalize, to_uint32(env, args.at[4]));
  std::vector<uint8_t> output;
  std::vector<uint8_t> space(2 * piece + 4);
  size_t at = 0;
  while (at < input.length && !scan.ended()) {
    size_t count = input.length - at < piece ? input.length - at : piece;
    size_t written = 0;
    const uint8_t* from = input.at + at;
    if (!normalize) {
      // As in the reactor: read behind the held bytes, and unstuff in place.
      uint8_t* behind = space.data() + scan.held();
      memcpy(behind, from, count);
      from = behind;
    }
    at += scan.feed(from, count, space.data(), &written);
    output.insert(output.end(), space.data(), space.data() + written);
  }
  if (!to_bool(env, args.at[2])) {
    uint8_t tail[2];
    size_t more = scan.finish(tail);
    output.insert(output.end(), tail, tail + more);
  }
  napi_value result = nullptr;
  napi_create_object(env, &result);
  set(env, result, "content", new_buffer(env, output));
  set(env, result, "consumed", from_number(env, static_cast<double>(at)));
  set(env, result, "flags", from_number(env, scan.flags()));
  set(env, result, "trace", from_number(env, scan.trace_count()));
  set(env, result, "messageIdAt", from_number(env, scan.field_at(kMessageId)));
  set(env, result, "contentTypeAt", from_number(env, scan.field_at(kContentType)));
  set(env, result, "marked", from_bool(env, scan.marked()));
  set(env, result, "ended", from_bool(env, scan.ended()));
  return result;
}

/** stuffContent(content, pieceBytes, writtenBytes): the bytes for the wire, fetched and written in pieces of these sizes. */
napi_value stuff_content(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  Bytes content = to_bytes(env, args.at[0]);
  size_t piece = to_uint32(env, args.at[1]);
  size_t step = to_uint32(env, args.at[2]);
  std::vector<uint8_t> output;
  ContentCursor cursor;
  cursor.begin(content.length, true);
  while (!cursor.done()) {
    Piece plan[kMaxPieces];
    size_t count = cursor.plan(plan, [&](uint64_t at, const uint8_t** from) {
      *from = content.at + at;
      size_t rest = content.length - static_cast<size_t>(at);
      return piece != 0 && piece < rest ? piece : rest;
    });
    size_t left = step == 0 ? SIZE_MAX : step;
    size_t written = 0;
    for (size_t i = 0; i < count && left > 0; ++i) {
      size_t take = plan[i].length < left ? plan[i].length : left;
      output.insert(output.end(), plan[i].from, plan[i].from + take);
      left -= take;
      written += take;
    }
    cursor.advance(plan, count, written);
  }
  return new_buffer(env, output);
}

/** scanLine(input, maxLineBytes): { length, consumed, flags, changesReading } */
napi_value scan_line_call(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  Bytes input = to_bytes(env, args.at[0]);
  Line line = scan_line(input.at, input.length, to_uint32(env, args.at[1]));
  napi_value result = nullptr;
  napi_create_object(env, &result);
  set(env, result, "length", from_number(env, static_cast<double>(line.length)));
  set(env, result, "consumed", from_number(env, static_cast<double>(line.consumed)));
  set(env, result, "flags", from_number(env, line.flags));
  set(env, result, "changesReading", from_bool(env, changes_reading(input.at, line.length)));
  return result;
}

/** proxyExtent(input): length of the PROXY header; 0 when more bytes are needed; -1 when this is no such header. */
napi_value proxy_extent_call(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  Bytes input = to_bytes(env, args.at[0]);
  return from_number(env, proxy_extent(input.at, input.length));
}

}  // namespace

void register_pure(napi_env env, napi_value exports) {
  add_function(env, exports, "scanContent", scan_content);
  add_function(env, exports, "stuffContent", stuff_content);
  add_function(env, exports, "scanLine", scan_line_call);
  add_function(env, exports, "proxyExtent", proxy_extent_call);
}

}  // namespace protorelay
