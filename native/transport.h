// The layer between a connection and its socket: bytes in, bytes out, never blocking; -errno on failure. TLS is here,
// if there is any: the reactor reads and writes connections only by these calls.
#pragma once
#include <sys/types.h>
#include <sys/uio.h>

#include "connection.h"

namespace protorelay {

/** Reads. The number of bytes, 0 at the end of the stream, -EAGAIN when there are none now, or -errno. */
ssize_t transport_receive(Connection* c, uint8_t* to, size_t room);

/** Like transport_receive, for input that nobody looks at; it may be bytes outside TLS. */
ssize_t transport_discard(Connection* c, uint8_t* to, size_t room);

/**
 * Writes. The number of bytes taken (by the kernel, or to be given to it: see transport_blocked), -EAGAIN when none
 * is taken now, or -errno.
 */
ssize_t transport_send(Connection* c, const struct iovec* pieces, size_t count);

/** Whether bytes that were taken still wait for the kernel, so that output is not flushed. */
inline bool transport_blocked(const Connection* c) { return c->tls != nullptr && c->tls->blocked(); }

/** Gives such bytes to the kernel: 0, or -errno. */
int transport_flush(Connection* c);

/** Whether input may wait here of which polling the socket does not tell. */
inline bool transport_has_input(const Connection* c) { return c->tls != nullptr && c->tls->has_input(); }

/** Whether there is no more input: the next call returns the end, or the error. */
inline bool transport_ended(const Connection* c) { return c->tls != nullptr && c->tls->ended(); }

/** Whether nothing can be sent before more is received, although the kernel would take it. */
inline bool transport_starved(const Connection* c) { return c->tls != nullptr && c->tls->starved(); }

/** Tells the peer that no more output follows, where TLS can say that; the socket stays open. */
void transport_goodbye(Connection* c);

/** Says goodbye and shuts the socket for writing. */
void transport_finish(Connection* c);

}  // namespace protorelay
