/* SPDX-License-Identifier: Apache-2.0 */
/* A frame that catches every exception, without a C++ compiler: its own personality routine claims the
 * exception when the unwinder looks for a handler, and goes on behind the call when it comes back. Written
 * against the Itanium C++ ABI's exception handling, as the unwinder is.
 *
 * A process may have several unwinders (libgcc's, statically linked copies of it, LLVM's), and any of them
 * may call this personality routine. What one keeps of a frame is for its own functions alone, and those of
 * a copy cannot be had. So nothing of it is touched: the frame keeps all that its caller had in registers
 * itself, is found through the stack pointer by which the unwinder recognises it, and is entered by a jump. */
#include "foreign_call.h"

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unwind.h>

/* Both are called from the assembly, or from the frame's unwind information, alone. */
#define FROM_ASSEMBLY __attribute__((used, visibility("hidden")))
FROM_ASSEMBLY _Unwind_Reason_Code pega_foreign_personality(int version, _Unwind_Action actions,
                                                           _Unwind_Exception_Class type,
                                                           struct _Unwind_Exception *exception,
                                                           struct _Unwind_Context *context);
FROM_ASSEMBLY void pega_foreign_caught(struct _Unwind_Exception *exception, char *what,
                                       size_t what_size);

/* Lies where the stack pointer of the frame is during the call. */
typedef struct frame {
  struct frame *self;
  const void *mark; /* pega_foreign_landing */
  char *what;
  size_t what_size;
} frame;

/* Where the frame goes on after an exception. */
FROM_ASSEMBLY _Noreturn void pega_foreign_landing(frame *at, struct _Unwind_Exception *exception);

/* Where branches may only go to marked places (CET, BTI) the way in is marked; elsewhere the mark does
 * nothing. The same goes for the shadow stack: what was on it above the frame is taken off. */
#if defined(__x86_64__)
__asm__(
    ".pushsection .text.pega_foreign_call, \"ax\", @progbits\n"
    ".p2align 4\n"
    ".globl pega_foreign_call\n"
    ".hidden pega_foreign_call\n"
    ".type pega_foreign_call, @function\n"
    "pega_foreign_call:\n"
    ".cfi_startproc\n"
    ".cfi_personality 0x1b, pega_foreign_personality\n" /* relative to here, 4 bytes */
    "  endbr64\n"
    "  pushq %rbp\n"
    ".cfi_def_cfa_offset 16\n"
    ".cfi_offset %rbp, -16\n"
    "  movq %rsp, %rbp\n"
    ".cfi_def_cfa_register %rbp\n"
    "  pushq %rbx\n"
    ".cfi_offset %rbx, -24\n"
    "  pushq %r12\n"
    ".cfi_offset %r12, -32\n"
    "  pushq %r13\n"
    ".cfi_offset %r13, -40\n"
    "  pushq %r14\n"
    ".cfi_offset %r14, -48\n"
    "  pushq %r15\n"
    ".cfi_offset %r15, -56\n"
    "  subq $40, %rsp\n"
    "  leaq pega_foreign_landing(%rip), %r8\n"
    "  xorl %eax, %eax\n"
    "  rdsspq %rax\n" /* stays 0 without a shadow stack */
    "  movq %rsp, (%rsp)\n"
    "  movq %r8, 8(%rsp)\n"
    "  movq %rdx, 16(%rsp)\n"
    "  movq %rcx, 24(%rsp)\n"
    "  movq %rax, 32(%rsp)\n"
    "  movq %rdi, %rax\n"
    "  movq %rsi, %rdi\n"
    "  callq *%rax\n"
    "  movl $1, %eax\n"
    "1:\n"
    "  addq $40, %rsp\n"
    "  popq %r15\n"
    "  popq %r14\n"
    "  popq %r13\n"
    "  popq %r12\n"
    "  popq %rbx\n"
    "  popq %rbp\n"
    ".cfi_remember_state\n"
    ".cfi_def_cfa %rsp, 8\n"
    "  retq\n"
    ".cfi_restore_state\n"
    ".globl pega_foreign_landing\n"
    ".hidden pega_foreign_landing\n"
    "pega_foreign_landing:\n"
    "  leaq 80(%rdi), %rbp\n"
    "  movq %rdi, %rsp\n"
    "  xorl %eax, %eax\n"
    "  rdsspq %rax\n"
    "  testq %rax, %rax\n"
    "  jz 4f\n"
    "  movq 32(%rsp), %rdx\n"
    "  subq %rax, %rdx\n"
    "  shrq $3, %rdx\n"
    "2:\n" /* rdx words are left to take off, at most 255 at once */
    "  movl $255, %eax\n"
    "  cmpq %rax, %rdx\n"
    "  jae 3f\n"
    "  movq %rdx, %rax\n"
    "3:\n"
    "  incsspq %rax\n"
    "  subq %rax, %rdx\n"
    "  jnz 2b\n"
    "4:\n"
    "  movq %rsi, %rdi\n" /* the exception */
    "  movq 16(%rsp), %rsi\n"
    "  movq 24(%rsp), %rdx\n"
    "  callq pega_foreign_caught\n"
    "  xorl %eax, %eax\n"
    "  jmp 1b\n"
    ".cfi_endproc\n"
    ".size pega_foreign_call, . - pega_foreign_call\n"
    ".popsection\n");
