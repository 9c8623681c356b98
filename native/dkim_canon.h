// Relaxed canonicalisation of DKIM (RFC 6376 §3.4.2, §3.4.4), and the fields of a header section.
//
// Pure: no memory of its own but what the caller gives; twin of test/native/dkim-canon.ts. Only CRLF ends a line. The
// state of a body lies in the object, so that it may be split at any byte.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace protorelay {

/** One header field: its name without white space before the colon, and all of it, without its last CRLF. */
struct HeaderField {
  std::string_view name;
  std::string_view text;
};

/** Where the first empty line of a content begins that ends its header section, and where its body begins. */
struct HeaderEnd {
  size_t header;
  size_t body;
};

/**
 * Finds the end of the header section in the first bytes of a content, `from` where an earlier call without success
 * ended (0 at first). False when it is not among them.
 */
bool find_header_end(std::string_view content, size_t* from, HeaderEnd* end);

/** The fields of a header section in their order; lines that belong to no field are left out. They point into `header`. */
void split_fields(std::string_view header, std::vector<HeaderField>* fields);

/** Appends a field in its relaxed form, without a CRLF. `field.text` must begin with its name. */
void relax_field(const HeaderField& field, std::string* to);

/** Whether two names of fields are the same: their case does not count. */
bool same_name(std::string_view one, std::string_view other);

/** Writes the relaxed form of a body. */
class RelaxedBody {
 public:
  /** Takes what was written; called from feed() and finish(). */
  using Sink = void (*)(void* owner, const uint8_t* from, size_t count);

  RelaxedBody(Sink sink, void* owner) : sink_(sink), owner_(owner) {}

  void feed(const uint8_t* from, size_t count);
  /** To be called once, after the last byte: a last line without CRLF gets one. */
  void finish();

 private:
  void text(const uint8_t* from, size_t count);
  void write(const uint8_t* from, size_t count);
  void flush();

  Sink sink_;
  void* owner_;
  uint8_t buffer_[8192];
  size_t used_ = 0;
  /** Line ends that are written once text follows: those at the end of the body are left out. */
  uint64_t lines_ = 0;
  /** White space that is written, as one space, once text follows on the same line. */
  bool space_ = false;
  /** A CR came, which may end the line or be text. */
  bool cr_ = false;
  /** Something was written. */
  bool wrote_ = false;
};

}  // namespace protorelay
