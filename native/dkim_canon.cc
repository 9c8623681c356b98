#include "dkim_canon.h"

#include <cstring>

namespace protorelay {
namespace {

constexpr std::string_view kEmptyLine = "\r\n\r\n";
const uint8_t kCrLf[2] = {'\r', '\n'};
const uint8_t kSpace[1] = {' '};

bool is_space(char c) { return c == ' ' || c == '\t'; }

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; }

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

/** Length of the first line, its CRLF included; all of the text when it has none. */
size_t line_length(std::string_view text) {
  size_t end = text.find("\r\n");
  return end == std::string_view::npos ? text.size() : end + 2;
}

/** Length of the first field: its line and those that continue it. */
size_t field_length(std::string_view text) {
  size_t length = line_length(text);
  while (length < text.size() && is_space(text[length])) length += line_length(text.substr(length));
  return length;
}

/** Length of the run of bytes at the start that stand as they are; from[0] is neither white space nor CR. */
size_t plain_run(const uint8_t* from, size_t count) {
  size_t run = 1;
  for (; run < count; ++run) {
    uint8_t c = from[run];
    if (c > ' ') continue;
    if (c == '\r' || c == '\t') break;
    if (c != ' ') continue;
    // A single space between text stays.
    if (run + 1 == count || from[run + 1] == ' ' || from[run + 1] == '\t' || from[run + 1] == '\r') break;
  }
  return run;
}

}  // namespace

bool find_header_end(std::string_view content, size_t* from, HeaderEnd* end) {
  if (content.substr(0, 2) == "\r\n") {
    *end = {0, 2};
    return true;
  }
  size_t at = content.find(kEmptyLine, *from);
  if (at == std::string_view::npos) {
    *from = content.size() < kEmptyLine.size() ? 0 : content.size() - kEmptyLine.size() + 1;
    return false;
  }
  *end = {at + 2, at + 4};
  return true;
}

void split_fields(std::string_view header, std::vector<HeaderField>* fields) {
  while (!header.empty()) {
    std::string_view text = header.substr(0, field_length(header));
    header.remove_prefix(text.size());
    if (text.size() >= 2 && text.substr(text.size() - 2) == "\r\n") text.remove_suffix(2);
    size_t colon = text.find(':');
    if (colon == std::string_view::npos || is_space(text[0])) continue;
    std::string_view name = trimmed(text.substr(0, colon));
    if (!name.empty() && name.find("\r\n") == std::string_view::npos) fields->push_back({name, text});
  }
}

bool same_name(std::string_view one, std::string_view other) {
  if (one.size() != other.size()) return false;
  for (size_t i = 0; i < one.size(); ++i) {
    if (lower(one[i]) != lower(other[i])) return false;
  }
  return true;
}

void relax_field(const HeaderField& field, std::string* to) {
  for (char c : field.name) to->push_back(lower(c));
  to->push_back(':');
  size_t at = field.text.find(':', field.name.size()) + 1;
  bool space = false;
  bool text = false;
  for (; at < field.text.size(); ++at) {
    char c = field.text[at];
    if (c == '\r' && at + 1 < field.text.size() && field.text[at + 1] == '\n') {
      ++at;
    } else if (is_space(c)) {
      space = true;
    } else {
      if (space && text) to->push_back(' ');
      to->push_back(c);
      space = false;
      text = true;
    }
  }
}

void RelaxedBody::feed(const uint8_t* from, size_t count) {
  size_t at = 0;
  while (at < count) {
    uint8_t c = from[at];
    if (cr_) {
      cr_ = false;
      if (c == '\n') {
        ++lines_;
        space_ = false;
        ++at;
        continue;
      }
      text(kCrLf, 1);
    }
    if (c == '\r' || c == ' ' || c == '\t') {
      cr_ = c == '\r';
      space_ = space_ || !cr_;
      ++at;
      continue;
    }
    size_t run = plain_run(from + at, count - at);
    text(from + at, run);
    at += run;
  }
}

void RelaxedBody::text(const uint8_t* from, size_t count) {
  for (; lines_ > 0; --lines_) write(kCrLf, 2);
  if (space_) write(kSpace, 1);
  space_ = false;
  wrote_ = true;
  write(from, count);
}

void RelaxedBody::finish() {
  if (cr_) text(kCrLf, 1);
  // White space before the end of the last line is left out, and so are empty lines behind it.
  if (wrote_) write(kCrLf, 2);
  flush();
}

void RelaxedBody::write(const uint8_t* from, size_t count) {
  if (count > sizeof buffer_ - used_) flush();
  if (count > sizeof buffer_) {
    sink_(owner_, from, count);
    return;
  }
  memcpy(buffer_ + used_, from, count);
  used_ += count;
}

void RelaxedBody::flush() {
  if (used_ > 0) sink_(owner_, buffer_, used_);
  used_ = 0;
}

}  // namespace protorelay
