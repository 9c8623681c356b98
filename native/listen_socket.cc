#include "listen_socket.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "address.h"

namespace protorelay {
namespace {

/** Looks up a name such as 'localhost'. Blocks; it is called once, at the start. */
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

/**
 * Removes the socket file of a listener that is gone. Leaves sockets alone at which somebody answers, and other files.
 */
int clear_stale_path(const std::string& path, const struct sockaddr* address, socklen_t length) {
  struct stat info;
  if (::lstat(path.c_str(), &info) != 0) return errno == ENOENT ? 0 : -errno;
  if (!S_ISSOCK(info.st_mode)) return -EADDRINUSE;
  int probe = open_socket(AF_UNIX);
  if (probe < 0) return probe;
  int result = ::connect(probe, address, length);
  int error = errno;
  ::close(probe);
  if (result == 0 || error != ECONNREFUSED) return -EADDRINUSE;
  return ::unlink(path.c_str()) == 0 ? 0 : -errno;
}

int bind_and_listen(int fd, const ListenOptions& options, const struct sockaddr_storage& address, socklen_t length) {
  int on = 1;
  if (address.ss_family != AF_UNIX) {
    ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  // accepted sockets inherit it on Linux
  }
#ifdef SO_REUSEPORT
  if (options.reuse_port && ::setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0) return -errno;
#endif
  if (address.ss_family == AF_INET6) ::setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  if (::bind(fd, reinterpret_cast<const struct sockaddr*>(&address), length) != 0) return -errno;
  if (::listen(fd, options.backlog) == 0) return 0;
  int error = -errno;
  if (!options.path.empty()) ::unlink(options.path.c_str());
  return error;
}

struct sockaddr_storage local_address(int fd) {
  struct sockaddr_storage address = {};
  socklen_t length = sizeof address;
  ::getsockname(fd, reinterpret_cast<struct sockaddr*>(&address), &length);
  return address;
}

}  // namespace

int listen_open(const ListenOptions& options) {
  struct sockaddr_storage address;
  socklen_t length = 0;
  if (!options.path.empty()) {
    // parse_address needs an absolute path; the caller resolves relative ones.
    if (!parse_address(options.path, 0, &address, &length)) return -ENAMETOOLONG;
    int error = clear_stale_path(options.path, reinterpret_cast<struct sockaddr*>(&address), length);
    if (error != 0) return error;
  } else if (!resolve(options.host, options.port, &address, &length)) {
    return -EADDRNOTAVAIL;
  }
  int fd = open_socket(address.ss_family);
  if (fd < 0) return fd;
  int error = bind_and_listen(fd, options, address, length);
  if (error == 0) return fd;
  ::close(fd);
  return error;
}

int listen_adopt(int fd) {
  int listens = 0;
  socklen_t size = sizeof listens;
  if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0) return -errno;
  if (listens == 0) return -EINVAL;
  int own = ::fcntl(fd, F_DUPFD_CLOEXEC, 3);
  if (own < 0) return -errno;
  int flags = ::fcntl(own, F_GETFL);
  ::fcntl(own, F_SETFL, flags | O_NONBLOCK);
  int on = 1;
  if (!listen_is_unix(own)) ::setsockopt(own, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return own;
}

uint16_t listen_port(int fd) {
  struct sockaddr_storage address = local_address(fd);
  if (address.ss_family == AF_INET) return ntohs(reinterpret_cast<struct sockaddr_in&>(address).sin_port);
  if (address.ss_family == AF_INET6) return ntohs(reinterpret_cast<struct sockaddr_in6&>(address).sin6_port);
  return 0;
}

std::string listen_local(int fd) {
  struct sockaddr_storage address = local_address(fd);
  return is_wildcard(address) ? "" : address_text(address);
}

std::string listen_place(int fd) {
  struct sockaddr_storage address = local_address(fd);
  if (address.ss_family != AF_UNIX) return address_text(address);
  return reinterpret_cast<struct sockaddr_un&>(address).sun_path;
}

bool listen_is_unix(int fd) { return local_address(fd).ss_family == AF_UNIX; }

}  // namespace protorelay
