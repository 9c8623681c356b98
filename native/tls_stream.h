// TLS of one connection: OpenSSL between the reactor and the socket, over a BIO of our own.
//
// Input: OpenSSL reads the socket itself, ahead of the record it needs. Output: records are gathered in memory that
// the connections of a reactor share, and go out in one system call; what the kernel does not take is kept here, and
// nothing more is encrypted until that has gone out. Never blocks; knows neither lines nor mail.
#pragma once
#include <openssl/ssl.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <memory>
#include <string>

#include "tls_context.h"
#include "tls_sessions.h"

namespace protorelay {

/** Whether the peer's certificate is asked for, and whether the handshake fails when it cannot be trusted. */
enum TlsVerify : uint32_t { kVerifyNone = 0, kVerifyAsk = 1, kVerifyNeed = 2, kVerifyTrust = 3, kVerifyDane = 4 };

/** Memory and sessions that the connections of one reactor share. */
struct TlsShared {
  static constexpr size_t kBytes = 131072;
  TlsSessions sessions;
  /** Records on their way to the socket; empty between calls. */
  uint8_t records[kBytes];
  /** Small pieces of output, joined into one record. */
  uint8_t joined[SSL3_RT_MAX_PLAIN_LENGTH];
};

class TlsStream {
 public:
  enum class Step : uint8_t { kDone, kMore, kFailed };

  /**
   * @param name client: the server's name, which is sent (SNI) and verified; an address is verified as an address.
   * @param key client: the key under which sessions are kept; empty: none is kept.
   * @param dane client, with kVerifyDane: "names records", two lists joined by commas: further names that the
   *   certificate may have, and TLSA records as "usage.selector.matching.hex". If no record is usable, the certificate
   *   is not judged.
   */
  static TlsStream* create(std::shared_ptr<TlsContext> context, TlsShared* shared, int fd, bool server,
                           uint32_t verify, const std::string& name, const std::string& key, const std::string& dane);
  ~TlsStream();
  TlsStream(const TlsStream&) = delete;
  TlsStream& operator=(const TlsStream&) = delete;

  /** Does one step of the handshake. On failure `reason` says why, and the alert is on its way. */
  Step handshake(std::string* reason);
  /** Like transport_receive and transport_send: only what the peer encrypted, and nothing after the first error. */
  ssize_t receive(uint8_t* to, size_t room);
  /** Like receive, for input that nobody will look at: bytes of the socket itself if TLS has not begun or is over. */
  ssize_t discard(uint8_t* to, size_t room);
  ssize_t send(const struct iovec* pieces, size_t count);
  /** Writes records that wait. 0, even if the kernel does not take all of them, or -errno. */
  int flush();
  /** Whether records wait for the kernel. */
  bool blocked() const { return left_length_ > 0 && !deferred_; }
  /** Whether nothing can be encrypted before more is read: the peer has begun a message of the protocol, and not ended it. */
  bool starved() const { return starved_; }
  /** Whether input may lie here of which polling the socket does not tell. */
  bool has_input() const { return ended_ || (!finished_ && SSL_has_pending(ssl_) == 1); }
  /** Whether there is no more input: the next call returns the end, or the error. */
  bool ended() const { return ended_; }
  /** Tells the peer, once, that no more follows (close_notify). */
  void finish();
  /**
   * "version cipher resumed verify fingerprint binding subject". resumed is 0 or 1; verify is an X509_V_ERR, 0 is
   * good; "-" stands for what is missing. The binding is tls-exporter, before TLS 1.3 followed by '/' and tls-unique.
   * The subject comes last, and may hold spaces.
   */
  std::string facts() const;

  /** OpenSSL's callback with a session to keep. */
  static int on_session(SSL* ssl, SSL_SESSION* session);

 private:
  TlsStream() = default;
  static BIO_METHOD* method();
  static int bio_write(BIO* bio, const char* from, int count);
  static int bio_read(BIO* bio, char* to, int room);
  static long bio_control(BIO* bio, int command, long, void*);
  void append_unique(std::string* text) const;
  static int on_verify(int good, X509_STORE_CTX* store);
  bool use_name(const std::string& name);
  bool use_dane(const std::string& name, const std::string& dane);
  ssize_t encrypt(const uint8_t* from, size_t count);
  int failure(int result);
  std::string why_failed();
  void keep(const uint8_t* from, size_t count);
  void defer();

  SSL* ssl_ = nullptr;
  std::shared_ptr<TlsContext> context_;
  TlsShared* shared_ = nullptr;
  int fd_ = -1;
  bool server_ = false;
  bool established_ = false;
  /** No more output may follow. */
  bool finished_ = false;
  /** The errno for which OpenSSL gave up; 0: it did not. */
  int broken_ = 0;
  bool ended_ = false;
  bool starved_ = false;
  bool strict_ = false;
  /** The errno of the socket, to which output must not be written any more; 0: it works. */
  int socket_error_ = 0;
  int verify_error_ = 0;
  std::string key_;
  /** The socket gave as much as was asked for, so it may have more. */
  bool socket_full_ = false;
  size_t drawn_ = 0;
  /** Number of bytes in shared_->records. */
  size_t gathered_ = 0;
  /** Records that the kernel did not take, or that are kept to be sent with what follows. */
  uint8_t* left_ = nullptr;
  size_t left_length_ = 0;
  size_t left_sent_ = 0;
  bool deferred_ = false;
};

}  // namespace protorelay
