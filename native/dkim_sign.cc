#include "dkim_sign.h"

#include <openssl/evp.h>
#include <openssl/sha.h>

namespace protorelay {
namespace {

constexpr size_t kLine = 76;

std::string base64(const uint8_t* bytes, size_t count) {
  std::string text(4 * ((count + 2) / 3) + 1, '\0');
  int length = EVP_EncodeBlock(reinterpret_cast<uint8_t*>(&text[0]), bytes, static_cast<int>(count));
  text.resize(static_cast<size_t>(length));
  return text;
}

/** Writes a field in lines of a length that suits mail. */
class Folded {
 public:
  explicit Folded(std::string* to) : to_(to), line_at_(to->size()) {}

  /** Appends a piece; on a new line when it does not fit on this one. The space between pieces is the caller's. */
  void piece(std::string_view text, bool spaced) {
    if (to_->size() - line_at_ + spaced + text.size() > kLine) {
      fold();
    } else if (spaced) {
      to_->push_back(' ');
    }
    to_->append(text);
  }
  /** Appends text that may be broken anywhere. */
  void breakable(std::string_view text) {
    while (!text.empty()) {
      size_t used = to_->size() - line_at_;
      if (used >= kLine) {
        fold();
        continue;
      }
      size_t count = kLine - used < text.size() ? kLine - used : text.size();
      to_->append(text.substr(0, count));
      text.remove_prefix(count);
    }
  }

 private:
  void fold() {
    to_->append("\r\n");
    line_at_ = to_->size();
    to_->push_back('\t');
  }

  std::string* to_;
  size_t line_at_;
};

bool sign(const DkimKey& key, const std::string& text, std::string* signature) {
  // RFC 8463 §3: what Ed25519 signs is the hash. RSA's own signature hashes its input.
  uint8_t hash[SHA256_DIGEST_LENGTH];
  const auto* from = reinterpret_cast<const uint8_t*>(text.data());
  size_t count = text.size();
  if (!key.rsa) {
    if (EVP_Digest(from, count, hash, nullptr, EVP_sha256(), nullptr) != 1) return false;
    from = hash;
    count = sizeof hash;
  }
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  size_t length = static_cast<size_t>(EVP_PKEY_get_size(key.key));
  std::string bytes(length, '\0');
  bool made = context != nullptr &&
              EVP_DigestSignInit(context, nullptr, key.rsa ? EVP_sha256() : nullptr, nullptr, key.key) == 1 &&
              EVP_DigestSign(context, reinterpret_cast<uint8_t*>(&bytes[0]), &length, from, count) == 1;
  EVP_MD_CTX_free(context);
  if (made) *signature = base64(reinterpret_cast<const uint8_t*>(bytes.data()), length);
  return made;
}

}  // namespace

SignedFields select_fields(const std::vector<HeaderField>& fields, const DkimRules& rules) {
  SignedFields chosen;
  for (const DkimRules::Name& name : rules.names) {
    uint32_t count = 0;
    for (size_t i = fields.size(); i > 0 && count < kMostOfName; --i) {
      if (!same_name(fields[i - 1].name, name.text)) continue;
      ++count;
      chosen.names.push_back(name.text);
      relax_field(fields[i - 1], &chosen.relaxed);
      chosen.relaxed.append("\r\n");
    }
    if (name.oversigned) chosen.names.push_back(name.text);
  }
  return chosen;
}

bool append_signature(const SignedFields& fields, const uint8_t body_hash[kBodyHashBytes], const DkimKey& key,
                      const DkimTimes& times, std::string* to) {
  size_t start = to->size();
  Folded out(to);
  out.piece("DKIM-Signature:", false);
  out.piece("v=1;", true);
  out.piece(key.rsa ? "a=rsa-sha256;" : "a=ed25519-sha256;", true);
  out.piece("c=relaxed/relaxed;", true);
  out.piece("d=" + key.domain + ";", true);
  out.piece("s=" + key.selector + ";", true);
  out.piece("t=" + std::to_string(times.signed_at) + ";", true);
  if (times.expires_at != 0) out.piece("x=" + std::to_string(times.expires_at) + ";", true);
  for (size_t i = 0; i < fields.names.size(); ++i) {
    std::string piece(i == 0 ? "h=" : "");
    piece.append(fields.names[i]).push_back(i + 1 == fields.names.size() ? ';' : ':');
    out.piece(piece, i == 0);
  }
  out.piece("bh=" + base64(body_hash, kBodyHashBytes) + ";", true);
  out.piece("b=", true);

  std::string text = fields.relaxed;
  std::string_view field(*to);
  field.remove_prefix(start);
  relax_field({field.substr(0, field.find(':')), field}, &text);
  std::string signature;
  if (!sign(key, text, &signature)) {
    to->resize(start);
    return false;
  }
  out.breakable(signature);
  to->append("\r\n");
  return true;
}

}  // namespace protorelay