#elif defined(__aarch64__)
__asm__(
    ".pushsection .text.pega_foreign_call, \"ax\", @progbits\n"
    ".p2align 4\n"
    ".globl pega_foreign_call\n"
    ".hidden pega_foreign_call\n"
    ".type pega_foreign_call, @function\n"
    "pega_foreign_call:\n"
    ".cfi_startproc\n"
    ".cfi_personality 0x1b, pega_foreign_personality\n" /* relative to here, 4 bytes */
    "  hint #34\n"                                      /* bti c */
    "  stp x29, x30, [sp, #-192]!\n"
    ".cfi_def_cfa_offset 192\n"
    ".cfi_offset x29, -192\n"
    ".cfi_offset x30, -184\n"
    "  mov x29, sp\n"
    "  stp x19, x20, [sp, #32]\n"
    ".cfi_offset x19, -160\n"
    ".cfi_offset x20, -152\n"
    "  stp x21, x22, [sp, #48]\n"
    ".cfi_offset x21, -144\n"
    ".cfi_offset x22, -136\n"
    "  stp x23, x24, [sp, #64]\n"
    ".cfi_offset x23, -128\n"
    ".cfi_offset x24, -120\n"
    "  stp x25, x26, [sp, #80]\n"
    ".cfi_offset x25, -112\n"
    ".cfi_offset x26, -104\n"
    "  stp x27, x28, [sp, #96]\n"
    ".cfi_offset x27, -96\n"
    ".cfi_offset x28, -88\n"
    "  stp d8, d9, [sp, #112]\n"
    ".cfi_offset 72, -80\n" /* d8 */
    ".cfi_offset 73, -72\n"
    "  stp d10, d11, [sp, #128]\n"
    ".cfi_offset 74, -64\n"
    ".cfi_offset 75, -56\n"
    "  stp d12, d13, [sp, #144]\n"
    ".cfi_offset 76, -48\n"
    ".cfi_offset 77, -40\n"
    "  stp d14, d15, [sp, #160]\n"
    ".cfi_offset 78, -32\n"
    ".cfi_offset 79, -24\n"
    "  sub sp, sp, #32\n"
    ".cfi_def_cfa x29, 192\n"
    "  adrp x8, pega_foreign_landing\n"
    "  add x8, x8, :lo12:pega_foreign_landing\n"
    "  mov x9, sp\n"
    "  stp x9, x8, [sp]\n"
    "  stp x2, x3, [sp, #16]\n"
    "  mov x8, x0\n"
    "  mov x0, x1\n"
    "  blr x8\n"
    "  mov w0, #1\n"
    "1:\n"
    "  ldp d14, d15, [x29, #160]\n"
    "  ldp d12, d13, [x29, #144]\n"
    "  ldp d10, d11, [x29, #128]\n"
    "  ldp d8, d9, [x29, #112]\n"
    "  ldp x27, x28, [x29, #96]\n"
    "  ldp x25, x26, [x29, #80]\n"
    "  ldp x23, x24, [x29, #64]\n"
    "  ldp x21, x22, [x29, #48]\n"
    "  ldp x19, x20, [x29, #32]\n"
    "  mov sp, x29\n"
    ".cfi_remember_state\n"
    ".cfi_def_cfa sp, 192\n"
    "  ldp x29, x30, [sp], #192\n"
    ".cfi_restore x29\n"
    ".cfi_restore x30\n"
    ".cfi_def_cfa_offset 0\n"
    "  ret\n"
    ".cfi_restore_state\n"
    ".globl pega_foreign_landing\n"
    ".hidden pega_foreign_landing\n"
    "pega_foreign_landing:\n"
    "  hint #36\n" /* bti j */
    "  add x29, x0, #32\n"
    "  mov sp, x0\n"
    "  mov x0, x1\n" /* the exception */
    "  ldp x1, x2, [sp, #16]\n"
    "  bl pega_foreign_caught\n"
    "  mov w0, #0\n"
    "  b 1b\n"
    ".cfi_endproc\n"
    ".size pega_foreign_call, . - pega_foreign_call\n"
    ".popsection\n");
