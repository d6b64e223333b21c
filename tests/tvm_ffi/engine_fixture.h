/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file engine_fixture.h
 * \brief A small inference engine's side, in plain C on pega's headers: what the conversations with
 *        Python, C++ and C talk to.
 *
 * Functions, all named engine.<name>: add(a, b), scale(x, y, factor), describe(...), echo(x),
 * apply(f, ...), apply_on_thread(f, ...), wrap(f, ...), call_global(name, ...), fail(kind, message),
 * fail_silently(), fail_caused(), make_tensor(n), live_tensors(), make_adder(n), live_adders(),
 * hold(x), get_held(), release_held_on_thread(), current_stream(device).
 */
#ifndef PEGA_TESTS_ENGINE_FIXTURE_H_
#define PEGA_TESTS_ENGINE_FIXTURE_H_

#include <pega/pega.h>
#include <pega/tvm_ffi.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ENGINE_API __attribute__((visibility("default")))

/** Puts the engine's functions into pega's registry; a number of them, or -1 on failure. */
ENGINE_API int engine_add_to_registry(void);

/**
 * The same, then opens the runtime that is in the process (or the build's) and exports them as TVM
 * FFI globals. The number exported, or -1 with the reason in `reason`.
 */
ENGINE_API int engine_export(char *reason, size_t capacity);

#ifdef __cplusplus
}
#endif
#endif /* PEGA_TESTS_ENGINE_FIXTURE_H_ */
