// Where a PROXY protocol header ends, versions 1 and 2; what is in it is read in src/protocol/proxy-header.ts.
#pragma once
#include <cstddef>
#include <cstdint>

namespace protorelay {

/** Longest header taken. Version 1 has at most 107 bytes; version 2 may carry more than anybody sends. */
constexpr size_t kMaxProxyHeader = 1000;

/** Length of the header when it is whole; 0 when more is needed; -1 when this is none. */
int proxy_extent(const uint8_t* bytes, size_t count);

}  // namespace protorelay
