// Signs one message: reads its content where it lies (memory or file), and puts header, hash of the body and keys together.
#include <openssl/evp.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "body_hashes.h"
#include "signing_pool.h"

namespace protorelay {
namespace {

constexpr size_t kReadBytes = 65536;

/** Reads a content from its start, piece by piece. */
class ContentReader {
 public:
  ContentReader(Arena* arena, uint32_t handle) : arena_(arena), record_(arena->record(handle)), block_(handle + 1) {}

  /** The next piece, which stays until the next call; empty at the end, and when `error()` is not 0. */
  std::string_view next() {
    if (record_->flags & kInFile) return next_of_file();
    while (block_ != 0) {
      uint32_t block = block_ - 1;
      block_ = arena_->record(block)->next;
      if (uint32_t used = arena_->record(block)->used) {
        return {reinterpret_cast<const char*>(arena_->bytes(block)), used};
      }
    }
    return {};
  }
  int error() const { return error_; }

 private:
  std::string_view next_of_file() {
    if (buffer_ == nullptr) buffer_ = std::make_unique<char[]>(kReadBytes);
    uint64_t left = record_->length - done_;
    if (left == 0) return {};
    ssize_t count;
    do {
      count = ::pread(record_->fd, buffer_.get(), left < kReadBytes ? left : kReadBytes,
                      static_cast<off_t>(record_->offset + done_));
    } while (count < 0 && errno == EINTR);
    if (count <= 0) {
      error_ = count < 0 ? errno : EIO;
      return {};
    }
    done_ += static_cast<uint64_t>(count);
    return {buffer_.get(), static_cast<size_t>(count)};
  }

  Arena* arena_;
  const BlockRecord* record_;
  /** The block to read next, + 1. */
  uint32_t block_;
  std::unique_ptr<char[]> buffer_;
  uint64_t done_ = 0;
  int error_ = 0;
};

/** The header section of a content, and where its body goes on. */
struct Opened {
  /** Bytes that were read: the header section, the empty line, and a part of the body. */
  std::string read;
  HeaderEnd end = {0, 0};
};

/** Reads the header section; '' or what is wrong. */
std::string open_content(ContentReader* reader, Opened* opened) {
  size_t from = 0;
  for (;;) {
    std::string_view piece = reader->next();
    if (reader->error() != 0) return std::string("the content cannot be read: ") + strerror(reader->error());
    if (piece.empty()) {
      opened->end = {opened->read.size(), opened->read.size()};
      return std::string();
    }
    opened->read.append(piece);
    if (find_header_end(opened->read, &from, &opened->end)) return std::string();
    if (opened->read.size() > kMostHeaderBytes) return "its header section is longer than 1 MiB";
  }
}

struct Digest {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  bool good = true;
  ~Digest() { EVP_MD_CTX_free(context); }
  static void take(void* owner, const uint8_t* from, size_t count) {
    auto* self = static_cast<Digest*>(owner);
    self->good = self->good && EVP_DigestUpdate(self->context, from, count) == 1;
  }
};

struct BodySource {
  ContentReader* reader;
  std::string_view begun;
};

bool hash_body(void* with, uint8_t* hash) {
  auto* source = static_cast<BodySource*>(with);
  Digest digest;
  if (digest.context == nullptr || EVP_DigestInit_ex(digest.context, EVP_sha256(), nullptr) != 1) return false;
  RelaxedBody body(Digest::take, &digest);
  auto feed = [&](std::string_view piece) { body.feed(reinterpret_cast<const uint8_t*>(piece.data()), piece.size()); };
  feed(source->begun);
  for (std::string_view piece = source->reader->next(); !piece.empty(); piece = source->reader->next()) feed(piece);
  body.finish();
  return source->reader->error() == 0 && digest.good && EVP_DigestFinal_ex(digest.context, hash, nullptr) == 1;
}

}  // namespace

void sign_message(Arena* arena, const SigningJob& job, Signed* result) {
  ContentReader reader(arena, job.content);
  Opened opened;
  result->fault = open_content(&reader, &opened);
  if (!result->fault.empty()) return;
  BodySource source = {&reader, std::string_view(opened.read).substr(opened.end.body)};
  uint8_t hash[kBodyHashBytes];
  if (!body_hash_of(arena, job.content, hash, hash_body, &source)) {
    result->fault = "the content cannot be read: ";
    result->fault += strerror(reader.error() != 0 ? reader.error() : EIO);
    return;
  }
  // One section, as the receiver sees it: a content may begin with a line that continues a field before it.
  std::string header = job.before;
  header.append(opened.read, 0, opened.end.header);
  std::vector<HeaderField> fields;
  split_fields(header, &fields);
  SignedFields chosen = select_fields(fields, *job.rules);
  for (const auto& key : job.keys) {
    if (append_signature(chosen, hash, *key, job.times, &result->fields)) continue;
    result->fields.clear();
    result->fault = "OpenSSL does not sign with the key of " + key->domain + " (selector " + key->selector + ")";
    return;
  }
}

}  // namespace protorelay
