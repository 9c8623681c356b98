// What is said to a proxy before the connection leads to the peer: SOCKS5 (RFC 1928, RFC 1929), or a PROXY header.
// A pure machine: bytes in, bytes out. It asks for exactly the bytes of the proxy's next reply, because what follows
// belongs to the peer.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

namespace protorelay {

/** HOP of src/native/contract.ts. */
enum class HopKind : uint32_t { kNone = 0, kSocks5 = 1, kHaproxy = 2 };

struct HopSetup {
  HopKind kind = HopKind::kNone;
  /** SOCKS5: the request (CONNECT, with its address). HAProxy: the PROXY header. */
  std::string request;
  /** SOCKS5: the message with user name and password; empty: none. */
  std::string credentials;
};

class Hop {
 public:
  explicit Hop(const HopSetup& setup);

  /** What is to be sent now. */
  const std::string& output() const { return output_; }
  void sent(size_t count) { output_.erase(0, count); }
  /** How many more bytes of the proxy are to be read now; 0: none. */
  size_t wanted() const { return step_ == Step::kDone ? 0 : needed_ - have_; }
  /** Takes at most `wanted()` bytes. */
  void feed(const uint8_t* bytes, size_t count);

  /** The proxy has connected us: all that follows is the peer's. */
  bool done() const { return step_ == Step::kDone && output_.empty(); }
  /** An errno when the proxy refused; 0: it did not. */
  int error() const { return error_; }
  /** Whether the proxy has failed us, and not the peer, should the connection end now. */
  bool blames_proxy() const { return blames_proxy_; }

 private:
  enum class Step : uint8_t { kMethod, kCredentials, kReply, kAddress, kDone };

  void take();
  void ask(Step step, size_t bytes);
  void fail(int error, bool of_peer);

  Step step_ = Step::kDone;
  HopSetup setup_;
  std::string output_;
  /** The longest reply: a host name of 255 bytes with its length and port. */
  uint8_t reply_[4 + 1 + 255 + 2];
  size_t have_ = 0;
  size_t needed_ = 0;
  int error_ = 0;
  bool blames_proxy_ = true;
};

}  // namespace protorelay
