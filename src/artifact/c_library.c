/* SPDX-License-Identifier: Apache-2.0 */
/* Libraries of plain C functions: loading, and calling as the signature file says. */
#include "c_library.h"

#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "c_signature.h"
#include "core/hot.h"
#include "core/text.h"
#include "device.h"
#include "foreign_call.h"
#include "plain_call.h"

/* What functions share; counted, as they outlive the library that is closed. */
typedef struct shared {
  _Atomic uint32_t refs;
  pega_arena arena;
  pega_c_signature signature;
  pega_c_library_guard guard; /* begin is NULL: none */
  void *handle;               /* the library; never closed */
} shared;

/* A function that is bound to its symbols. */
typedef struct bound {
  const pega_c_function *about;
  const void *address;
  const char *(*last_error)(void); /* or NULL */
  shared *owner;
  bool uses_cuda; /* by the signature file, or because there is a guard */
} bound;

struct pega_c_library {
  shared *shared;
  pega_function **functions; /* in the order of the signature; NULL before loading */
};

static void release(shared *owner) {
  if (atomic_fetch_sub_explicit(&owner->refs, 1, memory_order_acq_rel) != 1) return;
  pega_arena_free(&owner->arena);
  free(owner);
}

/* ---- Failures ---- */

#define COLD __attribute__((cold, noinline))

/* A library that is in the process, by its name, or NULL. */
static void *find_loaded(const char *name) { return dlopen(name, RTLD_LAZY | RTLD_NOLOAD); }

/* "CUDA_ERROR_INVALID_VALUE: invalid argument", or nothing where no one knows. */
static void describe_cuda(const bound *function, int32_t code, char *text, size_t size) {
  const bool driver = function->about->domain == kDomainCudaDriver;
  static const char *const names[2][2] = {{"cudaGetErrorName", "cudaGetErrorString"},
                                          {"cuGetErrorName", "cuGetErrorString"}};
  void *library = driver ? find_loaded("libcuda.so.1") : function->owner->handle;
  pega_text out = {text, size, 0};
  for (int i = 0; library != NULL && i < 2; ++i) {
    void *found = dlsym(library, names[driver][i]);
    const char *said = NULL;
    if (driver) {
      int (*get)(int code, const char **out);
      memcpy(&get, &found, sizeof found);
      if (found == NULL || get(code, &said) != 0) said = NULL;
    } else {
      const char *(*get)(int code);
      memcpy(&get, &found, sizeof found);
      if (found != NULL) said = get(code);
    }
    if (said != NULL) pega_text_printf(&out, "%s%s", i == 0 ? " (" : ": ", said);
    if (i == 0 && said == NULL) break;
    if (i == 1) pega_text_append(&out, ")", 1);
  }
  if (driver && library != NULL) dlclose(library);
}

static void describe_errno(int32_t code, char *text, size_t size) {
  char room[128];
  /* Both "returns errno" and "returns minus errno" are common. */
  const int number = code < 0 && code > INT32_MIN ? -code : code;
  snprintf(text, size, " (%s)", strerror_r(number, room, sizeof room));
}

typedef struct last_error_call {
  const char *(*get)(void);
  const char *text;
} last_error_call;

static void ask_last_error(void *data) {
  last_error_call *call = data;
  call->text = call->get();
}

COLD static pega_status returned_failure(const bound *function, int32_t code, pega_error *error) {
  char text[512] = "", what[kForeignWhatRoom] = "";
  const pega_c_function *about = function->about;
  const bool cuda = about->domain == kDomainCudaDriver || about->domain == kDomainCudaRuntime;
  last_error_call ask = {function->last_error, NULL};
  if (ask.get != NULL) pega_foreign_call(ask_last_error, &ask, what, sizeof what);
  if (cuda) describe_cuda(function, code, text, sizeof text);
  if (about->domain == kDomainErrno) describe_errno(code, text, sizeof text);
  const pega_status status = cuda && code == 2 ? PEGA_ERROR_OUT_OF_MEMORY
                             : cuda            ? PEGA_ERROR_DRIVER
                                               : PEGA_ERROR_CALLEE;
  pega_error_set(error, status, NULL, "%s: %s of %s returned %" PRId32 "%s%s%.4000s", about->name,
                 about->symbol, function->owner->signature.library, code, text,
                 ask.text == NULL ? "" : ": ", ask.text == NULL ? "" : ask.text);
  if (error != NULL) error->code = code;
  return status;
}

