// The one piece of process-wide state: which reactors exist, how loaded they are, and the sockets on their way to
// them. Every function is safe from any thread; one mutex guards all of it (it is taken once per accepted socket).
#pragma once
#include <uv.h>

#include <atomic>
#include <string>
#include <vector>

namespace protorelay {

struct HandOff {
  int fd;
  std::string address;
};

/** Registers a reactor, and returns its number. `wake` is signalled after each hand-off. */
int registry_add(uv_async_t* wake, uint32_t max_connections);
/** Forgets the reactor; sockets still on their way to it are closed. After this `wake` is never signalled again. */
void registry_remove(int id);
/** Counts a connection that the reactor opened itself (+1) or that is gone (-1). */
void registry_count(int id, int change);
/** Gives a socket to a reactor; false when it is gone or full. */
bool registry_hand_off(int id, int fd, const std::string& address);
/** Takes the sockets that arrived for a reactor. */
void registry_collect(int id, std::vector<HandOff>* into);
/** Number of connections of a reactor, including those on their way to it; -1 when it is gone. */
int registry_load(int id);

}  // namespace protorelay
