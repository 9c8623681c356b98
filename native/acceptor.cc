#include "acceptor.h"

#include <cerrno>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "address.h"
#include "registry.h"

namespace protorelay {
namespace {

constexpr uint64_t kRestMs = 100;

int accept_socket(int listener, struct sockaddr_storage* peer) {
  socklen_t length = sizeof *peer;
  peer->ss_family = AF_UNSPEC;
#ifdef __linux__
  return ::accept4(listener, reinterpret_cast<struct sockaddr*>(peer), &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
#else
  int fd = ::accept(listener, reinterpret_cast<struct sockaddr*>(peer), &length);
  if (fd < 0) return fd;
  int on = 1;
  ::fcntl(fd, F_SETFL, O_NONBLOCK);
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  ::setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on);
  if (peer->ss_family != AF_UNIX) ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
#endif
}

/** 'localhost' and the like, once, at start. */
bool resolve(const std::string& host, uint16_t port, struct sockaddr_storage* address, socklen_t* length) {
  if (!host.empty() && host[0] != '/' && parse_address(host, port, address, length)) return true;
  struct addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  struct addrinfo* found = nullptr;
  if (::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) return false;
  memcpy(address, found->ai_addr, found->ai_addrlen);
  *length = found->ai_addrlen;
  ::freeaddrinfo(found);
  return true;
}

bool is_wildcard(const struct sockaddr_storage& address) {
  if (address.ss_family == AF_INET) {
    return reinterpret_cast<const struct sockaddr_in&>(address).sin_addr.s_addr == INADDR_ANY;
  }
  const auto& v6 = reinterpret_cast<const struct sockaddr_in6&>(address);
  return address.ss_family == AF_INET6 && memcmp(&v6.sin6_addr, &in6addr_any, sizeof in6addr_any) == 0;
}

}  // namespace

Acceptor* Acceptor::create(uv_loop_t* loop, const Options& options, const Calls& calls, void* owner, int* error) {
  auto* a = new Acceptor();
  a->options_ = options;
  a->calls_ = calls;
  a->owner_ = owner;
  *error = a->listen_socket();
  if (*error == 0) *error = uv_poll_init(loop, &a->poll_, a->fd_);
  if (*error != 0) {
    if (a->fd_ >= 0) ::close(a->fd_);
    delete a;
    return nullptr;
  }
  uv_timer_init(loop, &a->timer_);
  a->poll_.data = a;
  a->timer_.data = a;
  a->open_handles_ = 2;
  a->watch();
  return a;
}

int Acceptor::listen_socket() {
  struct sockaddr_storage address;
  socklen_t length = 0;
  bool local = !options_.path.empty();
  if (local) {
    std::string path = options_.path[0] == '/' ? options_.path : "./" + options_.path;
    // parse_address wants an absolute path; the caller resolves relative ones.
    if (!parse_address(path, 0, &address, &length)) return -ENAMETOOLONG;
    int error = clear_stale_path(reinterpret_cast<struct sockaddr*>(&address), length);
    if (error != 0) return error;
  } else if (!resolve(options_.host, options_.port, &address, &length)) {
    return -EADDRNOTAVAIL;
  }
  int fd = open_socket(address.ss_family);
  if (fd < 0) return fd;
  fd_ = fd;
  int on = 1;
  if (!local) {
    ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  // accepted sockets inherit it on Linux
  }
#ifdef SO_REUSEPORT
  if (options_.reuse_port && ::setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0) return -errno;
#endif
  if (address.ss_family == AF_INET6) ::setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  if (::bind(fd, reinterpret_cast<struct sockaddr*>(&address), length) != 0) return -errno;
  owns_path_ = local;
  if (::listen(fd, options_.backlog) != 0) return -errno;
  if (!local) {
    socklen_t size = sizeof address;
    ::getsockname(fd, reinterpret_cast<struct sockaddr*>(&address), &size);
    port_ = ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<struct sockaddr_in6*>(&address)->sin6_port
                                                : reinterpret_cast<struct sockaddr_in*>(&address)->sin_port);
  }
  if (local || !is_wildcard(address)) local_ = address_text(address);
  return 0;
}

