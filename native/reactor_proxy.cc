// Reads the PROXY header, before anything else of a connection is read. Takes exactly its bytes from the socket,
// because what follows belongs to whoever reads next, which may be TLS.
#include <cerrno>
#include <cstring>
#include <sys/socket.h>

#include "proxy_header.h"
#include "reactor.h"

namespace protorelay {
namespace {

ssize_t receive(int fd, uint8_t* to, size_t room, int flags) {
  for (;;) {
    ssize_t n = ::recv(fd, to, room, flags);
    if (n >= 0) return n;
    if (errno == EINTR) continue;
    return errno == EWOULDBLOCK ? -EAGAIN : -errno;
  }
}

}  // namespace

void Reactor::read_proxy(Connection* c) {
  size_t have = c->left_length;
  // More bytes may have been read before anybody asked for a header than a header can have; and inside TLS there is
  // none.
  if (c->tls != nullptr || have >= kMaxProxyHeader) {
    proxy_event(c, -1, c->left, have);
    return;
  }
  if (have > 0) memcpy(scratch_.get(), c->left, have);
  ssize_t n = receive(c->fd, scratch_.get() + have, kMaxProxyHeader - have, MSG_PEEK);
  if (n <= 0) {
    received_nothing(c, n);
    return;
  }
  size_t count = have + static_cast<size_t>(n);
  int extent = proxy_extent(scratch_.get(), count);
  // If the header is not complete, all bytes are taken, so that polling waits for more.
  size_t end = extent > 0 ? static_cast<size_t>(extent) : count;
  if (extent >= 0 && end > have) {
    n = receive(c->fd, scratch_.get() + have, end - have, 0);
    if (n != static_cast<ssize_t>(end - have)) {
      received_nothing(c, n < 0 ? n : -EIO);
      return;
    }
  }
  if (extent == 0) {
    c->keep(scratch_.get(), end);
    return;
  }
  proxy_event(c, extent, scratch_.get(), have > end ? have : end);
}

/**
 * Looks for the header in bytes that were read before it was asked for. What follows it waits for whoever reads next.
 */
void Reactor::parse_proxy(Connection* c) {
  int extent = c->tls != nullptr ? -1 : proxy_extent(c->left, c->left_length);
  if (extent != 0) proxy_event(c, extent, c->left, c->left_length);
}

/**
 * Writes the event: of `count` bytes the header has `extent`. Below 0 there is no header, and the bytes are dropped.
 */
void Reactor::proxy_event(Connection* c, int extent, const uint8_t* from, size_t count) {
  size_t length = extent < 0 ? 0 : static_cast<size_t>(extent);
  c->mode = Mode::kLines;
  c->held = true;
  c->skipping = false;
  text_event(kProxy, extent < 0 ? 1 : 0, c->id, from, length);
  if (extent < 0) {
    c->drop_left();
  } else {
    c->keep(from + length, count - length);
  }
}

}  // namespace protorelay
