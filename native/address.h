// Socket addresses to and from text, for acceptor and reactor.
#pragma once
#include <sys/socket.h>

#include <string>

namespace protorelay {

/** "192.0.2.1 25", "2001:db8::1 25"; a Unix socket is "unix 0". */
std::string address_text(const struct sockaddr_storage& address);
/** Address of this end of a socket, as text. */
std::string local_address_text(int fd);
/**
 * Reads a numeric IPv4 or IPv6 address, or a Unix socket path, which begins with '/'. False when it is none of these.
 */
bool parse_address(const std::string& text, uint16_t port, struct sockaddr_storage* address, socklen_t* length);
/** Opens a socket: nonblocking, close-on-exec, without SIGPIPE. -errno on failure. */
int open_socket(int family);
/** The pending error of a socket (SO_ERROR), 0 when there is none. */
int socket_error(int fd);

}  // namespace protorelay
