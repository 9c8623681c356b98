// Splits command and reply lines from bytes. Pure: no sockets, no memory of its own; twin of src/protocol/scan.ts.
#pragma once
#include <cstddef>
#include <cstdint>

namespace protorelay {

/** LINE_FLAG of src/native.ts. */
constexpr uint8_t kLineBareLf = 1;
constexpr uint8_t kLineTooLong = 2;
constexpr uint8_t kLineNul = 4;
constexpr uint8_t kLineEightBit = 8;
constexpr uint8_t kLineBareCr = 16;

struct Line {
  /** Length of the line without its end, cut to the limit. */
  size_t length;
  /** How many bytes were read, the line end included; 0 when there was no line end. */
  size_t consumed;
  uint8_t flags;
};

/**
 * Finds the first line in from[0, count). A line ends at LF; without CR before it, it is flagged. A line longer
 * than max bytes (its end not counted) is cut and flagged.
 */
Line scan_line(const uint8_t* from, size_t count, size_t max);

/** The flags for NUL, eight-bit bytes and bare CR, for bytes that hold no line end. */
uint8_t line_flags(const uint8_t* from, size_t count);

/** Whether the line starts with a verb after which bytes may no longer be command lines: DATA, BDAT, STARTTLS, AUTH. */
bool changes_reading(const uint8_t* line, size_t length);

}  // namespace protorelay
