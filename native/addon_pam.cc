// PAM. Its library is loaded at the first use: neither the build nor the start needs it.
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <string>

#include "addon.h"
#include "napi_values.h"

namespace protorelay {
namespace {

// The interface of Linux-PAM. On other systems its library is not found, and calls return -1000.
struct PamMessage {
  int style;
  const char* text;
};
struct PamResponse {
  char* text;
  int code;
};
struct PamConversation {
  int (*ask)(int count, const PamMessage** messages, PamResponse** responses, void* context);
  void* context;
};
struct PamHandle;

constexpr int kSuccess = 0;
constexpr int kConversationError = 19;
constexpr int kPromptEchoOff = 1;
constexpr int kPromptEchoOn = 2;
constexpr int kMaxMessages = 32;
constexpr int kRemoteHost = 4;
constexpr int kUserUnknown = 10;
constexpr int kAuthError = 7;
constexpr int kMaxTries = 11;
constexpr int kAccountExpired = 13;
constexpr int kPermissionDenied = 6;
constexpr int kNewTokenRequired = 12;
constexpr int kIgnore = 25;
constexpr const char* kLibrary = "libpam.so.0";
constexpr int kSilent = 0x8000;

struct Pam {
  int (*start)(const char*, const char*, const PamConversation*, PamHandle**);
  /** Present since Linux-PAM 1.4; null in older versions. */
  int (*start_confdir)(const char*, const char*, const PamConversation*, const char*, PamHandle**);
  int (*set_item)(PamHandle*, int, const void*);
  int (*authenticate)(PamHandle*, int);
  int (*account)(PamHandle*, int);
  int (*end)(PamHandle*, int);
};

template <typename F>
void find(void* library, const char* name, F* function) {
  *reinterpret_cast<void**>(function) = ::dlsym(library, name);
}

/** The library, loaded once; null when there is none. */
const Pam* load() {
  static const Pam* loaded = []() -> const Pam* {
    // PAM's modules need symbols of libraries that are loaded globally.
    void* library = ::dlopen(kLibrary, RTLD_NOW | RTLD_GLOBAL);
    if (library == nullptr) return nullptr;
    static Pam pam = {};
    find(library, "pam_start", &pam.start);
    find(library, "pam_start_confdir", &pam.start_confdir);
    find(library, "pam_set_item", &pam.set_item);
    find(library, "pam_authenticate", &pam.authenticate);
    find(library, "pam_acct_mgmt", &pam.account);
    find(library, "pam_end", &pam.end);
    bool whole = pam.start && pam.set_item && pam.authenticate && pam.account && pam.end;
    return whole ? &pam : nullptr;
  }();
  return loaded;
}

struct Answers {
  const std::string& username;
  const std::string& password;
};

/** Answers prompts: without echo by the password, with echo by the name. PAM frees the answers. */
int converse(int count, const PamMessage** messages, PamResponse** responses, void* context) {
  auto* answers = static_cast<const Answers*>(context);
  if (count < 1 || count > kMaxMessages) return kConversationError;
  auto* given = static_cast<PamResponse*>(::calloc(static_cast<size_t>(count), sizeof(PamResponse)));
  if (given == nullptr) return kConversationError;
  for (int i = 0; i < count; i++) {
    if (messages[i]->style == kPromptEchoOff) given[i].text = ::strdup(answers->password.c_str());
    if (messages[i]->style == kPromptEchoOn) given[i].text = ::strdup(answers->username.c_str());
  }
  *responses = given;
  return kSuccess;
}

/** Whether the code is about the user, and not about PAM itself. */
bool is_refusal(int code) {
  return code == kAuthError || code == kUserUnknown || code == kMaxTries || code == kAccountExpired ||
         code == kPermissionDenied || code == kNewTokenRequired || code == kIgnore;
}

/**
 * pamAuthenticate(service, configDir, username, password, client): 0 accepted, 1 refused, or minus PAM's error code
 * (-1000: there is no PAM). Waits as long as PAM does.
 */
napi_value authenticate(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const Pam* pam = load();
  std::string service = to_text(env, args.at[0]);
  std::string config_dir = to_text(env, args.at[1]);
  std::string username = to_text(env, args.at[2]);
  std::string password = to_text(env, args.at[3]);
  std::string client = to_text(env, args.at[4]);
  if (pam == nullptr || (!config_dir.empty() && pam->start_confdir == nullptr)) return from_number(env, -1000);
  Answers answers{username, password};
  PamConversation conversation{converse, &answers};
  PamHandle* handle = nullptr;
  int code = config_dir.empty()
                 ? pam->start(service.c_str(), username.c_str(), &conversation, &handle)
                 : pam->start_confdir(service.c_str(), username.c_str(), &conversation, config_dir.c_str(), &handle);
  if (code != kSuccess) return from_number(env, -code);
  pam->set_item(handle, kRemoteHost, client.c_str());
  code = pam->authenticate(handle, kSilent);
  if (code == kSuccess) code = pam->account(handle, kSilent);
  pam->end(handle, code);
  // Wipe our copy of the password.
  volatile char* octets = password.data();
  for (size_t i = 0; i < password.size(); i++) octets[i] = 0;
  if (code == kSuccess) return from_number(env, 0);
  return from_number(env, is_refusal(code) ? 1 : -code);
}

}  // namespace

void register_pam(napi_env env, napi_value exports) { add_function(env, exports, "pamAuthenticate", authenticate); }

}  // namespace protorelay
