/* SPDX-License-Identifier: Apache-2.0 */
/* The fixture module's failures: every way in which a TVM FFI function fails or seems to. */
#include "fixture.h"

/* Not in every runtime: then it is NULL and errors have no cause. */
#pragma weak TVMFFIErrorCreateWithCauseAndExtraContext

#define TRACEBACK "  File \"fixture_errors.c\", line 1, in fixture_raise\n"

static int raise_text(const TVMFFIByteArray *kind, const TVMFFIByteArray *message) {
  TVMFFIByteArray traceback = {TRACEBACK, sizeof(TRACEBACK) - 1};
  TVMFFIObjectHandle error = NULL;
  if (TVMFFIErrorCreate(kind, message, &traceback, &error) != 0) return -1;
  TVMFFIErrorSetRaised(error);
  TVMFFIObjectDecRef(error);
  return -1;
}

/* raise(kind, message) */
FIXTURE_EXPORT(raise) {
  TVMFFIByteArray kind;
  TVMFFIByteArray message;
  if (num_args != 2 || !fixture_text(&args[0], &kind) || !fixture_text(&args[1], &message)) {
    return fixture_fail("TypeError", "raise: expected two strings");
  }
  return raise_text(&kind, &message);
}

/* raise_chain(depth): "level 0" caused by "level 1" ... caused by "level depth". */
FIXTURE_EXPORT(raise_chain) {
  if (num_args != 1 || args[0].type_index != kTVMFFIInt || args[0].v_int64 < 0 ||
      args[0].v_int64 > 9) {
    return fixture_fail("TypeError", "raise_chain: expected a depth from 0 to 9");
  }
  if (TVMFFIErrorCreateWithCauseAndExtraContext == NULL) {
    return fixture_fail("NotImplementedError", "raise_chain: errors of this runtime have no cause");
  }
  TVMFFIObjectHandle error = NULL;
  for (int64_t level = args[0].v_int64; level >= 0; level--) {
    char text[] = "level 0";
    text[6] = (char)('0' + level);
    TVMFFIByteArray kind = {"ValueError", 10};
    TVMFFIByteArray message = {text, sizeof text - 1};
    TVMFFIByteArray traceback = {TRACEBACK, sizeof(TRACEBACK) - 1};
    TVMFFIObjectHandle cause = error;
    int status =
        TVMFFIErrorCreateWithCauseAndExtraContext(&kind, &message, &traceback, cause, NULL, &error);
    if (cause != NULL) TVMFFIObjectDecRef(cause);
    if (status != 0) return -1;
  }
  TVMFFIErrorSetRaised(error);
  TVMFFIObjectDecRef(error);
  return -1;
}

/* -1 with nothing raised. */
FIXTURE_EXPORT(fail_silently) { return -1; }

/* -2: an error that the frontend (say Python) has already noted by itself. */
FIXTURE_EXPORT(fail_frontend) { return -2; }

/* A number that the calling convention does not know. */
FIXTURE_EXPORT(fail_strangely) { return 42; }

static int fail_with_code(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)args;
  (void)num_args;
  (void)result;
  return (int)(intptr_t)self;
}

/* make_failing(code): a function object that returns this number and raises nothing. The three above
 * are called through their module, which may put a number of its own in the place of theirs. */
FIXTURE_EXPORT(make_failing) {
  if (num_args != 1 || args[0].type_index != kTVMFFIInt) {
    return fixture_fail("TypeError", "make_failing: expected a number");
  }
  TVMFFIObjectHandle function = NULL;
  void *code = (void *)(intptr_t)args[0].v_int64;
  if (TVMFFIFunctionCreate(code, fail_with_code, NULL, &function) != 0) return -1;
  fixture_return_object(result, function);
  return 0;
}

/* Succeeds, but leaves an error behind that belongs to nobody. */
FIXTURE_EXPORT(leave_stale_error) {
  TVMFFIErrorSetRaisedFromCStr("StaleError", "a stale error that nobody should see");
  fixture_return_int(result, 7);
  return 0;
}

/* take_raised(): drops the thread's raised error; whether there was one. */
FIXTURE_EXPORT(take_raised) {
  TVMFFIObjectHandle error = NULL;
  TVMFFIErrorMoveFromRaised(&error);
  fixture_return_bool(result, error != NULL);
  if (error != NULL) TVMFFIObjectDecRef(error);
  return 0;
}

/* ---- an error object that the fixture keeps, to see who else does ---- */

static TVMFFIObjectHandle kept;

/* raise_kept(): raises one error object of which the fixture keeps a reference. */
FIXTURE_EXPORT(raise_kept) {
  if (kept == NULL) {
    TVMFFIByteArray kind = {"ValueError", 10};
    TVMFFIByteArray message = {"the kept error", 14};
    TVMFFIByteArray traceback = {TRACEBACK, sizeof(TRACEBACK) - 1};
    if (TVMFFIErrorCreate(&kind, &message, &traceback, &kept) != 0) return -1;
  }
  TVMFFIErrorSetRaised(kept);
  return -1;
}

