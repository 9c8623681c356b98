// What tls_fuzz.cc plays on: a TlsStream whose socket is two strings, and OpenSSL as its peer over memory BIOs.
//
// tls_stream.cc is compiled with -Drecv=fuzz_recv -Dsend=fuzz_send, so that the harness decides what each system call
// gives and takes. Randomness is drawn from a seed, so that an input does the same every time.
#pragma once
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "../tls_certificate.h"
#include "../tls_context.h"
#include "../tls_stream.h"

namespace fuzz {

inline void require(bool holds, const char* what) {
  if (holds) return;
  fprintf(stderr, "tls_fuzz: %s\n", what);
  abort();
}

/** A call never reads more than this from the socket: the stream's limit and what OpenSSL reads at once. */
constexpr size_t kMostDrawn = 262144 + 65536 + 1024;
constexpr size_t kMostPending = 1 << 20;

/** The socket of our end. */
struct Socket {
  /** In the kernel's buffer, to be read. */
  std::string arrived;
  bool ended = false;
  int receive_error = 0;
  int send_error = 0;
  /** How many more bytes the kernel takes. */
  size_t window = SIZE_MAX;
  /** On its way to us, and from us; what mutations work on. */
  std::string to_us;
  std::string from_us;
  /** Bytes read since the call began. */
  size_t drawn = 0;
};

inline Socket*& current() {
  static Socket* socket = nullptr;
  return socket;
}

// ------------------------------------------------------------------------------------------------- randomness

inline uint64_t& random_state() {
  static uint64_t state = 1;
  return state;
}

inline int random_bytes(unsigned char* to, int count) {
  for (int i = 0; i < count; ++i) {
    uint64_t& x = random_state();
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    to[i] = static_cast<unsigned char>(x >> 24);
  }
  return 1;
}

inline int random_status() { return 1; }

// --------------------------------------------------------------------------------------------------- contexts

/** Contexts of both ends, made once. */
struct Contexts {
  protorelay::SelfSigned certificate;
  std::shared_ptr<protorelay::TlsContext> server;
  std::shared_ptr<protorelay::TlsContext> trusting;
  std::shared_ptr<protorelay::TlsContext> distrusting;
  SSL_CTX* peer_client = nullptr;
  SSL_CTX* peer_server = nullptr;
  /** TLSA record of the certificate's key, as TlsStream::create takes it. */
  std::string tlsa;
};

inline SSL_CTX* peer_context(const SSL_METHOD* method, const protorelay::SelfSigned& own) {
  SSL_CTX* ctx = SSL_CTX_new(method);
  BIO* chain = BIO_new_mem_buf(own.certificate.data(), static_cast<int>(own.certificate.size()));
  BIO* secret = BIO_new_mem_buf(own.key.data(), static_cast<int>(own.key.size()));
  X509* certificate = PEM_read_bio_X509(chain, nullptr, nullptr, nullptr);
  EVP_PKEY* key = PEM_read_bio_PrivateKey(secret, nullptr, nullptr, nullptr);
  require(SSL_CTX_use_certificate(ctx, certificate) == 1 && SSL_CTX_use_PrivateKey(ctx, key) == 1, "no peer");
  X509_free(certificate);
  EVP_PKEY_free(key);
  BIO_free(chain);
  BIO_free(secret);
  SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, nullptr);
  SSL_CTX_set_session_id_context(ctx, reinterpret_cast<const uint8_t*>("peer"), 4);
  return ctx;
}

inline std::string tlsa_of(const std::string& pem) {
  BIO* bio = BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()));
  X509* certificate = PEM_read_bio_X509(bio, nullptr, nullptr, nullptr);
  uint8_t* der = nullptr;
  int length = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &der);
  uint8_t digest[EVP_MAX_MD_SIZE];
  EVP_Digest(der, static_cast<size_t>(length), digest, nullptr, EVP_sha256(), nullptr);
  OPENSSL_free(der);
  X509_free(certificate);
  BIO_free(bio);
  std::string text = "3.1.1.";
  char pair[3];
  for (int i = 0; i < 32; ++i) {
    snprintf(pair, sizeof pair, "%02x", digest[i]);
    text += pair;
  }
  return text;
}

inline Contexts* make_contexts() {
  static const RAND_METHOD method = {nullptr, random_bytes, nullptr, nullptr, random_bytes, random_status};
  require(RAND_set_rand_method(&method) == 1, "no randomness");
  auto* made = new Contexts();
  protorelay::SelfSigned other;
  require(protorelay::make_self_signed({"localhost", "127.0.0.1"}, 10, false, &made->certificate) &&
              protorelay::make_self_signed({"*.example.test"}, 10, true, &other),
          "no certificate");
  std::string error;
  protorelay::TlsSetup setup;
  setup.server = true;
  setup.certificates = {{made->certificate.certificate, made->certificate.key}, {other.certificate, other.key}};
  setup.groups = {{{0}, {"localhost"}}, {{1}, {"*.example.test"}}};
  setup.min_version = "TLSv1.2";
  setup.ca = made->certificate.certificate;
  setup.names_ca = true;
  setup.ticket_secret = std::string(32, 's');
  setup.session_seconds = 1u << 30;
  made->server = protorelay::TlsContext::create(setup, &error);
  setup.server = false;
  setup.groups.clear();
  setup.certificates.pop_back();
  made->trusting = protorelay::TlsContext::create(setup, &error);
  setup.ca.clear();
  made->distrusting = protorelay::TlsContext::create(setup, &error);
  require(made->server != nullptr && made->trusting != nullptr && made->distrusting != nullptr, error.c_str());
  made->peer_client = peer_context(TLS_client_method(), made->certificate);
  made->peer_server = peer_context(TLS_server_method(), made->certificate);
  made->tlsa = tlsa_of(made->certificate.certificate);
  return made;
}

inline Contexts* contexts() {
  static Contexts* made = make_contexts();
  return made;
}

/** The application byte at this place; the two directions have different bytes. */
inline uint8_t byte_at(size_t place, bool from_us) {
  return static_cast<uint8_t>((place * 167) ^ (place >> 7) ^ (from_us ? 0x5a : 0));
}

}  // namespace fuzz

extern "C" {
inline __attribute__((used)) ssize_t fuzz_recv_bytes(void* to, size_t room) {
  fuzz::Socket* s = fuzz::current();
  fuzz::require(s != nullptr, "a socket is read outside of a call");
  if (!s->arrived.empty()) {
    size_t n = room < s->arrived.size() ? room : s->arrived.size();
    memcpy(to, s->arrived.data(), n);
    s->arrived.erase(0, n);
    s->drawn += n;
    return static_cast<ssize_t>(n);
  }
  if (s->receive_error != 0) {
    errno = s->receive_error;
    return -1;
  }
  if (s->ended) return 0;
  errno = EAGAIN;
  return -1;
}
}