COLD static pega_status threw(const bound *function, const char *what, pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_CALLEE, NULL,
                        "%s: an exception left %s of %s: %s; a C function must not throw",
                        function->about->name, function->about->symbol,
                        function->owner->signature.library, what);
}

COLD static pega_status does_not_fit(const bound *function, const pega_c_argument *argument,
                                     int64_t number, pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_RANGE, NULL,
                        "%s: '%s' of %s = %s = %" PRId64 " does not fit its %s (%" PRId64
                        " to %" PRId64 ")",
                        function->about->name, argument->name, function->about->symbol,
                        argument->value.size == 0 ? "a size" : argument->value.text, number,
                        pega_c_type_name(argument->type), argument->min, argument->max);
}

COLD static pega_status cannot_enter(const bound *function, int32_t device, int code,
                                     pega_error *error) {
  pega_error_set(error, PEGA_ERROR_DRIVER, NULL,
                 "%s: the context of cuda:%" PRId32
                 ", where its tensors are, cannot be made current for %s of %s: CUresult %d",
                 function->about->name, device, function->about->symbol,
                 function->owner->signature.library, code);
  if (error != NULL) error->code = code;
  return PEGA_ERROR_DRIVER;
}

COLD static pega_status bad_text(const bound *function, const pega_c_argument *argument,
                                 const char *why, pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_RANGE, NULL, "%s: argument '%s': %s",
                        function->about->name, argument->name, why);
}

/* "W" where the shape has that name, else "shape(x, 0)"; of what an instruction loads. */
static void name_of_load(const pega_signature *signature, const pega_instruction *load,
                         pega_text *out) {
  const pega_param *param = &signature->params[load->arg];
  if (load->op == kOpInt || load->op == kOpAddress) {
    pega_text_printf(out, "%s", param->name);
    return;
  }
  const char *size = load->op == kOpShape ? param->shape : NULL;
  for (int dim = 0; size != NULL && dim < load->dim; ++dim) {
    size = strchr(size, ',');
    if (size != NULL) ++size;
  }
  if (size != NULL) size += strspn(size, " ");
  const size_t length = size == NULL ? 0 : strcspn(size, " ,");
  if (length > 1 || (length == 1 && ((*size | 32) >= 'a' && (*size | 32) <= 'z'))) {
    pega_text_append(out, size, length);
  } else {
    pega_text_printf(out, "%s(%s, %d)", load->op == kOpShape ? "shape" : "stride", param->name,
                     load->dim);
  }
}

/* What a constraint was computed from, each once: "W = 8256, HV = 32". */
static void describe_loads(const bound *function, const pega_expression *of, const pega_value *args,
                           pega_text *out) {
  for (int32_t i = 0; i < of->size; ++i) {
    const pega_instruction *load = &of->code[i];
    const pega_expression alone = {load, 1, of->text};
    int64_t number;
    bool again = load->op == kOpConstant || load->op > kOpStride;
    for (int32_t j = 0; j < i && !again; ++j) {
      const pega_instruction *other = &of->code[j];
      again = other->op == load->op && other->arg == load->arg && other->dim == load->dim;
    }
    if (again || pega_expression_evaluate(&alone, args, &number, NULL) != PEGA_OK) continue;
    if (out->size > 0) pega_text_append(out, ", ", 2);
    name_of_load(&function->about->signature, load, out);
    pega_text_printf(out, load->op == kOpAddress ? " = 0x%" PRIx64 : " = %" PRId64, number);
  }
}

