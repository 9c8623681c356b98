// Fuzz target for the scanners: line_scan, content_scan, content_send, proxy_header. Needs no Node.
//
//   clang++ -std=c++17 -O1 -g -fsanitize=fuzzer,address,undefined -Inative native/fuzz/scan_fuzz.cc
//     native/line_scan.cc native/content_scan.cc native/content_send.cc native/proxy_header.cc -o build/scan_fuzz
//   build/scan_fuzz -max_len=4096 -max_total_time=60 build/fuzz-corpus
//
// Without libFuzzer, -DPROTORELAY_FUZZ_MAIN makes a program that feeds itself: build/scan_fuzz ROUNDS SEED.
// Each input is checked against oracles that share no code with what they judge, at splits taken from the input.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "../content_scan.h"
#include "../content_send.h"
#include "../line_scan.h"
#include "../proxy_header.h"

namespace {

using protorelay::ContentCursor;
using protorelay::ContentScan;
using protorelay::kMaxPieces;
using protorelay::Piece;

void require(bool holds, const char* what) {
  if (holds) return;
  fprintf(stderr, "scan_fuzz: %s\n", what);
  abort();
}

/** Piece sizes, drawn from the input itself. */
class Splits {
 public:
  explicit Splits(const std::string& seed) : seed_(seed) {}
  size_t next(size_t most) {
    if (most <= 1 || seed_.empty()) return most;
    uint8_t draw = static_cast<uint8_t>(seed_[at_++ % seed_.size()]);
    size_t size = draw < 128 ? draw % 4 : draw;
    return std::min(most, size == 0 ? size_t{1} : size);
  }

