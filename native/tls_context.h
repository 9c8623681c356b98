// TLS contexts: certificates, keys, trust and rules, made once and used by the reactors of every thread.
//
// A slot has a number for the life of the process; what stands in it is replaced whole (a reload), never changed.
// Connections keep what they began with. Knows no sockets and decides nothing: what a certificate is worth is told,
// and judged in TypeScript.
#pragma once
#include <openssl/ssl.h>

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace protorelay {

struct TlsCertificate {
  /** PEM: the certificate, then its chain. */
  std::string chain;
  std::string key;
};

/** Certificates that serve together (one for each type of key), and the names that ask for them. */
struct TlsGroup {
  std::vector<uint32_t> certificates;
  std::vector<std::string> names;
};

struct TlsSetup {
  bool server = false;
  std::vector<TlsCertificate> certificates;
  /** Server: the first is for clients that name none of these. */
  std::vector<TlsGroup> groups;
  std::string min_version;
  std::string ciphers;
  std::string ciphersuites;
  /** PEM of trusted certificates, and of revocation lists. */
  std::string ca;
  std::string crl;
  /** Server: ask clients for a certificate issued by these. */
  bool names_ca = false;
  /** What session tickets are encrypted with: the same in all processes that share a listener. 32 bytes. */
  std::string ticket_secret;
  /** How long a session can be resumed; 0: never. */
  uint32_t session_seconds = 0;
};

class TlsContext {
 public:
  /** nullptr, and what OpenSSL said, when it cannot be made. */
  static std::shared_ptr<TlsContext> create(const TlsSetup& setup, std::string* error);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  /** A new connection's; the caller frees it. */
  SSL* open() const { return SSL_new(contexts_.front()); }
  bool server() const { return server_; }
  bool resumes() const { return session_seconds_ > 0; }
  /** Distinguishes what it trusts; a few bytes. */
  const std::string& trust_mark() const { return trust_mark_; }
  /** Distinguishes it from what stood in the slot before. */
  uint64_t number() const { return number_; }

 private:
  TlsContext() = default;
  bool build(const TlsSetup& setup);
  SSL_CTX* make(const TlsSetup& setup, const std::vector<uint32_t>& certificates);
  const SSL_CTX* find(const std::string& name) const;
  static int on_server_name(SSL* ssl, int* alert, void* arg);
  static int on_ticket(SSL* ssl, unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac,
                       int encrypt);

  bool server_ = false;
  uint64_t number_ = 0;
  uint32_t session_seconds_ = 0;
  std::string ticket_secret_;
  std::string trust_mark_;
  std::vector<SSL_CTX*> contexts_;
  std::unordered_map<std::string, SSL_CTX*> by_name_;
};

/** Number of a new, empty slot. */
int tls_slot_open();
void tls_slot_set(int slot, std::shared_ptr<TlsContext> context);
/** What stands in the slot now; nullptr when nothing does. */
std::shared_ptr<TlsContext> tls_slot_get(int slot);

/** The newest error of OpenSSL in this thread in words, `fallback` when there is none; the queue is emptied. */
std::string tls_error(const char* fallback);

}  // namespace protorelay