#else
#error "pega_foreign_call() is written for x86-64 and aarch64"
#endif

/* Exceptions of a C++ runtime library: "GNUC" or "CLNG", then "C++" and 0, or 1 for one that shares its object
 * with another (std::rethrow_exception()). */
static const char kGnu[] = "GNUCC++";
static const char kClang[] = "CLNGC++";
enum { kTypeBefore = -10 }; /* words from the exception to the type in the header before it */
static const char kRust[8] = {'M', 'O', 'Z', 0, 'R', 'U', 'S', 'T'};

static frame *frame_at(uintptr_t stack_pointer) {
  frame *at = (frame *)stack_pointer;
  const void *mark = (const void *)(uintptr_t)&pega_foreign_landing;
  if (stack_pointer == 0 || stack_pointer % 16 != 0) return NULL;
  return at->self == at && at->mark == mark ? at : NULL;
}

/* libgcc's and LLVM's unwinder both know the frame of a handler again by the stack pointer, which they keep
 * in the exception. One that does not is asked, as far as the functions that are visible are its own. */
static frame *find_frame(const struct _Unwind_Exception *exception,
                         struct _Unwind_Context *context) {
  enum { kStack = 1 << 28 };
  frame *at = frame_at((uintptr_t)exception->private_2);
  if (at != NULL) return at;
  const uintptr_t here = (uintptr_t)__builtin_frame_address(0);
  const uintptr_t asked = (uintptr_t)_Unwind_GetCFA(context);
  return asked > here && asked - here < kStack ? frame_at(asked) : NULL;
}

/* The unwinder asks twice: who takes the exception, and, coming back, where to go on. A thread that is
 * being ended is let through. ThreadSanitizer, which counts what is entered, is not told of it. */
__attribute__((no_sanitize_thread)) _Unwind_Reason_Code pega_foreign_personality(
    int version, _Unwind_Action actions, _Unwind_Exception_Class type,
    struct _Unwind_Exception *exception, struct _Unwind_Context *context) {
  (void)type;
  if (version != 1) return _URC_FATAL_PHASE1_ERROR;
  if ((actions & _UA_FORCE_UNWIND) != 0) return _URC_CONTINUE_UNWIND;
  if ((actions & _UA_SEARCH_PHASE) != 0) return _URC_HANDLER_FOUND;
  if ((actions & _UA_HANDLER_FRAME) == 0) return _URC_CONTINUE_UNWIND;
  frame *at = find_frame(exception, context);
  if (at == NULL) return _URC_FATAL_PHASE2_ERROR;
  pega_foreign_landing(at, exception);
}

