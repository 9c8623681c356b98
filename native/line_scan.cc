#include "line_scan.h"

#include <cstring>

namespace protorelay {
namespace {

bool verb_is(const uint8_t* line, size_t length, const char* verb, size_t verb_length) {
  if (length < verb_length) return false;
  for (size_t i = 0; i < verb_length; ++i) {
    uint8_t c = line[i];
    if (c >= 'a' && c <= 'z') c = static_cast<uint8_t>(c - 32);
    if (c != static_cast<uint8_t>(verb[i])) return false;
  }
  // Any byte that cannot be part of a verb ends it: the parser may take a tab or a NUL for a separator.
  if (length == verb_length) return true;
  uint8_t next = line[verb_length];
  bool letter = (next >= 'a' && next <= 'z') || (next >= 'A' && next <= 'Z') || (next >= '0' && next <= '9');
  return !letter;
}

}  // namespace

uint8_t line_flags(const uint8_t* from, size_t count) {
  uint8_t flags = 0;
  for (size_t i = 0; i < count; ++i) {
    uint8_t c = from[i];
    if (c & 0x80) flags |= kLineEightBit;
    if (c == 0) flags |= kLineNul;
    if (c == '\r') flags |= kLineBareCr;
  }
  return flags;
}

Line scan_line(const uint8_t* from, size_t count, size_t max) {
  if (count == 0) return {0, 0, 0};
  const auto* end = static_cast<const uint8_t*>(memchr(from, '\n', count));
  if (end == nullptr) return {0, 0, 0};
  size_t length = static_cast<size_t>(end - from);
  size_t consumed = length + 1;
  uint8_t flags = 0;
  if (length > 0 && from[length - 1] == '\r') {
    --length;
  } else {
    flags |= kLineBareLf;
  }
  if (length > max) {
    length = max;
    flags |= kLineTooLong;
  }
  flags = static_cast<uint8_t>(flags | line_flags(from, length));
  return {length, consumed, flags};
}

bool changes_reading(const uint8_t* line, size_t length) {
  if (length < 4) return false;
  switch (line[0] | 0x20) {
    case 'd':
      return verb_is(line, length, "DATA", 4);
    case 'b':
      return verb_is(line, length, "BDAT", 4);
    case 's':
      return verb_is(line, length, "STARTTLS", 8);
    case 'a':
      return verb_is(line, length, "AUTH", 4);
    default:
      return false;
  }
}

}  // namespace protorelay
