#include "tls_certificate.h"

#include <arpa/inet.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <memory>

namespace protorelay {
namespace {

constexpr long kDaySeconds = 86400;
/** RFC 5280 §4.1.2.2 allows 20 octets; a positive number needs its first bit clear. */
constexpr size_t kSerialBytes = 16;

template <typename T, void (*Free)(T*)>
struct Deleter {
  void operator()(T* one) const { Free(one); }
};
using Certificate = std::unique_ptr<X509, Deleter<X509, X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Deleter<EVP_PKEY, EVP_PKEY_free>>;
using Names = std::unique_ptr<GENERAL_NAMES, Deleter<GENERAL_NAMES, GENERAL_NAMES_free>>;

bool add_name(GENERAL_NAMES* names, const std::string& name) {
  uint8_t bytes[16];
  int length = inet_pton(AF_INET, name.c_str(), bytes) == 1 ? 4 : inet_pton(AF_INET6, name.c_str(), bytes) == 1 ? 16 : 0;
  GENERAL_NAME* one = GENERAL_NAME_new();
  ASN1_STRING* text = length > 0 ? ASN1_OCTET_STRING_new() : ASN1_IA5STRING_new();
  bool set = one != nullptr && text != nullptr &&
             (length > 0 ? ASN1_STRING_set(text, bytes, length)
                         : ASN1_STRING_set(text, name.data(), static_cast<int>(name.size()))) == 1;
  if (set) GENERAL_NAME_set0_value(one, length > 0 ? GEN_IPADD : GEN_DNS, text);
  if (set && sk_GENERAL_NAME_push(names, one) > 0) return true;
  if (!set) ASN1_STRING_free(text);
  GENERAL_NAME_free(one);
  return false;
}

bool add_extension(X509* certificate, int nid, const char* value) {
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, nid, value);
  bool added = extension != nullptr && X509_add_ext(certificate, extension, -1) == 1;
  X509_EXTENSION_free(extension);
  return added;
}

bool fill(X509* certificate, const std::vector<std::string>& names, uint32_t days) {
  uint8_t serial[kSerialBytes];
  if (RAND_bytes(serial, sizeof serial) != 1) return false;
  serial[0] &= 0x7f;
  std::unique_ptr<BIGNUM, Deleter<BIGNUM, BN_free>> number(BN_bin2bn(serial, sizeof serial, nullptr));
  Names alternatives(GENERAL_NAMES_new());
  if (number == nullptr || alternatives == nullptr) return false;
  for (const std::string& name : names) {
    if (!add_name(alternatives.get(), name)) return false;
  }
  // A common name has 64 characters at most (RFC 5280 appendix A.1); clients check the alternative names.
  std::string common = names.front().substr(0, 64);
  X509_NAME* subject = X509_get_subject_name(certificate);
  return X509_set_version(certificate, X509_VERSION_3) == 1 &&
         BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(certificate)) != nullptr &&
         X509_gmtime_adj(X509_getm_notBefore(certificate), -kDaySeconds) != nullptr &&
         X509_time_adj_ex(X509_getm_notAfter(certificate), static_cast<int>(days), 0, nullptr) != nullptr &&
         X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, reinterpret_cast<const uint8_t*>(common.data()),
                                    static_cast<int>(common.size()), -1, 0) == 1 &&
         X509_set_issuer_name(certificate, subject) == 1 &&
         X509_add1_ext_i2d(certificate, NID_subject_alt_name, alternatives.get(), 0, X509V3_ADD_DEFAULT) == 1 &&
         add_extension(certificate, NID_basic_constraints, "critical,CA:FALSE") &&
         add_extension(certificate, NID_key_usage, "critical,digitalSignature,keyEncipherment") &&
         add_extension(certificate, NID_ext_key_usage, "serverAuth,clientAuth");
}

std::string text_of(BIO* bio) {
  char* at = nullptr;
  long length = BIO_get_mem_data(bio, &at);
  return length > 0 ? std::string(at, static_cast<size_t>(length)) : std::string();
}

}  // namespace

bool make_self_signed(const std::vector<std::string>& names, uint32_t days, bool rsa, SelfSigned* made) {
  if (names.empty()) return false;
  Key key(rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256"));
  Certificate certificate(X509_new());
  std::unique_ptr<BIO, Deleter<BIO, BIO_free_all>> first(BIO_new(BIO_s_mem()));
  std::unique_ptr<BIO, Deleter<BIO, BIO_free_all>> second(BIO_new(BIO_s_mem()));
  if (key == nullptr || certificate == nullptr || first == nullptr || second == nullptr) return false;
  if (!fill(certificate.get(), names, days) || X509_set_pubkey(certificate.get(), key.get()) != 1 ||
      X509_sign(certificate.get(), key.get(), EVP_sha256()) == 0 ||
      PEM_write_bio_X509(first.get(), certificate.get()) != 1 ||
      PEM_write_bio_PrivateKey(second.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) != 1) {
    return false;
  }
  made->certificate = text_of(first.get());
  made->key = text_of(second.get());
  return true;
}

}  // namespace protorelay