/** Removes the socket file of a listener that is gone; leaves one alone that somebody answers, and other files. */
int Acceptor::clear_stale_path(const struct sockaddr* address, unsigned length) {
  struct stat info;
  if (::lstat(options_.path.c_str(), &info) != 0) return errno == ENOENT ? 0 : -errno;
  if (!S_ISSOCK(info.st_mode)) return -EADDRINUSE;
  int probe = open_socket(AF_UNIX);
  if (probe < 0) return probe;
  int result = ::connect(probe, address, length);
  int error = errno;
  ::close(probe);
  if (result == 0 || error != ECONNREFUSED) return -EADDRINUSE;
  return ::unlink(options_.path.c_str()) == 0 ? 0 : -errno;
}

void Acceptor::watch() {
  if (closed_) return;
  if (paused_ || resting_) {
    uv_poll_stop(&poll_);
  } else {
    uv_poll_start(&poll_, UV_READABLE, on_poll);
  }
}

void Acceptor::on_poll(uv_poll_t* handle, int status, int) {
  auto* a = static_cast<Acceptor*>(handle->data);
  if (status == 0) {
    a->accept_batch();
  } else {
    a->rest(-status);
  }
}

void Acceptor::on_timer(uv_timer_t* handle) {
  auto* a = static_cast<Acceptor*>(handle->data);
  a->resting_ = false;
  a->watch();
}

void Acceptor::accept_batch() {
  std::vector<int> fds;
  std::vector<std::string> addresses;
  int failure = 0;
  while (fds.size() < options_.batch) {
    struct sockaddr_storage peer;
    int fd = accept_socket(fd_, &peer);
    if (fd < 0) {
      if (errno == EINTR || errno == ECONNABORTED || errno == EPROTO) continue;
      if (errno != EAGAIN && errno != EWOULDBLOCK) failure = errno;
      break;
    }
    fds.push_back(fd);
    // A Unix socket peer has no name, and accept may leave the family unset.
    std::string remote = options_.path.empty() ? address_text(peer) : "unix 0";
    addresses.push_back(remote + " " + (local_.empty() ? local_address_text(fd) : local_));
  }
  if (!fds.empty()) {
    unclaimed_ = fds;
    calls_.batch(owner_, fds, addresses);
    for (int fd : unclaimed_) ::close(fd);
    unclaimed_.clear();
  }
  if (failure != 0 && !closed_) rest(failure);
}

/** Out of descriptors or memory: the connection stays in the backlog, so polling on would spin. */
void Acceptor::rest(int error) {
  resting_ = true;
  watch();
  uv_timer_start(&timer_, on_timer, kRestMs, 0);
  calls_.error(owner_, error);
}

bool Acceptor::forget(int fd) {
  auto at = std::find(unclaimed_.begin(), unclaimed_.end(), fd);
  if (at == unclaimed_.end()) return false;
  unclaimed_.erase(at);
  return true;
}

bool Acceptor::hand_off(int fd, int reactor, const std::string& address) {
  if (std::find(unclaimed_.begin(), unclaimed_.end(), fd) == unclaimed_.end()) return false;
  if (!registry_hand_off(reactor, fd, std::to_string(options_.listener) + " " + address)) return false;
  forget(fd);
  return true;
}

void Acceptor::refuse(int fd, const std::string& reply) {
  if (!forget(fd)) return;
  // One attempt without waiting: a fresh socket has room for a line, and a peer that is not there is no loss.
  ssize_t sent = ::send(fd, reply.data(), reply.size(), MSG_DONTWAIT);
  (void)sent;
  ::shutdown(fd, SHUT_WR);
  ::close(fd);
}

void Acceptor::pause() {
  paused_ = true;
  watch();
}

void Acceptor::resume() {
  paused_ = false;
  watch();
}

void Acceptor::close() {
  if (closed_) return;
  closed_ = true;
  uv_close(reinterpret_cast<uv_handle_t*>(&poll_), on_closed);
  uv_close(reinterpret_cast<uv_handle_t*>(&timer_), on_closed);
  ::close(fd_);
  if (owns_path_) ::unlink(options_.path.c_str());
}

void Acceptor::on_closed(uv_handle_t* handle) { static_cast<Acceptor*>(handle->data)->handle_closed(); }

void Acceptor::handle_closed() {
  if (--open_handles_ > 0) return;
  Calls calls = calls_;
  void* owner = owner_;
  delete this;
  calls.released(owner);
}

}  // namespace protorelay
