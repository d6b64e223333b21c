// SPDX-License-Identifier: Apache-2.0
// Throws, for test_foreign_copies.c. Linked with the C++ runtime library and unwinder of the process, and
// with copies of its own.
#include <stdexcept>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

int alive = 0;

struct Counted : std::runtime_error {
  Counted() : std::runtime_error("counted") { ++alive; }
  Counted(const Counted &other) : std::runtime_error(other) { ++alive; }
  ~Counted() override { --alive; }
};
struct Guard {
  Guard() { ++alive; }
  ~Guard() { --alive; }
};

}  // namespace

EXPORT void foreign_thrower(void *what) {
  const Guard guard;
  if (*static_cast<int *>(what) == 0) throw Counted();
  if (*static_cast<int *>(what) == 1) throw 42;
}
EXPORT int foreign_thrower_alive() { return alive; }
