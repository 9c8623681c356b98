// Reads message content in one pass: unstuffs dots, finds the strict end of data, notes flags, counts trace headers, and
// finds where Message-ID and Content-Type stand, and whether there are fields of our own (X-ProtoRelay-…).
//
// Pure: no sockets, no memory of its own; twin of src/protocol/scan.ts. The state lives in the object, so input may
// be split at any byte.
//
// Only CRLF begins a line (RFC 5321 §2.3.8) and only CRLF "." CRLF (or "." CRLF at the very start) ends the content
// (§4.1.1.4). A dot after a bare LF or a bare CR is text: who treats it as the start of a line lets messages be
// smuggled inside others. With `normalize` a bare CR or LF is written as CRLF, but a dot behind it is still text: to
// the sender these bytes were no line end, so nothing was stuffed there, and nothing may be unstuffed or ended.
#pragma once
#include <cstddef>
#include <cstdint>

namespace protorelay {

/** CONTENT_FLAG of src/native.ts; the last three are set by the gatherer. */
constexpr uint8_t kBareLf = 1;
constexpr uint8_t kBareCr = 2;
constexpr uint8_t kNul = 4;
constexpr uint8_t kEightBit = 8;
constexpr uint8_t kTooBig = 16;
constexpr uint8_t kContentLineTooLong = 32;
constexpr uint8_t kNoMemory = 64;
constexpr uint8_t kSpillFailed = 128;

/** FIELD of src/native/contract.ts. */
constexpr uint32_t kMessageId = 0;
constexpr uint32_t kContentType = 1;
constexpr uint32_t kNoField = 1;

class ContentScan {
 public:
  /**
   * dots: true for DATA (unstuff, look for the end); false for BDAT (exact bytes, which the caller counts).
   * max_line: longest line with its CRLF, without the stuffed dot; 0: no limit.
   */
  void begin(bool dots, bool normalize, uint32_t max_line);

  /** Number of bytes read earlier that the next feed may still write before its own output. */
  size_t held() const { return state_ == kDotCr || (normalize_ && state_ == kCr) ? 1 : 0; }

  /**
   * Reads from[0, count) and writes content to `to`: at most count + held() bytes, with normalize 2 * count + 2.
   * Without normalize `from` may lie in the same memory when from >= to + held().
   * Returns the bytes read: fewer than count only when the end of data was found (then ended() is true).
   */
  size_t feed(const uint8_t* from, size_t count, uint8_t* to, size_t* written);

  /** To be called when the last BDAT chunk is over: writes a CR that was held, at most 2 bytes. */
  size_t finish(uint8_t* to);

  bool ended() const { return ended_; }
  uint8_t flags() const { return flags_; }
  /** Number of `Received:` fields before the first empty line. */
  uint32_t trace_count() const { return trace_; }
  /** Where in the content the value of the first such field begins; kNoField when there is none before the first empty line. */
  uint32_t field_at(uint32_t field) const { return fields_[field]; }
  /** Whether the name of a field before the first empty line begins with "X-ProtoRelay-". */
  bool marked() const { return marked_; }
  bool normalizes() const { return normalize_; }

 private:
  enum State : uint8_t { kLineStart, kDot, kDotCr, kText, kCr };

  size_t scan(const uint8_t* from, size_t count, uint8_t* to, size_t* written);
  void line_end();
  void text(const uint8_t* from, size_t count, uint64_t at);
  void found(uint64_t at);

  State state_ = kLineStart;
  bool dots_ = true;
  bool normalize_ = false;
  bool in_header_ = true;
  bool ended_ = false;
  bool marked_ = false;
  /** How many characters of the field's name this line has matched; kNoMatch when it is another field. */
  uint8_t match_ = 0;
  uint8_t field_ = 0;
  uint8_t flags_ = 0;
  uint32_t max_line_ = 0;
  uint32_t trace_ = 0;
  uint32_t fields_[2] = {kNoField, kNoField};
  /** Bytes of text on this line so far. */
  uint64_t column_ = 0;
  /** Bytes of content written by earlier feeds. */
  uint64_t produced_ = 0;
};

}  // namespace protorelay
