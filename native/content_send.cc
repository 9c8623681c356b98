#include "content_send.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace protorelay {
namespace {
const uint8_t kDotByte[1] = {'.'};
}

const uint8_t ContentCursor::kEndBytes[5] = {'\r', '\n', '.', '\r', '\n'};

size_t find_line_dot(const uint8_t* from, size_t count, uint8_t line) {
  if (count == 0) return 0;
  if (from[0] == '.' && line == kAtLineStart) return 0;
  if (count > 1 && from[1] == '.' && from[0] == '\n' && line == kAfterCr) return 1;
  size_t i = 2;
#if defined(__SSE2__)
  const __m128i cr = _mm_set1_epi8('\r');
  const __m128i lf = _mm_set1_epi8('\n');
  const __m128i dot = _mm_set1_epi8('.');
  for (; i + 16 <= count; i += 16) {
    __m128i c = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i));
    __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i - 1));
    __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i - 2));
    __m128i hit =
        _mm_and_si128(_mm_cmpeq_epi8(c, dot), _mm_and_si128(_mm_cmpeq_epi8(b, lf), _mm_cmpeq_epi8(a, cr)));
    unsigned mask = static_cast<unsigned>(_mm_movemask_epi8(hit));
    if (mask != 0) return i + static_cast<size_t>(__builtin_ctz(mask));
  }
#endif
  for (; i < count; ++i) {
    if (from[i] == '.' && from[i - 1] == '\n' && from[i - 2] == '\r') return i;
  }
  return count;
}

uint8_t line_position(uint8_t before, const uint8_t* from, size_t count) {
  if (count == 0) return before;
  uint8_t last = from[count - 1];
  if (last == '\r') return kAfterCr;
  if (last != '\n') return kInLine;
  bool cr = count > 1 ? from[count - 2] == '\r' : before == kAfterCr;
  return cr ? kAtLineStart : kInLine;
}

void ContentCursor::begin(uint64_t total, bool dot_stuffed) {
  *this = ContentCursor();
  total_ = total;
  stuffed_ = dot_stuffed;
}

/** Plans one contiguous range; returns the bytes of it that fit into the plan. */
size_t ContentCursor::plan_range(const uint8_t* from, size_t length, Piece* pieces, size_t* count, uint8_t* line,
                                 bool* dotted) const {
  if (!stuffed_) {
    pieces[(*count)++] = {from, length, Piece::kContent};
    return length;
  }
  size_t at = 0;
  while (at < length && *count < kMaxPieces - 2) {
    // If its stuffed dot went out already (or is planned), the search begins after the next byte, or that would be
    // stuffed again.
    size_t skip = *dotted ? 1 : 0;
    uint8_t after = line_position(*line, from + at, skip);
    size_t run = skip + find_line_dot(from + at + skip, length - at - skip, after);
    if (run > 0) {
      pieces[(*count)++] = {from + at, run, Piece::kContent};
      *line = line_position(*line, from + at, run);
      *dotted = false;
      at += run;
    }
    if (at < length) {
      pieces[(*count)++] = {kDotByte, 1, Piece::kDot};
      *dotted = true;
    }
  }
  return at;
}

void ContentCursor::advance(const Piece* pieces, size_t count, size_t written) {
  for (size_t i = 0; i < count && written > 0; ++i) {
    const Piece& piece = pieces[i];
    size_t taken = piece.length < written ? piece.length : written;
    written -= taken;
    if (piece.kind == Piece::kDot) {
      dotted_ = true;
    } else if (piece.kind == Piece::kContent) {
      line_ = line_position(line_, piece.from, taken);
      offset_ += taken;
      dotted_ = false;
    } else {
      end_at_ = static_cast<uint8_t>(piece.from - kEndBytes + static_cast<ptrdiff_t>(taken));
    }
  }
}

}  // namespace protorelay
