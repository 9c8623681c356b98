#include "content_scan.h"

#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace protorelay {
namespace {

/** Header fields that are looked for; no two begin with the same letter. */
struct Field {
  const char* name;
  uint8_t length;
};
constexpr Field kFields[] = {{"message-id", 10}, {"content-type", 12}, {"received", 8}, {"x-protorelay-", 13}};
constexpr uint8_t kReceived = 2;
/** The beginning of a name. */
constexpr uint8_t kOurs = 3;
constexpr uint8_t kNoMatch = 255;

uint8_t field_with(uint8_t letter) {
  for (uint8_t i = 0; i <= kOurs; ++i) {
    if (static_cast<uint8_t>(kFields[i].name[0]) == letter) return i;
  }
  return kNoMatch;
}

/** Finds the first CR or LF in [p, end), or end; notes NUL and eight-bit bytes before it. */
const uint8_t* find_break(const uint8_t* p, const uint8_t* end, uint8_t* flags) {
#if defined(__SSE2__)
  const __m128i cr = _mm_set1_epi8('\r');
  const __m128i lf = _mm_set1_epi8('\n');
  const __m128i nul = _mm_setzero_si128();
  while (end - p >= 16) {
    __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    unsigned breaks =
        static_cast<unsigned>(_mm_movemask_epi8(_mm_or_si128(_mm_cmpeq_epi8(v, cr), _mm_cmpeq_epi8(v, lf))));
    unsigned high = static_cast<unsigned>(_mm_movemask_epi8(v));
    unsigned zero = static_cast<unsigned>(_mm_movemask_epi8(_mm_cmpeq_epi8(v, nul)));
    unsigned at = 16;
    if (breaks != 0) {
      at = static_cast<unsigned>(__builtin_ctz(breaks));
      unsigned before = (1u << at) - 1;
      high &= before;
      zero &= before;
    }
    if (high != 0) *flags |= kEightBit;
    if (zero != 0) *flags |= kNul;
    if (breaks != 0) return p + at;
    p += 16;
  }
#endif
  for (; p < end; ++p) {
    uint8_t c = *p;
    if (c == '\r' || c == '\n') return p;
    if (c == 0) *flags |= kNul;
    if (c & 0x80) *flags |= kEightBit;
  }
  return end;
}

}  // namespace

void ContentScan::begin(bool dots, bool normalize, uint32_t max_line) {
  *this = ContentScan();
  dots_ = dots;
  normalize_ = normalize;
  max_line_ = max_line;
}

/**
 * Takes text of the current line (without CR or LF) into account: for its length, and for the match with a field's name.
 * @param at where in the content it stands.
 */
void ContentScan::text(const uint8_t* from, size_t count, uint64_t at) {
  column_ += count;
  if (max_line_ != 0 && column_ + 2 > max_line_) flags_ |= kContentLineTooLong;
  if (!in_header_ || match_ == kNoMatch) return;
  for (size_t i = 0; i < count; ++i) {
    uint8_t c = from[i];
    if (c >= 'A' && c <= 'Z') c = static_cast<uint8_t>(c + 32);
    if (match_ == 0) {
      field_ = field_with(c);
      match_ = field_ == kNoMatch ? kNoMatch : 1;
    } else if (match_ < kFields[field_].length) {
      match_ = c == static_cast<uint8_t>(kFields[field_].name[match_]) ? match_ + 1 : kNoMatch;
      if (field_ == kOurs && match_ == kFields[kOurs].length) {
        marked_ = true;
        match_ = kNoMatch;
      }
    } else if (c == ':') {
      found(at + i + 1);
    } else if (c != ' ' && c != '\t') {
      match_ = kNoMatch;
    }
    if (match_ == kNoMatch) return;
  }
}

/** A field's name and colon end at `at`. */
void ContentScan::found(uint64_t at) {
  match_ = kNoMatch;
  if (field_ == kReceived) {
    ++trace_;
  } else if (fields_[field_] == kNoField && at <= UINT32_MAX) {
    fields_[field_] = static_cast<uint32_t>(at);
  }
}

void ContentScan::line_end() {
  if (column_ == 0) in_header_ = false;
  column_ = 0;
  match_ = 0;
}

size_t ContentScan::feed(const uint8_t* from, size_t count, uint8_t* to, size_t* written) {
  size_t used = scan(from, count, to, written);
  produced_ += *written;
  return used;
}

size_t ContentScan::scan(const uint8_t* from, size_t count, uint8_t* to, size_t* written) {
  const uint8_t* p = from;
  const uint8_t* const end = from + count;
  uint8_t* out = to;
  while (p < end) {
    switch (state_) {
      case kLineStart:
        if (dots_ && *p == '.') {
          state_ = kDot;
          ++p;
          break;
        }
        state_ = kText;
        [[fallthrough]];

      case kText: {
        const uint8_t* q = find_break(p, end, &flags_);
        size_t length = static_cast<size_t>(q - p);
        text(p, length, produced_ + static_cast<size_t>(out - to));
        bool crlf = q + 1 < end && q[0] == '\r' && q[1] == '\n';
        size_t take = crlf ? length + 2 : length;
        // Before the first stuffed line out == p: the bytes lie where they belong, and nothing has to move.
        if (out != p && take > 0) memmove(out, p, take);
        out += take;
        p += take;
        if (crlf) {
          line_end();
          state_ = kLineStart;
          break;
        }
        if (p == end) break;
        if (*p == '\r') {
          if (!normalize_) *out++ = '\r';
          state_ = kCr;
        } else {
          flags_ |= kBareLf;
          if (normalize_) *out++ = '\r';
          *out++ = '\n';
          line_end();
        }
        ++p;
        break;
      }

      case kCr:
        if (*p == '\n') {
          if (normalize_) *out++ = '\r';
          *out++ = '\n';
          ++p;
          line_end();
          state_ = kLineStart;
          break;
        }
        flags_ |= kBareCr;
        if (normalize_) {
          *out++ = '\r';
          *out++ = '\n';
          line_end();
        } else {
          const uint8_t cr = '\r';
          text(&cr, 1, produced_);
        }
        state_ = kText;
        break;

      case kDot:
        // RFC 5321 §4.5.2: the dot is removed, whatever follows; only ". CRLF" is the end.
        if (*p == '\r') {
          state_ = kDotCr;
          ++p;
        } else {
          state_ = kText;
        }
        break;

      case kDotCr:
        if (*p == '\n') {
          ++p;
          ended_ = true;
          *written = static_cast<size_t>(out - to);
          return static_cast<size_t>(p - from);
        }
        // The CR was text. There is room for it, because the dot and the CR were read, but not written.
        if (!normalize_) *out++ = '\r';
        state_ = kCr;
        break;
    }
  }
  *written = static_cast<size_t>(out - to);
  return count;
}

size_t ContentScan::finish(uint8_t* to) {
  ended_ = true;
  if (state_ != kCr) return 0;
  flags_ |= kBareCr;
  if (!normalize_) {
    // The CR was written when it was read; as text it counts towards its line.
    const uint8_t cr = '\r';
    text(&cr, 1, produced_);
    return 0;
  }
  to[0] = '\r';
  to[1] = '\n';
  return 2;
}

}  // namespace protorelay
