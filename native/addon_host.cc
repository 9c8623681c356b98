// Memory that the processes of one host share, and messages to the service manager.
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "addon.h"
#include "napi_values.h"

namespace protorelay {
namespace {

/** Makes a file without a name, close-on-exec. */
int anonymous_file() {
#ifdef __linux__
  return ::memfd_create("protorelay", MFD_CLOEXEC);
#else
  char name[] = "/tmp/protorelay.XXXXXX";
  int fd = ::mkostemp(name, O_CLOEXEC);
  if (fd >= 0) ::unlink(name);
  return fd;
#endif
}

/** sharedMemoryCreate(bytes): descriptor of zeroed memory, or -errno. The caller closes it. */
napi_value create(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  int fd = anonymous_file();
  if (fd < 0) return from_number(env, -errno);
  if (::ftruncate(fd, static_cast<off_t>(to_number(env, args.at[0]))) == 0) return from_number(env, fd);
  int error = -errno;
  ::close(fd);
  return from_number(env, error);
}

void unmap(napi_env, void* memory, void* hint) { ::munmap(memory, reinterpret_cast<size_t>(hint)); }

/** sharedMemoryMap(fd, bytes): ArrayBuffer over the memory, mapped until it is collected; or -errno. */
napi_value map(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  auto bytes = static_cast<size_t>(to_number(env, args.at[1]));
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, to_int32(env, args.at[0]), 0);
  if (memory == MAP_FAILED) return from_number(env, -errno);
  napi_value buffer = nullptr;
  if (napi_create_external_arraybuffer(env, memory, bytes, unmap, reinterpret_cast<void*>(bytes), &buffer) == napi_ok) {
    return buffer;
  }
  ::munmap(memory, bytes);
  return from_number(env, -ENOMEM);
}

/** datagramSend(path, text): 0 or -errno. '@' begins a name of Linux's abstract namespace. Never waits. */
napi_value send(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  std::string path = to_text(env, args.at[0]);
  std::string text = to_text(env, args.at[1]);
  struct sockaddr_un address = {};
  if (path.empty() || path.size() >= sizeof address.sun_path) return from_number(env, -ENAMETOOLONG);
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, path.data(), path.size());
  bool abstract = path[0] == '@';
  if (abstract) address.sun_path[0] = '\0';
  // An abstract name ends where the length says; a path ends with a NUL.
  auto length = static_cast<socklen_t>(offsetof(struct sockaddr_un, sun_path) + path.size() + (abstract ? 0 : 1));
  int fd = ::socket(AF_UNIX, SOCK_DGRAM, 0);
  if (fd < 0) return from_number(env, -errno);
  ssize_t sent = ::sendto(fd, text.data(), text.size(), MSG_DONTWAIT, reinterpret_cast<struct sockaddr*>(&address), length);
  int error = sent < 0 ? -errno : 0;
  ::close(fd);
  return from_number(env, error);
}

}  // namespace

void register_host(napi_env env, napi_value exports) {
  add_function(env, exports, "sharedMemoryCreate", create);
  add_function(env, exports, "sharedMemoryMap", map);
  add_function(env, exports, "datagramSend", send);
}

}  // namespace protorelay