/* ---- What was thrown ---- */

/* The functions of the C++ runtime library that an exception comes from. */
typedef struct runtime {
  void *library;
  void *(*begin_catch)(void *exception);
  void (*end_catch)(void);
  const void *const *(*current_type)(void); /* or NULL: a program has what it uses of it */
} runtime;

/* Finds a symbol in `library` that is the library's own, and not one of those that it needs. */
static void *own_symbol(void *library, const char *name, const void *base) {
  Dl_info info;
  void *found = dlsym(library, name);
  return found != NULL && dladdr(found, &info) != 0 && info.dli_fbase == base ? found : NULL;
}

/* A process may have several, each with its own account of what is being thrown: the one that knows how
 * to destroy this exception threw it. It need not be visible to the process, nor export anything. */
static bool find_runtime(const struct _Unwind_Exception *exception, runtime *out) {
  Dl_info info;
  void *found;
  memset(out, 0, sizeof *out);
  /* A function's address, as the loader knows addresses. */
  const uintptr_t cleanup = (uintptr_t)exception->exception_cleanup;
  if (cleanup == 0 || dladdr((const void *)cleanup, &info) == 0 || info.dli_fname == NULL) {
    return false;
  }
  out->library = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
  if (out->library == NULL) out->library = dlopen(NULL, RTLD_LAZY); /* the program itself */
  if (out->library == NULL) return false;
  found = own_symbol(out->library, "__cxa_begin_catch", info.dli_fbase);
  memcpy(&out->begin_catch, &found, sizeof found);
  found = own_symbol(out->library, "__cxa_end_catch", info.dli_fbase);
  memcpy(&out->end_catch, &found, sizeof found);
  found = own_symbol(out->library, "__cxa_current_exception_type", info.dli_fbase);
  memcpy(&out->current_type, &found, sizeof found);
  if (out->begin_catch != NULL && out->end_catch != NULL) return true;
  dlclose(out->library);
  return false;
}

/* The second word of a std::type_info. A star before it says how to compare it. */
static const char *mangled_name(const void *const *type) {
  const char *name = type == NULL ? NULL : (const char *)type[1];
  return name == NULL ? "" : name + (name[0] == '*');
}

static const char kSingleBase[] = "_ZTVN10__cxxabiv120__si_class_type_infoE";

/* Objects point behind the first two words of their table. */
static bool is_table(const void *pointer, const char *table) {
  return table != NULL && pointer == (const void *)(table + 2 * sizeof(void *));
}

static bool is_std_exception(const runtime *from, const void *const *type) {
  /* Types with one base at their beginning, whose third word is the base's type, have this table of
   * functions: the library's, or a program's copy of it. */
  const char *own = dlsym(from->library, kSingleBase);
  const char *shared = dlsym(RTLD_DEFAULT, kSingleBase);
  for (int depth = 0; type != NULL && depth < 32; ++depth) {
    if (strcmp(mangled_name(type), "St9exception") == 0) return true;
    if (!is_table(type[0], own) && !is_table(type[0], shared)) return false;
    type = (const void *const *)type[2];
  }
  return false;
}

static void write_type(const runtime *from, const void *const *type, char *what, size_t size) {
  char *(*demangle)(const char *, char *, size_t *, int *) = NULL;
  void *found = dlsym(from->library, "__cxa_demangle");
  int status = -1;
  memcpy(&demangle, &found, sizeof found);
  char *name = demangle == NULL ? NULL : demangle(mangled_name(type), NULL, NULL, &status);
  snprintf(what, size, "%s", name != NULL && status == 0 ? name : mangled_name(type));
  free(name);
}

static void write_text(void *object, char *what, size_t size) {
  const char *(*text_of)(const void *object) = NULL;
  /* std::exception's functions: two destructors, what(). */
  void *const *functions = *(void *const **)object;
  const size_t used = strlen(what);
  memcpy(&text_of, &functions[2], sizeof functions[2]);
  const char *text = text_of(object);
  if (text != NULL) snprintf(what + used, size - used, ": %s", text);
}