COLD static pega_status does_not_hold(const bound *function, const pega_expression *constraint,
                                      const pega_value *args, pega_error *error) {
  char text[512] = "";
  pega_text out = {text, sizeof text, 0};
  pega_status status = PEGA_ERROR_RANGE;
  for (int32_t i = 0; i < constraint->size; ++i) {
    if (constraint->code[i].op == kOpShape) status = PEGA_ERROR_SHAPE;
  }
  describe_loads(function, constraint, args, &out);
  return pega_error_set(error, status, NULL, "%s: expected %s, got %s; it was not called",
                        function->about->name, constraint->text, text[0] == '\0' ? "0" : text);
}

/* ---- Arguments ---- */

/* What a call has on its stack. */
typedef struct frame {
  uint64_t words[kPlainStackAt + kMaxCArguments];
  const bound *function;
  pega_plain_result result;
} frame;

/* Where copies of texts go; only calls of functions with texts have one. */
typedef struct text_room {
  char *at, *end;
} text_room;

/* pega_value_as_tensor() and pega_tensor_data(), without a call for what is only pointed at. */
static inline const DLTensor *tensor_of(const pega_value *value) {
  return value->flags == 0 ? value->as.tensor : pega_value_as_tensor(value);
}

static inline uint64_t address_of(const pega_value *value) {
  const DLTensor *tensor = tensor_of(value);
  return (uint64_t)(uintptr_t)tensor->data + tensor->byte_offset;
}

static double number_of(const pega_value *value) {
  if (value->kind == PEGA_FLOAT) return value->as.f64;
  return value->kind == PEGA_UINT ? (double)value->as.u64 : (double)value->as.i64;
}

static uint64_t narrow(double number) {
  const float as_float = (float)number;
  uint64_t word = 0;
  memcpy(&word, &as_float, sizeof as_float);
  return word;
}

static uint64_t wide(double number) {
  uint64_t word;
  memcpy(&word, &number, sizeof word);
  return word;
}

static pega_status copy_text(const bound *function, const pega_c_argument *argument,
                             const pega_value *value, text_room *room, uint64_t *out,
                             pega_error *error) {
  size_t size = 0;
  const char *text = pega_value_as_string(value, &size);
  if (size > 0 && memchr(text, '\0', size) != NULL) {
    return bad_text(function, argument, "a NUL in the text: C would see its beginning alone",
                    error);
  }
  if (size >= (size_t)(room->end - room->at)) {
    return bad_text(function, argument, "the texts of a call have at most 4096 bytes together",
                    error);
  }
  *out = (uint64_t)(uintptr_t)room->at;
  if (size > 0) memcpy(room->at, text, size);
  room->at[size] = '\0';
  room->at += size + 1;
  return PEGA_OK;
}

/* What is computed. */
static pega_status compute(const bound *function, const pega_c_argument *argument,
                           const pega_value *args, uint64_t *out, pega_error *error) {
  int64_t number;
  if (argument->source == kFromSize) {
    number = tensor_of(&args[argument->arg])->shape[argument->dim];
  } else {
    pega_error inner = PEGA_ERROR_INIT;
    const pega_status status = pega_expression_evaluate(&argument->value, args, &number, &inner);
    if (status != PEGA_OK) {
      pega_error_set(error, status, NULL, "%s: '%s' of %s: %s", function->about->name,
                     argument->name, function->about->symbol, pega_error_message(&inner));
      pega_error_clear(&inner);
      return status;
    }
  }
  if (argument->type == kCF32 || argument->type == kCF64) {
    *out = argument->type == kCF32 ? narrow((double)number) : wide((double)number);
    return PEGA_OK;
  }
  if (number < argument->min || number > argument->max) {
    return does_not_fit(function, argument, number, error);
  }
  *out = (uint64_t)number;
  return PEGA_OK;
}

