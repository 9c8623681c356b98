// TLS contexts: certificates, keys, trust and rules, made once and used by the reactors of every thread.
//
// A slot keeps its number for the life of the process. A reload replaces its context as a whole, and never changes
// it; connections keep the context with which they began. Knows no sockets and decides nothing: it reports what is
// wrong with a certificate, and TypeScript judges that.
#pragma once
#include <openssl/ssl.h>

#include <memory>
#include <mutex>
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

/**
 * The key exchange of a resumed session of TLS 1.3, besides the ticket. kFull: as in a full handshake; kLight: an
 * elliptic one (server only); kNone: none, if the other side accepts that.
 */
enum class TlsResumption : uint8_t { kFull, kLight, kNone };

struct TlsSetup {
  bool server = false;
  std::vector<TlsCertificate> certificates;
  /** Server: the first group is for clients that name none of these. */
  std::vector<TlsGroup> groups;
  std::string min_version;
  std::string ciphers;
  std::string ciphersuites;
  /** ca: PEM of trusted certificates; crl: PEM of revocation lists. */
  std::string ca;
  std::string crl;
  /** Client: these are read when the first certificate is verified; a system's hundred and more take 75 ms. */
  bool ca_later = false;
  /** Server: tell clients that their certificate should be issued by these. */
  bool names_ca = false;
  /** Secret from which the keys of session tickets are derived: the same in all processes that share a listener. 32 bytes. */
  std::string ticket_secret;
  /** How long a session can be resumed; 0: never. */
  uint32_t session_seconds = 0;
  TlsResumption resumption = TlsResumption::kFull;
};

class TlsContext {
 public:
  /** Makes a context; nullptr, and OpenSSL's message in `error`, when that fails. */
  static std::shared_ptr<TlsContext> create(const TlsSetup& setup, std::string* error);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  /** Makes the SSL of a new connection; the caller frees it. */
  SSL* open() const { return SSL_new(contexts_.front()); }
  bool server() const { return server_; }
  bool resumes() const { return session_seconds_ > 0; }
  /** A few bytes that differ between contexts that trust different certificates. */
  const std::string& trust_mark() const { return trust_mark_; }
  /** A number that differs from that of every earlier context in the slot. */
  uint64_t number() const { return number_; }

 private:
  TlsContext() = default;
  bool build(const TlsSetup& setup);
  SSL_CTX* make(const TlsSetup& setup, const std::vector<uint32_t>& certificates);
  const SSL_CTX* find(const std::string& name) const;
  void set_resumption(SSL_CTX* ctx);
  static int on_chain(X509_STORE_CTX* chain, void* context);
  /** Keys for the tickets of a period. They are kept, because deriving them costs as much as a ticket itself. */
  struct TicketKeys {
    uint64_t period = 0;
    bool made = false;
    uint8_t sign[32];
    uint8_t encrypt[32];
  };
  TicketKeys ticket_keys(uint64_t period);
  static int on_server_name(SSL* ssl, int* alert, void* arg);
  static int on_ticket(SSL* ssl, unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac,
                       int encrypt);
  static SSL_TICKET_RETURN on_resumption(SSL* ssl, SSL_SESSION* session, const unsigned char* name, size_t length,
                                         SSL_TICKET_STATUS status, void* arg);

  bool server_ = false;
  uint64_t number_ = 0;
  uint32_t session_seconds_ = 0;
  TlsResumption resumption_ = TlsResumption::kFull;
  std::string ticket_secret_;
  /** This context's part of a ticket key's name, and the keys of two periods, which all threads share. */
  uint8_t ticket_mark_[8];
  std::mutex ticket_lock_;
  TicketKeys ticket_keys_[2];
  std::string trust_mark_;
  std::string late_ca_;
  std::once_flag late_ca_read_;
  std::vector<SSL_CTX*> contexts_;
  std::unordered_map<std::string, SSL_CTX*> by_name_;
};

/** Number of a new, empty slot. */
int tls_slot_open();
void tls_slot_set(int slot, std::shared_ptr<TlsContext> context);
/** The context that is in the slot now; nullptr when there is none. */
std::shared_ptr<TlsContext> tls_slot_get(int slot);

/** The newest error of OpenSSL in this thread, in words, or `fallback` when there is none; empties the error queue. */
std::string tls_error(const char* fallback);

}  // namespace protorelay
