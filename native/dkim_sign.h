// Makes DKIM-Signature fields (RFC 6376, RFC 8463) of a header section, the hash of a body, and keys.
//
// Pure but for OpenSSL: relaxed/relaxed, never a length of the body. What is signed and with which keys is the caller's
// to say.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "dkim_canon.h"
#include "dkim_key.h"

namespace protorelay {

constexpr size_t kBodyHashBytes = 32;

struct DkimRules {
  struct Name {
    std::string text;
    /** It is named once more than it occurs, so that none can be added. */
    bool oversigned = false;
  };
  std::vector<Name> names;
};

struct DkimTimes {
  /** Seconds since 1970. */
  uint64_t signed_at = 0;
  /** 0: the signature does not expire. */
  uint64_t expires_at = 0;
};

/** The fields of a message that are signed, as every signature of it names and hashes them. */
struct SignedFields {
  /** h= */
  std::vector<std::string_view> names;
  /** Relaxed forms, each with its CRLF. */
  std::string relaxed;
};

/**
 * Of each name in its turn all fields, the last one of the message first (§5.4.2), but at most kMostOfName of them.
 * `names` points into the rules.
 */
SignedFields select_fields(const std::vector<HeaderField>& fields, const DkimRules& rules);
constexpr uint32_t kMostOfName = 50;

/** Appends "DKIM-Signature: …" with its CRLF; false when OpenSSL fails. */
bool append_signature(const SignedFields& fields, const uint8_t body_hash[kBodyHashBytes], const DkimKey& key,
                      const DkimTimes& times, std::string* to);

}  // namespace protorelay
