// What lies between a connection and its socket. Bytes in, bytes out, never blocking; -errno on failure.
// TLS stands here when there is any: the reactor calls nothing else to read or write a connection.
#pragma once
#include <sys/types.h>
#include <sys/uio.h>

#include "connection.h"

namespace protorelay {

/** Bytes read, 0 at the end of the stream, -EAGAIN when there are none now, or -errno. */
ssize_t transport_receive(Connection* c, uint8_t* to, size_t room);

/** The same for input that nobody looks at; it may be bytes that TLS has nothing to do with. */
ssize_t transport_discard(Connection* c, uint8_t* to, size_t room);

/** Bytes taken (by the kernel, or under way to it: see transport_blocked), -EAGAIN when it takes none now, or -errno. */
ssize_t transport_send(Connection* c, const struct iovec* pieces, size_t count);

/** Bytes that were taken still wait for the kernel: the connection's output is not flushed. */
inline bool transport_blocked(const Connection* c) { return c->tls != nullptr && c->tls->blocked(); }

/** Hands such bytes to the kernel: 0, or -errno. */
int transport_flush(Connection* c);

/** Input may wait here of which polling the socket does not tell. */
inline bool transport_has_input(const Connection* c) { return c->tls != nullptr && c->tls->has_input(); }

/** What was received last is all there is; the next call tells of the end, or of the error. */
inline bool transport_ended(const Connection* c) { return c->tls != nullptr && c->tls->ended(); }

/** Nothing can be sent before more is received, although the kernel would take it. */
inline bool transport_starved(const Connection* c) { return c->tls != nullptr && c->tls->starved(); }

/** Says to the peer that no more output follows, where there is a way to say it; the socket stays open. */
void transport_goodbye(Connection* c);

/** No more output follows. */
void transport_finish(Connection* c);

}  // namespace protorelay