/* What no single argument's check can see. */
__attribute__((noinline)) static pega_status check_constraints(const bound *function,
                                                               const pega_value *args,
                                                               pega_error *error) {
  const pega_expression *at = function->about->constraints;
  const pega_expression *end = at + function->about->num_constraints;
  for (; at < end; ++at) {
    int64_t holds;
    pega_error inner = PEGA_ERROR_INIT;
    const pega_status status = pega_expression_evaluate(at, args, &holds, &inner);
    if (status != PEGA_OK) {
      pega_error_set(error, status, NULL, "%s: a constraint: %s", function->about->name,
                     pega_error_message(&inner));
      pega_error_clear(&inner);
      return status;
    }
    if (__builtin_expect(holds == 0, 0)) return does_not_hold(function, at, args, error);
  }
  return PEGA_OK;
}

static DLDevice device_of(const bound *function, const pega_value *args) {
  return tensor_of(&args[function->about->tensor])->device;
}

PEGA_HOT static pega_status place(frame *call, const pega_value *args, text_room *texts,
                                  pega_error *error) {
  const bound *function = call->function;
  const pega_c_argument *argument = function->about->arguments;
  const pega_c_argument *end = argument + function->about->num_arguments;
  if (__builtin_expect(function->about->num_constraints > 0, 0)) {
    const pega_status holds = check_constraints(function, args, error);
    if (holds != PEGA_OK) return holds;
  }
  for (; argument < end; ++argument) {
    uint64_t *word = &call->words[argument->place];
    const pega_value *value = argument->arg < 0 ? NULL : &args[argument->arg];
    if (argument->optional && value->kind == PEGA_NONE) {
      *word = argument->fallback;
      continue;
    }
    pega_status status = PEGA_OK;
    void *stream;
    switch (argument->source) {
      case kFromWord:
        *word = value->as.u64;
        break;
      case kFromTensor:
        *word = address_of(value);
        break;
      case kFromBool:
        *word = value->as.boolean ? 1 : 0;
        break;
      case kFromF32:
        *word = narrow(number_of(value));
        break;
      case kFromF64:
        *word = wide(number_of(value));
        break;
      case kFromText:
        status = copy_text(function, argument, value, texts, word, error);
        break;
      case kFromConstant:
        *word = argument->fallback;
        break;
      case kFromStream:
        status = pega_stream_get(device_of(function, args), &stream, error);
        if (status == PEGA_OK) *word = (uint64_t)(uintptr_t)stream;
        break;
      default:
        status = compute(function, argument, args, word, error);
        break;
    }
    if (status != PEGA_OK) return status;
  }
  return PEGA_OK;
}

/* ---- Calls ---- */

static void run(void *data) {
  frame *call = data;
  pega_plain_call(call->function->address, call->words, (size_t)call->function->about->num_stack,
                  &call->result);
}

/* The result of a function that does not return a status. */
static pega_status take_result(const frame *call, pega_value *result, pega_error *error) {
  const uint64_t word = call->result.word;
  float narrow_number;
  switch (call->function->about->result) {
    case kCI8:
      *result = pega_value_int((int8_t)word);
      return PEGA_OK;
    case kCI16:
      *result = pega_value_int((int16_t)word);
      return PEGA_OK;
    case kCI32:
      *result = pega_value_int((int32_t)word);
      return PEGA_OK;
    case kCI64:
      *result = pega_value_int((int64_t)word);
      return PEGA_OK;
    case kCU8:
      *result = pega_value_int((uint8_t)word);
      return PEGA_OK;
    case kCU16:
      *result = pega_value_int((uint16_t)word);
      return PEGA_OK;
    case kCU32:
      *result = pega_value_int((uint32_t)word);
      return PEGA_OK;
    case kCU64:
    case kCSize:
      *result = word > INT64_MAX ? pega_value_uint(word) : pega_value_int((int64_t)word);
      return PEGA_OK;
    case kCBool:
      *result = pega_value_bool((word & 0xff) != 0);
      return PEGA_OK;
    case kCF32:
      memcpy(&narrow_number, &call->result.number, sizeof narrow_number);
      *result = pega_value_float((double)narrow_number);
      return PEGA_OK;
    case kCF64:
      *result = pega_value_float(call->result.number);
      return PEGA_OK;
    case kCText:
      if (word == 0) return PEGA_OK;
      return pega_string_create((const char *)(uintptr_t)word,
                                strlen((const char *)(uintptr_t)word), result, error);
    case kCVoid:
      return PEGA_OK;
    default:
      *result = pega_value_pointer((const void *)(uintptr_t)word);
      return PEGA_OK;
  }
}