 private:
  std::string seed_;
  size_t at_ = 0;
};

struct Result {
  std::string content;
  size_t consumed = 0;
  uint8_t flags = 0;
  uint32_t trace = 0;
  uint32_t message_id_at = 0;
  uint32_t content_type_at = 0;
  bool marked = false;
  bool ended = false;
};

Result scan_in_pieces(const std::string& input, bool dots, bool normalize, Splits splits, bool in_place) {
  ContentScan scan;
  scan.begin(dots, normalize, 100);
  Result result;
  while (result.consumed < input.size() && !scan.ended()) {
    size_t count = splits.next(input.size() - result.consumed);
    const char* from = input.data() + result.consumed;
    size_t held = scan.held();
    // Exactly the room that the scanner promises to be enough, so that one byte more is an error.
    size_t room = normalize ? 2 * count + 2 : count + held;
    std::vector<uint8_t> space(in_place ? count + held : room);
    size_t written = 0;
    if (in_place) {
      memcpy(space.data() + held, from, count);
      result.consumed += scan.feed(space.data() + held, count, space.data(), &written);
    } else {
      std::vector<uint8_t> source(from, from + count);
      result.consumed += scan.feed(source.data(), count, space.data(), &written);
    }
    require(written <= room, "more was written than there is room for");
    result.content.append(reinterpret_cast<char*>(space.data()), written);
  }
  result.ended = scan.ended();
  if (!dots) {
    uint8_t tail[2];
    size_t more = scan.finish(tail);
    result.content.append(reinterpret_cast<char*>(tail), more);
  }
  result.flags = scan.flags();
  result.trace = scan.trace_count();
  result.message_id_at = scan.field_at(protorelay::kMessageId);
  result.content_type_at = scan.field_at(protorelay::kContentType);
  result.marked = scan.marked();
  return result;
}

void check_content(const std::string& input, const std::string& seed) {
  std::string framed = "\r\n" + input;
  size_t end = framed.find("\r\n.\r\n");
  for (bool normalize : {false, true}) {
    Result whole = scan_in_pieces(input, true, normalize, Splits(""), false);
    require(whole.ended == (end != std::string::npos), "the end of data was missed or made up");
    require(!whole.ended || whole.consumed == end + 3, "the end of data is at the wrong place");
    for (bool in_place : {false, true}) {
      if (in_place && normalize) continue;
      Result pieces = scan_in_pieces(input, true, normalize, Splits(seed), in_place);
      require(pieces.content == whole.content && pieces.consumed == whole.consumed, "a split changes the content");
      require(pieces.flags == whole.flags && pieces.trace == whole.trace, "a split changes what is seen");
      require(pieces.message_id_at == whole.message_id_at && pieces.content_type_at == whole.content_type_at &&
                  pieces.marked == whole.marked,
              "a split changes where a field is found");
      Result chunk = scan_in_pieces(input, false, normalize, Splits(seed), in_place);
      require(normalize || chunk.content == input, "a chunk is not what was sent");
      require(chunk.consumed == input.size(), "a chunk was not read to its end");
    }
    if (!whole.ended) continue;
    const std::string& content = whole.content;
    if (normalize) {
      for (size_t i = 0; i < content.size(); ++i) {
        require(content[i] != '\n' || (i > 0 && content[i - 1] == '\r'), "a bare LF was left");
        require(content[i] != '\r' || (i + 1 < content.size() && content[i + 1] == '\n'), "a bare CR was left");
      }
      continue;
    }
    // Unstuffing as in RFC 5321: if a line begins with a dot, that dot is removed.
    std::string expected;
    for (size_t i = 2; i < end + 2; ++i) {
      if (framed[i] == '.' && framed[i - 1] == '\n' && framed[i - 2] == '\r') continue;
      expected += framed[i];
    }
    require(content == expected, "the content is not what was sent");
  }
}

std::string send_in_pieces(const std::string& content, Splits splits) {
  // A copy of exactly its length, so that a byte read behind it is an error.
  std::vector<uint8_t> bytes(content.begin(), content.end());
  ContentCursor cursor;
  cursor.begin(content.size(), true);
  std::string wire;
  while (!cursor.done()) {
    Piece plan[kMaxPieces];
    size_t count = cursor.plan(plan, [&](uint64_t at, const uint8_t** from) {
      *from = bytes.data() + at;
      return splits.next(content.size() - static_cast<size_t>(at));
    });
    require(count > 0 && count <= kMaxPieces, "a plan is empty or too long");
    size_t total = 0;
    for (size_t i = 0; i < count; ++i) total += plan[i].length;
    size_t written = splits.next(total);
    size_t left = written;
    for (size_t i = 0; i < count && left > 0; ++i) {
      size_t take = std::min(plan[i].length, left);
      wire.append(reinterpret_cast<const char*>(plan[i].from), take);
      left -= take;
    }
    cursor.advance(plan, count, written);
  }
  return wire;
}

void check_sending(const std::string& content, const std::string& seed) {
  std::string framed = "\r\n" + content;
  std::string expected;
  for (size_t i = 2; i < framed.size(); ++i) {
    if (framed[i] == '.' && framed[i - 1] == '\n' && framed[i - 2] == '\r') expected += '.';
    expected += framed[i];
  }
  bool complete = framed.size() >= 2 && framed.compare(framed.size() - 2, 2, "\r\n") == 0;
  std::string sent = complete ? content : content + "\r\n";
  expected += complete ? ".\r\n" : "\r\n.\r\n";
  require(send_in_pieces(content, Splits(seed)) == expected, "what is sent is not the stuffed content");
  Result back = scan_in_pieces(expected + "QUIT\r\n", true, false, Splits(seed), true);
  require(back.ended && back.consumed == expected.size(), "what is sent ends elsewhere");
  require(back.content == sent, "what is sent does not come back");
}

void check_lines(const std::string& input) {
  for (size_t max : {4u, 64u}) {
    std::vector<uint8_t> bytes(input.begin(), input.end());
    protorelay::Line line = protorelay::scan_line(bytes.data(), bytes.size(), max);
    size_t lf = input.find('\n');
    require(line.consumed == (lf == std::string::npos ? 0 : lf + 1), "the line ends at the wrong place");
    require(line.length <= max && line.length <= line.consumed, "the line is longer than allowed");
    std::vector<uint8_t> exact(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(line.length));
    protorelay::changes_reading(exact.data(), exact.size());
    protorelay::line_flags(exact.data(), exact.size());
  }
}

/** No part of a header may count as a whole header, or as none; and what follows a header must change nothing. */
void check_proxy(const std::string& input) {
  std::vector<uint8_t> bytes(input.begin(), input.end());
  int whole = protorelay::proxy_extent(bytes.data(), bytes.size());
  require(whole <= static_cast<int>(bytes.size()), "a PROXY header is longer than its input");
  for (size_t count = 0; count < bytes.size() && count < 1100; ++count) {
    std::vector<uint8_t> part(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(count));
    int extent = protorelay::proxy_extent(part.data(), count);
    if (whole > 0) require(extent == (count < static_cast<size_t>(whole) ? 0 : whole), "PROXY: a part is judged otherwise");
    if (whole == 0) require(extent == 0, "PROXY: a part of an unfinished header is not unfinished");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  // The first bytes say how to split the rest.
  size_t seed_size = std::min<size_t>(size, 8);
  std::string seed(reinterpret_cast<const char*>(bytes), seed_size);
  std::string input(reinterpret_cast<const char*>(bytes) + seed_size, size - seed_size);
  check_content(input, seed);
  check_sending(input, seed);
  check_lines(input);
  check_proxy(input);
  return 0;
}

#ifdef PROTORELAY_FUZZ_MAIN
int main(int argc, char** argv) {
  long rounds = argc > 1 ? atol(argv[1]) : 10000;
  unsigned state = argc > 2 ? static_cast<unsigned>(atol(argv[2])) : 1;
  const std::string words[] = {"\r", "\n", ".", "\r\n", "\r\n.", "\r\n.\r\n", "Received:", "Message-ID:", "content-type\t:", "X-ProtoRelay-", "DATA", "\xff", "x", "..", " ",
                         "PROXY ", std::string("\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", 16)};
  auto draw = [&state](unsigned below) {
    state = state * 1664525u + 1013904223u;
    return (state >> 8) % below;
  };
  for (long i = 0; i < rounds; ++i) {
    std::string input;
    for (unsigned n = draw(40); n > 0; --n) {
      unsigned word = draw(18);
      if (word < 16) {
        input += words[word];
      } else if (word == 16) {
        input += std::string(draw(200), 'y');
      } else {
        input += static_cast<char>(draw(256));
      }
    }
    std::string seed;
    for (int n = 0; n < 8; ++n) seed += static_cast<char>(draw(256));
    input = seed + input;
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
  }
  printf("%ld inputs\n", rounds);
  return 0;
}
#endif
