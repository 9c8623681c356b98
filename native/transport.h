// What lies between a connection and its socket. Bytes in, bytes out, never blocking; -errno on failure.
// A TLS engine takes its place here: the reactor calls nothing else to read or write a connection.
#pragma once
#include <sys/types.h>
#include <sys/uio.h>

#include "connection.h"

namespace protorelay {

/** Bytes read, 0 at the end of the stream, -EAGAIN when there are none now, or -errno. */
ssize_t transport_receive(Connection* c, uint8_t* to, size_t room);

/** Bytes the kernel took, -EAGAIN when it takes none now, or -errno. */
ssize_t transport_send(Connection* c, const struct iovec* pieces, size_t count);

/** No more output follows. */
void transport_finish(Connection* c);

}  // namespace protorelay