static inline pega_status run_placed(frame *call, pega_value *result, pega_error *error) {
  const bound *function = call->function;
  char what[kForeignWhatRoom];
  if (__builtin_expect(!pega_foreign_call(run, call, what, sizeof what), 0)) {
    return threw(function, what, error);
  }
  if (function->about->domain == kDomainNone) return take_result(call, result, error);
  const int32_t code = (int32_t)call->result.word;
  return __builtin_expect(code == 0, 1) ? PEGA_OK : returned_failure(function, code, error);
}

/* The same with the library's guard around it. */
static pega_status run_guarded(frame *call, pega_value *result, pega_error *error) {
  _Alignas(16) unsigned char room[kCLibraryGuardRoom];
  const pega_c_library_guard *guard = &call->function->owner->guard;
  if (guard->begin == NULL) return run_placed(call, result, error);
  pega_status status = guard->begin(guard->self, room, error);
  if (status != PEGA_OK) return status;
  status = run_placed(call, result, error);
  return guard->end(guard->self, call->function->about->name, room, status, error);
}

/* And that in the context of the device that the tensors are on, whichever is current. */
__attribute__((noinline)) static pega_status run_cuda(frame *call, const pega_value *args,
                                                      pega_value *result, pega_error *error) {
  if (call->function->about->tensor < 0) return run_guarded(call, result, error);
  const DLDevice device = device_of(call->function, args);
  if (device.device_type != kDLCUDA) return run_guarded(call, result, error);
  pega_device_entered entered;
  int code = pega_device_enter(device.device_id, &entered);
  if (__builtin_expect(code != 0, 0)) {
    return cannot_enter(call->function, device.device_id, code, error);
  }
  const pega_status status = run_guarded(call, result, error);
  if (entered.context != NULL) pega_device_leave(&entered);
  return status;
}

PEGA_HOT static pega_status call_plain(void *self, const pega_value *args, int32_t num_args,
                                       pega_value *result, pega_error *error) {
  (void)num_args;
  frame call;
  call.function = self;
  const pega_status status = place(&call, args, NULL, error);
  if (__builtin_expect(status != PEGA_OK, 0)) return status;
  if (call.function->uses_cuda) return run_cuda(&call, args, result, error);
  return run_placed(&call, result, error);
}

static pega_status call_with_texts(void *self, const pega_value *args, int32_t num_args,
                                   pega_value *result, pega_error *error) {
  (void)num_args;
  char room[kMaxCText];
  text_room texts = {room, room + sizeof room};
  frame call;
  call.function = self;
  const pega_status status = place(&call, args, &texts, error);
  if (status != PEGA_OK) return status;
  if (call.function->uses_cuda) return run_cuda(&call, args, result, error);
  return run_placed(&call, result, error);
}

static void delete_bound(void *self) {
  bound *function = self;
  release(function->owner);
  free(function);
}

/* ---- Reading and loading ---- */

pega_status pega_c_library_read(const pega_elf *file, const char *signature_path,
                                pega_c_library **out, pega_error *error) {
  if (file == NULL || signature_path == NULL || out == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_c_library_read: %s is NULL",
                          file == NULL             ? "file"
                          : signature_path == NULL ? "signature_path"
                                                   : "out");
  }
  pega_c_library *library = calloc(1, sizeof *library);
  shared *made = calloc(1, sizeof *made);
  if (library == NULL || made == NULL) {
    free(library);
    free(made);
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "%s: no memory for its functions",
                          file->path);
  }
  atomic_init(&made->refs, 1);
  library->shared = made;
  const pega_status status =
      pega_c_signature_read(file, signature_path, &made->arena, &made->signature, error);
  if (status != PEGA_OK) {
    pega_c_library_close(library);
    return status;
  }
  *out = library;
  return PEGA_OK;
}

