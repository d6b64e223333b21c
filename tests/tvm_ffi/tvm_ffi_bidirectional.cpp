/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The conversation in both directions, held by a C++17 program on tvm-ffi's own C++ headers: it calls
 * what the engine (plain C, engine_fixture.c) exports, and the engine calls functions, classes and
 * lambdas of C++. Errors are C++ exceptions here and pega errors there.
 */
#include "engine_fixture.h"

#include <tvm/ffi/container/array.h>
#include <tvm/ffi/container/map.h>
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/error.h>
#include <tvm/ffi/function.h>
#include <tvm/ffi/reflection/registry.h>
#include <tvm/ffi/string.h>

#include <cstdlib>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

namespace ffi = tvm::ffi;

namespace {

constexpr const char *kEngineCalls = "engine -> TVM FFI";
constexpr const char *kCppCalls = "TVM FFI -> engine";

int num_lines = 0;
int num_wrong = 0;

template <typename Got, typename Expected>
void Say(const char *direction, const std::string &what, const Got &got, const Expected &expected) {
  std::ostringstream text;
  std::ostringstream wanted;
  text << std::boolalpha << got;
  wanted << std::boolalpha << expected;
  std::cout << direction << "  " << what << " = " << text.str() << "\n";
  if (text.str() != wanted.str()) {
    std::cout << "   WRONG: expected " << wanted.str() << "\n";
    num_wrong++;
  }
  num_lines++;
}

template <typename Call>
void SayError(const char *direction, const std::string &what, const Call &call,
              const std::string &kind, const std::string &part) {
  std::string got_kind = "nothing";
  std::string message;
  try {
    call();
  } catch (const ffi::Error &error) {
    got_kind = error.kind();
    message = error.message();
  }
  std::cout << direction << "  " << what << " throws " << got_kind << ": " << message << "\n";
  if (got_kind != kind || message.find(part) == std::string::npos) {
    std::cout << "   WRONG: expected " << kind << ": ..." << part << "...\n";
    num_wrong++;
  }
  num_lines++;
}

ffi::Function Engine(const std::string &name) {
  return ffi::Function::GetGlobalRequired("engine." + name);
}

/* Memory of a std::vector as a TVM FFI tensor. */
struct VectorAllocator {
  std::vector<float> *memory;
  void AllocData(DLTensor *tensor) { tensor->data = memory->data(); }
  void FreeData(DLTensor *) {}
};

ffi::Tensor TensorOf(std::vector<float> *memory) {
  return ffi::Tensor::FromNDAlloc(VectorAllocator{memory},
                                  ffi::Shape({static_cast<int64_t>(memory->size())}),
                                  DLDataType{kDLFloat, 32, 1}, DLDevice{kDLCPU, 0});
}

std::string Floats(const std::vector<float> &numbers) {
  std::ostringstream text;
  for (size_t i = 0; i < numbers.size(); i++) text << (i == 0 ? "[" : ", ") << numbers[i];
  text << "]";
  return text.str();
}

/* ---- C++ calls the engine ---- */

void CppCalls() {
  Say(kCppCalls, "engine.add(40, 2)", Engine("add")(40, 2).cast<int64_t>(), 42);

  std::vector<float> x = {1, 2, 3};
  std::vector<float> y = {0, 0, 0};
  Engine("scale")(TensorOf(&x), TensorOf(&y), 2.5);
  Say(kCppCalls, "engine.scale(Tensor, by 2.5)", Floats(y), "[2.5, 5, 7.5]");
  ffi::Tensor from = TensorOf(&x);
  ffi::Tensor to = TensorOf(&y);
  DLTensor *from_view = const_cast<DLTensor *>(from.GetDLTensorPtr());
  DLTensor *to_view = const_cast<DLTensor *>(to.GetDLTensorPtr());
  Engine("scale")(from_view, to_view, 10);
  Say(kCppCalls, "engine.scale(DLTensor*, by 10)", Floats(y), "[10, 20, 30]");

  auto echo = Engine("echo");
  Say(kCppCalls, "engine.echo(\"text\")",
      std::string(echo(ffi::String("a text of some length")).cast<ffi::String>()),
      "a text of some length");
  ffi::Array<int64_t> array = echo(ffi::Array<int64_t>{1, 2, 39}).cast<ffi::Array<int64_t>>();
  Say(kCppCalls, "engine.echo(Array(1, 2, 39))", array[0] + array[1] + array[2], 42);
  auto map = echo(ffi::Map<ffi::String, int64_t>{{"forty", 40}, {"two", 2}})
                 .cast<ffi::Map<ffi::String, int64_t>>();
  Say(kCppCalls, "engine.echo(Map(forty, two))", map["forty"] + map["two"], 42);

  {
    ffi::Tensor made = Engine("make_tensor")(4).cast<ffi::Tensor>();
    Say(kCppCalls, "engine.make_tensor(4)", static_cast<float *>(made.data_ptr())[3], 3);
    Say(kCppCalls, "tensors alive, while held", Engine("live_tensors")().cast<int64_t>(), 1);
  }
  Say(kCppCalls, "tensors alive, after", Engine("live_tensors")().cast<int64_t>(), 0);
  {
    ffi::Function adder = Engine("make_adder")(40).cast<ffi::Function>();
    Say(kCppCalls, "engine.make_adder(40)(2)", adder(2).cast<int64_t>(), 42);
  }
  Say(kCppCalls, "adders alive, after", Engine("live_adders")().cast<int64_t>(), 0);
}

/* ---- the engine calls C++ ---- */

int64_t Multiply(int64_t a, int64_t b) { return a * b; }

void EngineCalls() {
  ffi::reflection::GlobalDef().def("client.multiply", Multiply, "Multiplies two integers.");
  Say(kEngineCalls, "the global client.multiply(6, 7)",
      Engine("call_global")("client.multiply", 6, 7).cast<int64_t>(), 42);

  auto lambda = ffi::Function::FromTyped([](int64_t a) -> int64_t { return a + 1; });
  Say(kEngineCalls, "a lambda", Engine("apply")(lambda, 41).cast<int64_t>(), 42);
  Say(kEngineCalls, "a lambda, on a thread", Engine("apply_on_thread")(lambda, 41).cast<int64_t>(),
      42);

  std::vector<float> x = {1, 2, 3};
  auto twice = ffi::Function::FromTyped([](ffi::TensorView view) {
    for (int64_t i = 0; i < view.size(0); i++) static_cast<float *>(view.data_ptr())[i] *= 2;
  });
  Engine("apply")(twice, TensorOf(&x));
  Say(kEngineCalls, "a lambda on a tensor", Floats(x), "[2, 4, 6]");

  /* What a lambda holds is let go on the thread that gives back the last reference. */
  auto token = std::make_shared<int>(7);
  {
    auto holder = ffi::Function::FromTyped([token]() -> int64_t { return *token; });
    Engine("hold")(holder);
  }
  Say(kEngineCalls, "a lambda that the engine keeps",
      Engine("get_held")().cast<ffi::Function>()().cast<int64_t>(), 7);
  Engine("release_held_on_thread")();
  Say(kEngineCalls, "and lets go, so its holders are", token.use_count(), 1);
}

/* ---- errors ---- */

void Errors() {
  SayError(
      kCppCalls, "engine.fail(\"KeyError\", ...)",
      [] { Engine("fail")("KeyError", "no such sequence"); }, "KeyError", "no such sequence");
  SayError(
      kCppCalls, "engine.add(1, \"2\")", [] { Engine("add")(1, "2"); }, "TypeError", "'b'");
  SayError(
      kCppCalls, "engine.fail_silently()", [] { Engine("fail_silently")(); }, "InternalError",
      "engine.fail_silently");

  auto refuse = ffi::Function::FromTyped(
      [](int64_t number) { TVM_FFI_THROW(IndexError) << "no item " << number; });
  SayError(
      kEngineCalls, "a lambda that throws, through the engine", [&] { Engine("apply")(refuse, 7); },
      "IndexError", "no item 7");

  /* C++ -> engine -> C++ -> engine -> C++: the cause survives, the kind is the engine's. */
  auto wrap = ffi::Function::FromTyped([&refuse]() { Engine("wrap")(refuse, 12); });
  std::string cause = "none";
  try {
    Engine("apply")(wrap);
  } catch (const ffi::Error &error) {
    std::optional<ffi::Error> inner = error.cause_chain();
    Say(kCppCalls, "the error of a step that C++ made fail", error.message(),
        std::string("the engine's step failed"));
    if (inner.has_value()) cause = inner->kind() + ": " + inner->message();
  }
  Say(kCppCalls, "and its cause", cause, "IndexError: no item 12");
}

}  // namespace

int main() {
  char reason[1024];
  if (engine_export(reason, sizeof reason) < 0) {
    std::cout << "the engine cannot export: " << reason << "\n";
    return 1;
  }
  CppCalls();
  EngineCalls();
  Errors();
  std::cout << "C++: " << num_lines << " exchanges, " << num_wrong << " wrong\n";
  return num_wrong == 0 ? 0 : 1;
}
