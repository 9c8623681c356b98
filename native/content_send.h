// Turns content into bytes for the wire: stuffs dots, adds a missing last CRLF, and ends with CRLF "." CRLF.
//
// Pure: no sockets; the caller fetches bytes and writes pieces. Content is never copied: a plan is a list of ranges of
// the content, with dots between them.
//
// A line begins at the start and after CRLF, nowhere else (RFC 5321 §4.5.2). After a bare LF no dot is stuffed: a
// strict receiver would keep it, and the content would change. This is safe because bare CR and LF are refused or
// normalized when a message is accepted. The exception, BINARYMIME, is only ever sent with BDAT, where only its
// length ends the content.
#pragma once
#include <cstddef>
#include <cstdint>

namespace protorelay {

/** Index of the first dot in from[0, count) that begins a line; count when there is none. */
size_t find_line_dot(const uint8_t* from, size_t count, uint8_t line);

/** Where a position is, by the bytes before it: within a line, after a CR, or at the start of a line. */
constexpr uint8_t kInLine = 0;
constexpr uint8_t kAfterCr = 1;
constexpr uint8_t kAtLineStart = 2;
uint8_t line_position(uint8_t before, const uint8_t* from, size_t count);

struct Piece {
  const uint8_t* from;
  size_t length;
  enum Kind : uint8_t { kContent, kDot, kEnd } kind;
};

constexpr size_t kMaxPieces = 64;
constexpr size_t kMaxPlanBytes = 262144;

/** How far one content was sent. */
class ContentCursor {
 public:
  void begin(uint64_t total, bool dot_stuffed);

  /** Position of the next byte of content to send. */
  uint64_t offset() const { return offset_; }
  bool done() const { return offset_ == total_ && (!stuffed_ || end_at_ == 5); }

  /**
   * Plans the next pieces, and returns their number. fetch(at, &from) returns how many bytes there are at position `at`
   * (0: no more in this plan), and must keep them until the plan is written.
   */
  template <typename Fetch>
  size_t plan(Piece* pieces, Fetch fetch) const {
    size_t count = 0;
    size_t bytes = 0;
    uint64_t at = offset_;
    uint8_t line = line_;
    bool dotted = dotted_;
    while (at < total_ && count < kMaxPieces - 2 && bytes < kMaxPlanBytes) {
      const uint8_t* from = nullptr;
      size_t length = fetch(at, &from);
      if (length == 0) return count;
      if (length > total_ - at) length = static_cast<size_t>(total_ - at);
      at += plan_range(from, length, pieces, &count, &line, &dotted);
      bytes += length;
    }
    if (at == total_ && stuffed_ && count < kMaxPieces) {
      uint8_t start = end_at_ != kEndUnset ? end_at_ : line == kAtLineStart ? 2 : 0;
      pieces[count++] = {kEndBytes + start, static_cast<size_t>(5 - start), Piece::kEnd};
    }
    return count;
  }

  /** Says that `written` bytes of these pieces went out. */
  void advance(const Piece* pieces, size_t count, size_t written);

 private:
  static constexpr uint8_t kEndUnset = 255;
  static const uint8_t kEndBytes[5];

  size_t plan_range(const uint8_t* from, size_t length, Piece* pieces, size_t* count, uint8_t* line,
                    bool* dotted) const;

  uint64_t total_ = 0;
  uint64_t offset_ = 0;
  bool stuffed_ = true;
  uint8_t line_ = kAtLineStart;
  /** The dot before the byte at offset_ went out already. */
  bool dotted_ = false;
  /** How many bytes of CRLF "." CRLF were sent, or are not needed. */
  uint8_t end_at_ = kEndUnset;
};

}  // namespace protorelay
