// SPDX-License-Identifier: Apache-2.0
// What is thrown through foreign calls, by C++ that knows nothing of them: caught, told, destroyed.
#include <pthread.h>
#include <unistd.h>
#include <unwind.h>

#include <atomic>
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

extern "C" {
#include <cmocka.h>

#include "artifact/foreign_call.h"
}

namespace {

std::atomic<int> alive{0};
struct Guard {
  Guard() { ++alive; }
  Guard(const Guard &) { ++alive; }
  ~Guard() { --alive; }
};

// A class of its own with something to destroy.
struct Thrown {
  Guard guard;
  std::string text = std::string(100, 'x');
};
struct Own : std::runtime_error {
  Own() : std::runtime_error("own text") {}
};
struct Left {
  virtual ~Left() = default;
};
struct Both : Left, std::logic_error {
  Both() : std::logic_error("two bases") {}
};
struct Plain {
  virtual ~Plain() = default;
};

enum What {
  kNothing,
  kRuntimeError,
  kInt,
  kClass,
  kDerived,
  kTwoBases,
  kPlain,
  kRethrown,
  kShared,
  kText,
  kLongText,
  kForeign
};

_Unwind_Exception foreign;
void delete_foreign(_Unwind_Reason_Code, _Unwind_Exception *) { --alive; }

__attribute__((noinline)) void thrower(int depth, What what) {
  const Guard guard;
  const std::vector<Guard> more(3);
  if (depth > 0) {
    thrower(depth - 1, what);
    return;
  }
  switch (what) {
    case kNothing:
      return;
    case kRuntimeError:
      throw std::runtime_error("no such file");
    case kInt:
      throw 42;
    case kClass:
      throw Thrown();
    case kDerived:
      throw Own();
    case kTwoBases:
      throw Both();
    case kPlain:
      throw Plain();
    case kRethrown:
      try {
        throw std::logic_error("again");
      } catch (...) {
        throw;
      }
    case kShared:
      std::rethrow_exception(std::make_exception_ptr(std::logic_error("shared")));
    case kText:
      throw "a text";
    case kLongText:
      throw std::runtime_error(std::string(100000, 'y'));
    case kForeign:
      memcpy(&foreign.exception_class, "LANGHERE", 8);
      foreign.exception_cleanup = delete_foreign;
      ++alive;
      _Unwind_RaiseException(&foreign);
      abort();
  }
}

void run(void *data) { thrower(5, *static_cast<What *>(data)); }

// What is said of it.
std::string caught(What what) {
  char text[kForeignWhatRoom];
  memset(text, '#', sizeof text);
  const bool returned = pega_foreign_call(run, &what, text, sizeof text);
  assert_int_equal(returned, what == kNothing);
  assert_int_equal(alive.load(), 0);
  assert_int_equal(std::uncaught_exceptions(), 0);
  assert_true(std::current_exception() == nullptr);
  return returned ? std::string() : std::string(text);
}

void test_types(void **) {
  char first;
  What nothing = kNothing;
  assert_true(pega_foreign_call(run, &nothing, nullptr, 0));
  first = '#';
  assert_true(pega_foreign_call(run, &nothing, &first, 1));
  assert_int_equal(first, '#');
  assert_string_equal(caught(kRuntimeError).c_str(), "std::runtime_error: no such file");
  assert_string_equal(caught(kInt).c_str(), "int");
  assert_string_equal(caught(kClass).c_str(), "(anonymous namespace)::Thrown");
  assert_string_equal(caught(kDerived).c_str(), "(anonymous namespace)::Own: own text");
  assert_string_equal(caught(kTwoBases).c_str(), "(anonymous namespace)::Both");
  assert_string_equal(caught(kPlain).c_str(), "(anonymous namespace)::Plain");
  assert_string_equal(caught(kRethrown).c_str(), "std::logic_error: again");
  assert_string_equal(caught(kShared).c_str(), "std::logic_error: shared");
  assert_string_equal(caught(kText).c_str(), "char const*");
  assert_string_equal(caught(kForeign).c_str(),
                      "an exception of class \"EREHGNAL\"");  // as the number is written
}

void test_room(void **) {
  // A text that does not fit is cut; no room is no text.
  assert_int_equal(caught(kLongText).size(), kForeignWhatRoom - 1);
  for (size_t size = 0; size < 40; ++size) {
    for (const What what : {kRuntimeError, kInt, kForeign}) {
      std::unique_ptr<char[]> text(new char[size + 1]);
      text[size] = '#';
      What copy = what;
      assert_false(pega_foreign_call(run, &copy, text.get(), size));
      assert_int_equal(text[size], '#');
      if (size > 0) assert_true(strlen(text.get()) < size);
    }
  }
  What what = kClass;
  assert_false(pega_foreign_call(run, &what, nullptr, 100));
  assert_int_equal(alive.load(), 0);
}

// --- one within another, and exceptions of the host around them

struct Nested {
  bool inner_returned = true;
  bool then_throw = false;
  char what[64] = "";
};

void outer(void *data) {
  auto *nested = static_cast<Nested *>(data);
  const Guard guard;
  What what = kInt;
  nested->inner_returned = pega_foreign_call(run, &what, nested->what, sizeof nested->what);
  if (nested->then_throw) throw std::runtime_error("from outside");
}

void test_nested(void **) {
  Nested nested;
  char what[64] = "";
  assert_true(pega_foreign_call(outer, &nested, what, sizeof what));
  assert_false(nested.inner_returned);
  assert_string_equal(nested.what, "int");
  assert_string_equal(what, "");
  nested.then_throw = true;
  assert_false(pega_foreign_call(outer, &nested, what, sizeof what));
  assert_string_equal(what, "std::runtime_error: from outside");
  assert_int_equal(alive.load(), 0);
}

void test_while_another_is_handled(void **) {
  // A call within a handler and within a destructor: what is being handled stays what it was.
  try {
    throw std::logic_error("of the host");
  } catch (const std::logic_error &error) {
    What what = kRuntimeError;
    char text[64];
    assert_false(pega_foreign_call(run, &what, text, sizeof text));
    assert_string_equal(error.what(), "of the host");
    try {
      throw;
    } catch (const std::logic_error &again) {
      assert_string_equal(again.what(), "of the host");
    }
  }
  struct AtEnd {
    ~AtEnd() {
      What what = kClass;
      assert_int_equal(std::uncaught_exceptions(), 1);
      assert_false(pega_foreign_call(run, &what, nullptr, 0));
      assert_int_equal(std::uncaught_exceptions(), 1);
    }
  };
  try {
    const AtEnd at_end;
    throw 1;
  } catch (int) {
  }
  assert_int_equal(std::uncaught_exceptions(), 0);
}

// --- threads that are ended

void end_thread(void *) {
  const Guard guard;
  pthread_exit(reinterpret_cast<void *>(7));
}

void wait_for_cancel(void *data) {
  const Guard guard;
  static_cast<std::atomic<bool> *>(data)->store(true);
  for (;;) pause();
}

void *exiting(void *) {
  const Guard guard;
  pega_foreign_call(end_thread, nullptr, nullptr, 0);
  return nullptr;  // not reached
}

void *cancelled(void *data) {
  const Guard guard;
  pega_foreign_call(wait_for_cancel, data, nullptr, 0);
  return nullptr;  // not reached
}

void test_forced_unwinding(void **) {
  pthread_t thread;
  void *result = nullptr;
  assert_int_equal(pthread_create(&thread, nullptr, exiting, nullptr), 0);
  assert_int_equal(pthread_join(thread, &result), 0);
  assert_ptr_equal(result, reinterpret_cast<void *>(7));
  assert_int_equal(alive.load(), 0);
  std::atomic<bool> waiting{false};
  assert_int_equal(pthread_create(&thread, nullptr, cancelled, &waiting), 0);
  while (!waiting) usleep(100);
  assert_int_equal(pthread_cancel(thread), 0);
  assert_int_equal(pthread_join(thread, &result), 0);
  assert_ptr_equal(result, PTHREAD_CANCELED);
  assert_int_equal(alive.load(), 0);
}

// --- many, and many at once

enum { kMany = 100000, kThreads = 4 };

void test_many(void **) {
  char text[64];
  for (int i = 0; i < kMany; ++i) {
    What what = i % 3 == 0 ? kClass : i % 3 == 1 ? kRuntimeError : kShared;
    assert_false(pega_foreign_call(run, &what, i % 10 == 0 ? text : nullptr, sizeof text));
  }
  assert_int_equal(alive.load(), 0);
}

void *throw_often(void *wrong) {
  for (int i = 0; i < 5000; ++i) {
    What what = i % 4 == 0 ? kNothing : i % 4 == 1 ? kDerived : i % 4 == 2 ? kInt : kShared;
    char text[64] = "";
    const char *expected = i % 4 == 0   ? ""
                           : i % 4 == 1 ? "(anonymous namespace)::Own: own text"
                           : i % 4 == 2 ? "int"
                                        : "std::logic_error: shared";
    if (pega_foreign_call(run, &what, text, sizeof text) != (what == kNothing) ||
        strcmp(text, expected) != 0) {
      ++*static_cast<std::atomic<int> *>(wrong);
    }
  }
  return nullptr;
}

void test_threads(void **) {
  pthread_t threads[kThreads];
  std::atomic<int> wrong{0};
  for (pthread_t &thread : threads) {
    assert_int_equal(pthread_create(&thread, nullptr, throw_often, &wrong), 0);
  }
  for (const pthread_t thread : threads) assert_int_equal(pthread_join(thread, nullptr), 0);
  assert_int_equal(wrong.load(), 0);
  assert_int_equal(alive.load(), 0);
}

// What the caller keeps in registers is there after an exception.
void test_registers(void **) {
  volatile int source = 3;
  const int a = source, b = a * a, c = b + a, d = c * b, e = d - a, f = e ^ b;
  const double x = a / 7.0;
  What what = kClass;
  assert_false(pega_foreign_call(run, &what, nullptr, 0));
  assert_int_equal(a + b + c + d + e + f, 3 + 9 + 12 + 108 + 105 + (105 ^ 9));
  assert_true(x == source / 7.0);
}

}  // namespace

int main() {
  const CMUnitTest tests[] = {
      cmocka_unit_test(test_types),   cmocka_unit_test(test_room),
      cmocka_unit_test(test_nested),  cmocka_unit_test(test_while_another_is_handled),
      cmocka_unit_test(test_many),    cmocka_unit_test(test_forced_unwinding),
      cmocka_unit_test(test_threads), cmocka_unit_test(test_registers),
  };
  return cmocka_run_group_tests_name("foreign call", tests, nullptr, nullptr);
}