pega_c_library_needs pega_c_library_needs_of(const pega_c_library *library) {
  return library->shared->signature.needs;
}

static void release_functions(pega_c_library *library, pega_function **functions) {
  for (int32_t i = 0; functions != NULL && i < library->shared->signature.num_functions; ++i) {
    pega_function_release(functions[i]);
  }
  free(functions);
}

void pega_c_library_close(pega_c_library *library) {
  if (library == NULL) return;
  release_functions(library, library->functions);
  release(library->shared);
  free(library);
}

/* What a symbol of the loaded library is. It was there when the file was read. */
static pega_status find(const shared *owner, const char *symbol, void **out, pega_error *error) {
  *out = dlsym(owner->handle, symbol);
  if (*out != NULL) return PEGA_OK;
  return pega_error_set(
      error, PEGA_ERROR_SYMBOL, NULL,
      "%s: symbol '%s' was in the file and is not in the loaded library: the file "
      "has changed",
      owner->signature.library, symbol);
}

static pega_status bind(shared *owner, const pega_c_function *about, pega_function **out,
                        pega_error *error) {
  void *address, *last_error = NULL;
  pega_status status = find(owner, about->symbol, &address, error);
  if (status == PEGA_OK && about->last_error != NULL) {
    status = find(owner, about->last_error, &last_error, error);
  }
  if (status != PEGA_OK) return status;
  bound *function = calloc(1, sizeof *function);
  if (function == NULL) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "no memory for function '%s'",
                          about->name);
  }
  function->about = about;
  function->address = address;
  memcpy(&function->last_error, &last_error, sizeof last_error);
  function->owner = owner;
  function->uses_cuda = owner->signature.needs.uses_cuda || owner->guard.begin != NULL;
  pega_function_options options = PEGA_FUNCTION_OPTIONS_INIT;
  options.name = about->name;
  options.doc = about->doc;
  options.signature = &about->signature;
  options.call = about->has_text ? call_with_texts : call_plain;
  options.self = function;
  options.deleter = delete_bound;
  status = pega_function_create(&options, out, error);
  if (status != PEGA_OK) {
    free(function);
    return status;
  }
  atomic_fetch_add_explicit(&owner->refs, 1, memory_order_relaxed);
  return PEGA_OK;
}

static pega_status check_driver(const pega_c_signature *signature, pega_error *error) {
  const int32_t wanted = signature->needs.cuda_driver;
  if (wanted == 0) return PEGA_OK;
  void *driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (driver == NULL) {
    const char *why = dlerror();
    return pega_error_set(error, PEGA_ERROR_NOT_FOUND, NULL,
                          "%s needs a CUDA driver of version %d.%d or later, and there is none: %s",
                          signature->library, wanted / 1000, wanted % 1000 / 10,
                          why == NULL ? "no reason given" : why);
  }
  int (*get_version)(int *version);
  int version = 0;
  void *found = dlsym(driver, "cuDriverGetVersion");
  memcpy(&get_version, &found, sizeof found);
  /* The driver stays in the process: others may hold what it gave them. */
  if (found == NULL || get_version(&version) != 0) version = 0;
  if (version >= wanted) return PEGA_OK;
  return pega_error_set(error, PEGA_ERROR_VERSION, NULL,
                        "%s needs a CUDA driver of version %d.%d or later, and this one is %d.%d: "
                        "install a newer driver",
                        signature->library, wanted / 1000, wanted % 1000 / 10, version / 1000,
                        version % 1000 / 10);
}

/* Loads the file so that everything it needs is found now and not at its first call, where the loader would end
 * the process. */
