#include "hop.h"

#include <cerrno>
#include <cstring>

namespace protorelay {
namespace {

constexpr uint8_t kVersion = 5;
constexpr uint8_t kNoMethod = 0xff;
constexpr uint8_t kByPassword = 2;
constexpr size_t kReplyBytes = 4;

enum AddressType : uint8_t { kIpv4 = 1, kName = 3, kIpv6 = 4 };

/** REP of RFC 1928 §6 as an errno. */
int error_of(uint8_t reply) {
  switch (reply) {
    case 2:
      return EACCES;
    case 3:
      return ENETUNREACH;
    case 4:
      return EHOSTUNREACH;
    case 5:
      return ECONNREFUSED;
    case 6:
      return ETIMEDOUT;
    case 7:
    case 8:
      return EOPNOTSUPP;
    default:
      return EPROTO;
  }
}

/** Whether that says something of the peer, and not of the proxy: network or host unreachable, refused, expired. */
bool of_peer(uint8_t reply) { return reply >= 3 && reply <= 6; }

}  // namespace

Hop::Hop(const HopSetup& setup) : setup_(setup) {
  if (setup_.kind == HopKind::kHaproxy) {
    output_ = setup_.request;
    return;
  }
  bool password = !setup_.credentials.empty();
  output_.assign({kVersion, static_cast<char>(password ? 2 : 1), 0});
  if (password) output_.push_back(kByPassword);
  ask(Step::kMethod, 2);
}

void Hop::ask(Step step, size_t bytes) {
  step_ = step;
  have_ = 0;
  needed_ = bytes;
}

void Hop::fail(int error, bool of_peer) {
  error_ = error;
  blames_proxy_ = !of_peer;
}

void Hop::feed(const uint8_t* bytes, size_t count) {
  if (count > wanted()) count = wanted();
  memcpy(reply_ + have_, bytes, count);
  have_ += count;
  if (have_ == needed_ && step_ != Step::kDone) take();
}

/** The proxy's reply is complete. */
void Hop::take() {
  switch (step_) {
    case Step::kMethod:
      if (reply_[0] != kVersion) return fail(EPROTO, false);
      if (reply_[1] == kByPassword && !setup_.credentials.empty()) {
        output_ += setup_.credentials;
        return ask(Step::kCredentials, 2);
      }
      if (reply_[1] != 0) return fail(reply_[1] == kNoMethod ? EACCES : EPROTO, false);
      output_ += setup_.request;
      return ask(Step::kReply, kReplyBytes);
    case Step::kCredentials:
      if (reply_[1] != 0) return fail(EACCES, false);
      output_ += setup_.request;
      return ask(Step::kReply, kReplyBytes);
    case Step::kReply:
      if (reply_[0] != kVersion) return fail(EPROTO, false);
      if (reply_[1] != 0) return fail(error_of(reply_[1]), of_peer(reply_[1]));
      step_ = Step::kAddress;
      if (reply_[3] == kIpv4) {
        needed_ += 4 + 2;
      } else if (reply_[3] == kIpv6) {
        needed_ += 16 + 2;
      } else if (reply_[3] == kName) {
        needed_ += 1;
      } else {
        fail(EPROTO, false);
      }
      return;
    case Step::kAddress:
      // A name comes with its length first.
      if (reply_[3] == kName && needed_ == kReplyBytes + 1) {
        needed_ += size_t{reply_[kReplyBytes]} + 2;
        return;
      }
      step_ = Step::kDone;
      blames_proxy_ = false;
      return;
    case Step::kDone:
      return;
  }
}

}  // namespace protorelay