/* Behind the exception, or, where it shares its object with another, where its header says. */
static void *thrown_object(struct _Unwind_Exception *exception) {
  if ((exception->exception_class & 0xff) == 0) return exception + 1;
  const bool gnu = exception->exception_class >> 56 == 'G';
  return ((void **)exception)[gnu ? kTypeBefore : kTypeBefore - 1];
}

/* In the header before the exception, unless it shares its object with another. */
static const void *const *header_type(struct _Unwind_Exception *exception) {
  return (exception->exception_class & 0xff) == 0 ? ((const void *const **)exception)[kTypeBefore]
                                                  : NULL;
}

static bool catch_cxx(struct _Unwind_Exception *exception, char *what, size_t size) {
  runtime from;
  if (!find_runtime(exception, &from)) return false;
  /* What this returns is known where a handler was found by type alone. */
  from.begin_catch(exception);
  const void *const *type =
      from.current_type != NULL ? from.current_type() : header_type(exception);
  if (size > 0) write_type(&from, type, what, size);
  void *const object = thrown_object(exception);
  if (size > 0 && object != NULL && is_std_exception(&from, type)) write_text(object, what, size);
  from.end_catch();
  dlclose(from.library);
  return true;
}

static void write_class(uint64_t class, char *what, size_t size) {
  char shown[9];
  for (int i = 0; i < 8; ++i) {
    const unsigned char byte = (unsigned char)(class >> (56 - 8 * i));
    shown[i] = (char)(byte >= ' ' && byte < 0x7f ? byte : '.');
  }
  shown[8] = '\0';
  snprintf(what, size, "an exception of class \"%s\"", shown);
}

void pega_foreign_caught(struct _Unwind_Exception *exception, char *what, size_t what_size) {
  const uint64_t class = exception->exception_class;
  const size_t size = what == NULL ? 0 : what_size;
  char name[8];
  for (int i = 0; i < 8; ++i) name[i] = (char)(class >> (56 - 8 * i));
  if (size > 0) what[0] = '\0';
  if ((memcmp(name, kGnu, 7) == 0 || memcmp(name, kClang, 7) == 0) && name[7] <= 1) {
    const bool caught = catch_cxx(exception, what, size);
    /* A runtime library that shows none of its functions: its account of what is being thrown stays one
     * too high, and another's function must not be let at it. */
    if (!caught && size > 0) snprintf(what, size, "%s", mangled_name(header_type(exception)));
    if (size > 0 && what[0] == '\0') snprintf(what, size, "a C++ exception of unknown type");
    if (caught) return;
  } else if (memcmp(name, kRust, sizeof kRust) == 0) {
    if (size > 0) snprintf(what, size, "a Rust panic");
    return; /* destroying it ends the process: its few bytes are left */
  } else if (size > 0) {
    write_class(class, what, size);
  }
  /* What destroys an exception, and frees it, comes with it. */
  if (exception->exception_cleanup != NULL) {
    exception->exception_cleanup(_URC_FOREIGN_EXCEPTION_CAUGHT, exception);
  }
}

/* ---- Loading ---- */

typedef struct load_call {
  const char *path;
  int mode;
  void *handle;
} load_call;

static void load_file(void *data) {
  load_call *call = data;
  call->handle = dlopen(call->path, call->mode);
}

void *pega_foreign_load(const char *path, int mode, bool *threw, char *why, size_t why_size) {
  load_call call = {path, mode, NULL};
  char what[kForeignWhatRoom];
  const bool whole = pega_foreign_call(load_file, &call, what, sizeof what);
  if (threw != NULL) *threw = !whole;
  if (!whole) {
    snprintf(why, why_size,
             "one of its constructors threw %s; the dynamic loader does not get over that: other "
             "threads that load a library will wait for ever",
             what);
    return NULL;
  }
  if (call.handle == NULL) {
    const char *text = dlerror();
    snprintf(why, why_size, "%s", text == NULL ? "no reason given" : text);
  }
  return call.handle;
}