static pega_status load(shared *owner, pega_error *error) {
  char why[kForeignWhyRoom];
  bool threw;
  const char *path = owner->signature.library;
  owner->handle =
      pega_foreign_load(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE, &threw, why, sizeof why);
  if (owner->handle != NULL) return PEGA_OK;
  return pega_error_set(error, threw ? PEGA_ERROR_CALLEE : PEGA_ERROR_IO, NULL,
                        "%s cannot be loaded: %s", path, why);
}

pega_status pega_c_library_load(pega_c_library *library, const pega_c_library_guard *guard,
                                pega_error *error) {
  if (library == NULL || library->functions != NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL, "pega_c_library_load: %s",
                          library == NULL ? "library is NULL" : "the library is loaded already");
  }
  shared *owner = library->shared;
  const pega_c_signature *signature = &owner->signature;
  pega_status status = check_driver(signature, error);
  if (status != PEGA_OK) return status;
  pega_function **functions = calloc((size_t)signature->num_functions, sizeof *functions);
  if (functions == NULL) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "%s: no memory for its functions",
                          signature->library);
  }
  if (signature->needs.uses_cuda || guard != NULL) pega_device_prepare();
  if (guard != NULL) owner->guard = *guard;
  status = load(owner, error);
  for (int32_t i = 0; i < signature->num_functions && status == PEGA_OK; ++i) {
    status = bind(owner, &signature->functions[i], &functions[i], error);
  }
  if (status != PEGA_OK) {
    release_functions(library, functions);
    return status;
  }
  library->functions = functions;
  return PEGA_OK;
}

pega_status pega_c_library_open(const pega_elf *file, const char *signature_path,
                                pega_c_library **out, pega_error *error) {
  pega_c_library *library;
  pega_status status = pega_c_library_read(file, signature_path, &library, error);
  if (status != PEGA_OK) return status;
  status = pega_c_library_load(library, NULL, error);
  if (status != PEGA_OK) {
    pega_c_library_close(library);
    return status;
  }
  *out = library;
  return PEGA_OK;
}

/* ---- Its functions ---- */

pega_status pega_c_library_list(const pega_c_library *library, pega_value *out, pega_error *error) {
  if (library == NULL || out == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_c_library_list: %s is NULL", library == NULL ? "library" : "out");
  }
  const pega_c_signature *signature = &library->shared->signature;
  pega_value *names = calloc((size_t)signature->num_functions, sizeof *names);
  if (names == NULL) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "no memory for %" PRId32 " names",
                          signature->num_functions);
  }
  for (int32_t i = 0; i < signature->num_functions; ++i) {
    names[i] = pega_value_string(signature->functions[i].name);
  }
  const pega_status status = pega_array_create(names, signature->num_functions, out, error);
  free(names);
  return status;
}

static const char *name_at(const void *self, size_t index) {
  return ((const pega_c_signature *)self)->functions[index].name;
}

static int compare_name(const void *name, const void *function) {
  return strcmp(name, ((const pega_c_function *)function)->name);
}

pega_status pega_c_library_get(const pega_c_library *library, const char *name, pega_function **out,
                               pega_error *error) {
  if (library == NULL || name == NULL || out == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "pega_c_library_get: %s is NULL",
                          library == NULL ? "library"
                          : name == NULL  ? "name"
                                          : "out");
  }
  const pega_c_signature *signature = &library->shared->signature;
  if (library->functions == NULL) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL, "%s is not loaded",
                          signature->library);
  }
  const pega_c_function *found = bsearch(
      name, signature->functions, (size_t)signature->num_functions, sizeof *found, compare_name);
  if (found != NULL) {
    *out = pega_function_retain(library->functions[found - signature->functions]);
    return PEGA_OK;
  }
  char shown[96];
  const char *nearest =
      pega_text_nearest(name, (size_t)signature->num_functions, name_at, signature);
  return pega_error_set(error, PEGA_ERROR_NOT_FOUND, NULL, "%s has no function '%s'%s%s%s",
                        signature->source, pega_text_short_name(name, shown),
                        nearest == NULL ? "" : "; the nearest is '", nearest == NULL ? "" : nearest,
                        nearest == NULL ? "" : "'");
}
