// Fuzz target for the canonicalisation of DKIM: dkim_canon. Needs no Node.
//
//   clang++ -std=c++17 -O1 -g -fsanitize=fuzzer,address,undefined -Inative native/fuzz/dkim_fuzz.cc
//     native/dkim_canon.cc -o build/dkim_fuzz
//   build/dkim_fuzz -max_len=4096 -max_total_time=60 build/fuzz-corpus
//
// Without libFuzzer, -DPROTORELAY_FUZZ_MAIN makes a program that feeds itself: build/dkim_fuzz ROUNDS SEED.
// Each input is checked against the rules of RFC 6376 §3.4 written down line by line, at splits taken from the input.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "../dkim_canon.h"

namespace {

using protorelay::find_header_end;
using protorelay::HeaderEnd;
using protorelay::HeaderField;
using protorelay::relax_field;
using protorelay::RelaxedBody;
using protorelay::split_fields;

void require(bool holds, const char* what) {
  if (holds) return;
  fprintf(stderr, "dkim_fuzz: %s\n", what);
  abort();
}

/** A line with its white space reduced. */
std::string reduced(const std::string& line) {
  std::string text;
  for (char c : line) {
    bool space = c == ' ' || c == '\t';
    if (space && !text.empty() && text.back() == ' ') continue;
    text.push_back(space ? ' ' : c);
  }
  if (!text.empty() && text.back() == ' ') text.pop_back();
  return text;
}

std::string plain_body(const std::string& body) {
  std::vector<std::string> lines;
  size_t at = 0;
  for (size_t end = body.find("\r\n"); end != std::string::npos; end = body.find("\r\n", at)) {
    lines.push_back(reduced(body.substr(at, end - at)));
    at = end + 2;
  }
  lines.push_back(reduced(body.substr(at)));
  while (!lines.empty() && lines.back().empty()) lines.pop_back();
  std::string text;
  for (const std::string& line : lines) text += line + "\r\n";
  return text;
}

std::string body_in_pieces(const std::string& body, const std::string& splits) {
  std::string text;
  RelaxedBody relaxed(
      [](void* to, const uint8_t* at, size_t count) {
        static_cast<std::string*>(to)->append(reinterpret_cast<const char*>(at), count);
      },
      &text);
  size_t draw = 0;
  for (size_t at = 0; at < body.size();) {
    size_t size = splits.empty() ? body.size() : static_cast<uint8_t>(splits[draw++ % splits.size()]) % 7 + 1;
    size = std::min(size, body.size() - at);
    // A copy of its own, so that a read beyond its end is found.
    std::vector<uint8_t> piece(body.begin() + static_cast<ptrdiff_t>(at), body.begin() + static_cast<ptrdiff_t>(at + size));
    relaxed.feed(piece.data(), piece.size());
    at += size;
  }
  relaxed.finish();
  return text;
}

void check(const std::string& input) {
  require(body_in_pieces(input, input) == plain_body(input), "a body differs");
  require(body_in_pieces(input, "") == plain_body(input), "a body in one piece differs");

  HeaderEnd end = {0, 0};
  size_t from = 0;
  bool found = false;
  for (size_t read = 0; read <= input.size() && !found; ++read) {
    found = find_header_end(std::string_view(input).substr(0, read), &from, &end);
  }
  size_t empty = input.compare(0, 2, "\r\n") == 0 ? 0 : input.find("\r\n\r\n");
  require(found == (empty != std::string::npos), "the end of a header section differs");
  if (found) require(end.body == (end.header == 0 ? 2 : empty + 4), "a body begins elsewhere");

  std::vector<HeaderField> fields;
  split_fields(input, &fields);
  for (const HeaderField& field : fields) {
    std::string relaxed;
    relax_field(field, &relaxed);
    require(!field.name.empty() && relaxed.size() > field.name.size() && relaxed[field.name.size()] == ':', "a name is lost");
    require(relaxed.find("\r\n") == std::string::npos && relaxed.find("  ", field.name.size()) == std::string::npos &&
                relaxed.find('\t', field.name.size()) == std::string::npos,
            "a field is not relaxed");
    std::string again;
    relax_field({std::string_view(relaxed).substr(0, field.name.size()), relaxed}, &again);
    require(again == relaxed, "a relaxed field changes");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  check(std::string(reinterpret_cast<const char*>(data), size));
  return 0;
}

#if defined(PROTORELAY_FUZZ_MAIN)
#include <random>

int main(int argc, char** argv) {
  size_t rounds = argc > 1 ? strtoul(argv[1], nullptr, 10) : 1000;
  std::mt19937 dice(argc > 2 ? static_cast<unsigned>(strtoul(argv[2], nullptr, 10)) : 1);
  const std::string pieces[] = {"\r\n", "\r", "\n", " ", "\t", ":", "a", "Bc", "\r\n\r\n", "x y", " \r\n", "\xff", "From: a"};
  for (size_t i = 0; i < rounds; ++i) {
    std::string input;
    for (size_t left = dice() % 60; left > 0; --left) input += pieces[dice() % 13];
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
  }
  printf("%zu inputs\n", rounds);
}
#endif
