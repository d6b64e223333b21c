// SPDX-License-Identifier: Apache-2.0
// Functions with C symbols that throw, for test_c_library.c.
#include <cstdint>
#include <stdexcept>
#include <string>

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT int throwing_fixture(int32_t what) {
  const std::string text = "the well is dry";
  if (what == 1) throw std::runtime_error(text);
  if (what == 2) throw 42;
  return 0;
}
EXPORT int throwing_status(int32_t) { return 3; }
EXPORT const char *throwing_last_error() { throw std::runtime_error("no error for you"); }
