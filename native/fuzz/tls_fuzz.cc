// Fuzz target for TLS: TlsStream and its context, both roles and versions, against OpenSSL as the peer.
//
// An input is a schedule: who steps when; how the bytes between them are cut, changed, repeated, ended or mixed with
// others; who writes how much, updates keys, renegotiates, says goodbye. `./build.sh fuzz` builds it.
// With any schedule application bytes arrive in order and unchanged, or not at all; nothing follows an error; a call
// reads a bounded amount, leaves OpenSSL's error queue empty, and leaves nothing in the memory that streams share.
// If nothing was done to the bytes, the handshake succeeds, everything arrives, and both ends learn of the end.
//
// Without libFuzzer, -DPROTORELAY_FUZZ_MAIN makes a program that feeds itself: tls_fuzz ROUNDS SEED. With
// PROTORELAY_FUZZ_SEEDS=FOLDER either writes schedules there to begin with.
#include "tls_play.h"

namespace {

using fuzz::Action;
using fuzz::Play;
using fuzz::Setup;

/** Where TLS 1.3 gives no ticket there is nothing to resume; DANE never resumes. */
bool can_resume(const Setup& setup) {
  return setup.server || (setup.trust < 3 && (setup.tickets > 0 || setup.tls12));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  fuzz::contexts();
  fuzz::random_state() = 0x9e3779b97f4a7c15;
  fuzz::Input in(bytes, size);
  Setup setup(&in);
  std::unique_ptr<protorelay::TlsShared> shared(new protorelay::TlsShared());
  SSL_SESSION* session = nullptr;
  bool resumable = false;
  for (uint8_t i = 0; i < setup.connections; ++i) {
    Play play(setup, shared.get(), session);
    bool open = true;
    for (int steps = 0; open && steps < 200 && !in.empty(); ++steps) {
      uint8_t draw = in.next();
      if (draw == 0xff) break;  // the next connection
      open = play.act(static_cast<Action>(draw % fuzz::kActions), &in);
    }
    if (open) play.conclude(resumable);
    // A session that ended badly is not resumed.
    SSL_SESSION_free(session);
    bool whole = open && play.clean();
    session = whole ? play.session() : nullptr;
    resumable = whole && can_resume(setup);
  }
  SSL_SESSION_free(session);
  return 0;
}

namespace {

/** Makes a random schedule; every other one is harmless. */
std::string invent(unsigned* state) {
  auto draw = [state](unsigned below) {
    *state = *state * 1664525u + 1013904223u;
    return (*state >> 8) % below;
  };
  std::string input;
  input += static_cast<char>(draw(256));
  input += static_cast<char>(draw(256));
  unsigned kinds = draw(2) == 0 ? unsigned{fuzz::kHarmless} : unsigned{fuzz::kActions};
  for (unsigned n = draw(40); n > 0; --n) {
    // Half of all steps advance the dialog.
    unsigned kind = draw(2) == 0 ? unsigned{fuzz::kPump} : draw(kinds);
    input += static_cast<char>(draw(24) == 0 ? 0xff : kind);
    unsigned more = kind == fuzz::kPump || kind == fuzz::kFlush ? 0 : kind == fuzz::kInsert ? 8 : 2;
    for (; more > 0; --more) input += static_cast<char>(draw(256));
  }
  return input;
}

void write_seeds() {
  const char* folder = getenv("PROTORELAY_FUZZ_SEEDS");
  if (folder == nullptr) return;
  unsigned state = 1;
  for (int i = 0; i < 300; ++i) {
    std::string input = invent(&state);
    FILE* file = fopen((std::string(folder) + "/seed" + std::to_string(i)).c_str(), "wb");
    if (file == nullptr) return;
    fwrite(input.data(), 1, input.size(), file);
    fclose(file);
  }
}

}  // namespace

#ifdef PROTORELAY_FUZZ_MAIN
int main(int argc, char** argv) {
  long rounds = argc > 1 ? atol(argv[1]) : 1000;
  unsigned state = argc > 2 ? static_cast<unsigned>(atol(argv[2])) : 1;
  write_seeds();
  for (long i = 0; i < rounds; ++i) {
    std::string input = invent(&state);
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
  }
  printf("%ld inputs\n", rounds);
  return 0;
}
#else
extern "C" int LLVMFuzzerInitialize(int*, char***) {
  write_seeds();
  return 0;
}
#endif
