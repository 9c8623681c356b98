// Finds where a PROXY protocol header (version 1 or 2) ends; src/protocol/proxy-header.ts reads what is in it.
#pragma once
#include <cstddef>
#include <cstdint>

namespace protorelay {

/** Longest header accepted. Version 1 has at most 107 bytes; version 2 allows more than anybody sends. */
constexpr size_t kMaxProxyHeader = 1000;

/** Length of the header when it is whole; 0 when more bytes are needed; -1 when this is no header. */
int proxy_extent(const uint8_t* bytes, size_t count);

}  // namespace protorelay
