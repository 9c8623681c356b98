#include "proxy_header.h"

#include <cstring>

namespace protorelay {
namespace {

constexpr size_t kMaxV1 = 107;
constexpr size_t kV2Fixed = 16;
constexpr uint8_t kV1Start[] = {'P', 'R', 'O', 'X', 'Y', ' '};
constexpr uint8_t kV2Start[] = {'\r', '\n', '\r', '\n', 0, '\r', '\n', 'Q', 'U', 'I', 'T', '\n'};

bool begins(const uint8_t* bytes, size_t count, const uint8_t* start, size_t length) {
  return memcmp(bytes, start, count < length ? count : length) == 0;
}

int extent_v1(const uint8_t* bytes, size_t count) {
  size_t within = count < kMaxV1 ? count : kMaxV1;
  const auto* end = static_cast<const uint8_t*>(memchr(bytes, '\n', within));
  if (end == nullptr) return count < kMaxV1 ? 0 : -1;
  return end[-1] == '\r' ? static_cast<int>(end - bytes) + 1 : -1;
}

int extent_v2(const uint8_t* bytes, size_t count) {
  if (count > sizeof kV2Start && bytes[sizeof kV2Start] >> 4 != 2) return -1;
  if (count < kV2Fixed) return 0;
  size_t length = kV2Fixed + (size_t{bytes[14]} << 8 | bytes[15]);
  if (length > kMaxProxyHeader) return -1;
  return count < length ? 0 : static_cast<int>(length);
}

}  // namespace

int proxy_extent(const uint8_t* bytes, size_t count) {
  if (count == 0) return 0;
  if (begins(bytes, count, kV1Start, sizeof kV1Start)) return extent_v1(bytes, count);
  if (begins(bytes, count, kV2Start, sizeof kV2Start)) return extent_v2(bytes, count);
  return -1;
}

}  // namespace protorelay
