// The PROXY header, before anything else of a connection is read. Exactly its bytes are taken from the socket: what
// follows belongs to whoever reads next, which may be TLS.
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
  if (have > 0) memcpy(scratch_, c->left, have);
  ssize_t n = receive(c->fd, scratch_ + have, kMaxProxyHeader - have, MSG_PEEK);
  if (n <= 0) {
    received_nothing(c, n);
    return;
  }
  size_t count = have + static_cast<size_t>(n);
  int extent = proxy_extent(scratch_, count);
  // An unfinished header was all that came: it is taken, so that polling waits for more.
  size_t end = extent > 0 ? static_cast<size_t>(extent) : count;
  if (extent >= 0) {
    n = receive(c->fd, scratch_ + have, end - have, 0);
    if (n != static_cast<ssize_t>(end - have)) {
      received_nothing(c, n < 0 ? n : -EIO);
      return;
    }
  }
  if (extent == 0) {
    c->keep(scratch_, end);
    return;
  }
  c->drop_left();
  c->mode = Mode::kLines;
  c->held = true;
  text_event(kProxy, extent < 0 ? 1 : 0, c->id, scratch_, extent < 0 ? 0 : end);
}

}  // namespace protorelay