/* kept_references(): 1 when nobody but the fixture holds the kept error. */
FIXTURE_EXPORT(kept_references) {
  fixture_return_int(result, kept == NULL ? 0 : fixture_references(kept));
  return 0;
}

FIXTURE_EXPORT(drop_kept) {
  if (kept != NULL) TVMFFIObjectDecRef(kept);
  kept = NULL;
  return 0;
}

/* Whether the function in args[0] fails with the very object that lies in *expected then. */
static int fails_with(const TVMFFIAny *args, int32_t num_args, const TVMFFIObjectHandle *expected,
                      TVMFFIAny *result) {
  if (!fixture_is_function(args, num_args, 0)) {
    return fixture_fail("TypeError", "expected a function");
  }
  TVMFFIAny ignored = {0};
  if (fixture_call(args[0].v_obj, NULL, 0, &ignored) == 0) {
    fixture_release(&ignored);
    return fixture_fail("RuntimeError", "the function did not fail");
  }
  TVMFFIObjectHandle error = NULL;
  TVMFFIErrorMoveFromRaised(&error);
  fixture_return_bool(result, error != NULL && error == *expected);
  if (error != NULL) TVMFFIObjectDecRef(error);
  return 0;
}

/* raises_kept(f): whether f() fails with the kept error object itself, not with a copy. */
FIXTURE_EXPORT(raises_kept) { return fails_with(args, num_args, &kept, result); }

/* Where the last object of raise_unkept() lay: compared, never followed. */
static TVMFFIObjectHandle unkept;

/* raise_unkept(): raises an error object to which nobody else has a reference. */
FIXTURE_EXPORT(raise_unkept) {
  TVMFFIByteArray kind = {"ValueError", 10};
  TVMFFIByteArray message = {"the unkept error", 16};
  TVMFFIByteArray traceback = {TRACEBACK, sizeof(TRACEBACK) - 1};
  if (TVMFFIErrorCreate(&kind, &message, &traceback, &unkept) != 0) return -1;
  TVMFFIErrorSetRaised(unkept);
  TVMFFIObjectDecRef(unkept);
  return -1;
}

/* raises_unkept(f): whether f() fails with the object that raise_unkept() made in it. */
FIXTURE_EXPORT(raises_unkept) { return fails_with(args, num_args, &unkept, result); }

/* ---- what a failing callback looks like from this side ---- */

#define MAX_CAUGHT 64

static const TVMFFIErrorCell *error_cell(TVMFFIObjectHandle error) {
  return (const TVMFFIErrorCell *)((const char *)error + sizeof(TVMFFIObject));
}

/* catch(f, ...): None if f succeeds, else Array(kind, message, traceback, kind and message of the
 * cause, of the cause's cause, ...). A failure with nothing raised gives Array("", "", ""). */
FIXTURE_EXPORT(catch) {
  if (!fixture_is_function(args, num_args, 0)) {
    return fixture_fail("TypeError", "catch: argument 0 must be a function");
  }
  TVMFFIAny value = {0};
  if (fixture_call(args[0].v_obj, args + 1, num_args - 1, &value) == 0) {
    fixture_release(&value);
    return 0;
  }
  TVMFFIObjectHandle error = NULL;
  TVMFFIErrorMoveFromRaised(&error);
  TVMFFIByteArray texts[MAX_CAUGHT] = {{"", 0}, {"", 0}, {"", 0}};
  int32_t count = 3;
  if (error != NULL) {
    const TVMFFIErrorCell *cell = error_cell(error);
    texts[0] = cell->kind;
    texts[1] = cell->message;
    texts[2] = cell->backtrace;
    /* The cell ends before the cause in runtimes that cannot make one. */
    bool has_cause = TVMFFIErrorCreateWithCauseAndExtraContext != NULL;
    while (has_cause && cell->cause_chain != NULL && count + 2 <= MAX_CAUGHT) {
      cell = error_cell(cell->cause_chain);
      texts[count++] = cell->kind;
      texts[count++] = cell->message;
    }
  }
  TVMFFIAny items[MAX_CAUGHT] = {{0}};
  int status = 0;
  for (int32_t i = 0; i < count && status == 0; i++) {
    status = TVMFFIStringFromByteArray(&texts[i], &items[i]);
  }
  if (status == 0) status = fixture_call_global("ffi.Array", items, count, result);
  for (int32_t i = 0; i < count; i++) fixture_release(&items[i]);
  if (error != NULL) TVMFFIObjectDecRef(error);
  return status;
}
