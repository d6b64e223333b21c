/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens a TVM FFI runtime in a process of its own and tells what came of it, one "name: value" a
 * line. A test that needs a fresh process, another environment or another privilege runs this.
 *
 *   runtime_probe [--preload FILE]... [--library FILE] [--report] [--twice]
 *                 [--segv] [--streams] [--second FILE] [--call FIXTURE]
 *                 [--artifact FILE [--folder DIR]]
 *
 * --preload opens FILE as a host would have before it calls pega (--preload-local: its symbols for
 * itself); --segv installs a SIGSEGV handler
 * first and faults at the end; --streams sets streams before the runtime is opened and tells what is
 * seen of them after; --second gives FILE as a module and as a library that modules need; --call opens
 * the fixture module and calls add(2, 3). --artifact opens FILE through pega_artifact_open() instead,
 * --folder gives DIR to look in, and then the runtime that this took is told.
 */
#include <dlfcn.h>
#include <pega/artifact.h>
#include <pega/pega.h>
#include <pega/tvm_ffi.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

struct probe {
  pega_tvm_ffi_options options;
  const char *second;
  const char *fixture;
  const char *artifact;
  const char *folder;
  bool report;
  bool twice;
  bool segv;
  bool streams;
};

static void on_segv(int number, siginfo_t *info, void *context) {
  static const char text[] = "handler: the host's\n";
  (void)number;
  (void)info;
  (void)context;
  ssize_t written = write(STDOUT_FILENO, text, sizeof text - 1);
  _exit(written > 0 ? 33 : 34);
}

/* Every flag that a host may want: each must survive too. */
static void install_handler(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = on_segv;
  action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaddset(&action.sa_mask, SIGUSR1);
  sigaction(SIGSEGV, &action, NULL);
}

static bool same_handler(const struct sigaction *left, const struct sigaction *right) {
  /* The C library sets flags of its own (how to return from a handler) besides these. */
  const int flags = SA_SIGINFO | SA_NODEFER | SA_RESTART | SA_ONSTACK;
  return ((left->sa_flags ^ right->sa_flags) & flags) == 0 &&
         left->sa_handler == right->sa_handler &&
         sigismember(&left->sa_mask, SIGUSR1) == sigismember(&right->sa_mask, SIGUSR1);
}

static int usage(const char *word) {
  printf("probe: cannot do %s\n", word);
  return 2;
}

static void preload(const char *path, int mode) {
  if (dlopen(path, RTLD_NOW | mode) == NULL) printf("preload: %s\n", dlerror());
}

static int parse(int argc, char **argv, struct probe *probe) {
  for (int i = 1; i < argc; i++) {
    const char *word = argv[i];
    const char *value = i + 1 < argc ? argv[i + 1] : "";
    if (strcmp(word, "--preload") == 0) {
      preload(value, RTLD_GLOBAL);
      i++;
    } else if (strcmp(word, "--preload-local") == 0) {
      preload(value, RTLD_LOCAL);
      i++;
    } else if (strcmp(word, "--library") == 0) {
      probe->options.library_path = value;
      i++;
    } else if (strcmp(word, "--call") == 0) {
      probe->fixture = value;
      i++;
    } else if (strcmp(word, "--artifact") == 0) {
      probe->artifact = value;
      i++;
    } else if (strcmp(word, "--folder") == 0) {
      probe->folder = value;
      i++;
    } else if (strcmp(word, "--second") == 0) {
      probe->second = value;
      i++;
    } else if (strcmp(word, "--report") == 0) {
      probe->report = true;
    } else if (strcmp(word, "--twice") == 0) {
      probe->twice = true;
    } else if (strcmp(word, "--segv") == 0) {
      probe->segv = true;
    } else if (strcmp(word, "--streams") == 0) {
      probe->streams = true;
    } else {
      return usage(word);
    }
  }
  return 0;
}

static int failed(pega_status status, pega_error *error) {
  printf("status: %s\nkind: %s\nmessage: %s\n", pega_status_name(status), pega_error_kind(error),
         pega_error_message(error));
  pega_error_clear(error);
  return 1;
}

static int report(const struct probe *probe) {
  pega_error error = PEGA_ERROR_INIT;
  pega_value text = pega_value_none();
  pega_status status = pega_tvm_ffi_search_report(&probe->options, &text, &error);
  if (status != PEGA_OK) return failed(status, &error);
  size_t size = 0;
  const char *lines = pega_value_as_string(&text, &size);
  printf("status: OK\nreport: %.*s\n", (int)size, lines == NULL ? "" : lines);
  pega_value_release(&text);
  return 0;
}

static int call_fixture(pega_tvm_ffi *runtime, const char *path) {
  pega_error error = PEGA_ERROR_INIT;
  pega_tvm_ffi_module *module = NULL;
  pega_function *add = NULL;
  pega_value sum = pega_value_none();
  const pega_value args[] = {pega_value_int(2), pega_value_int(3)};
  pega_status status = pega_tvm_ffi_module_open(runtime, path, &module, &error);
  if (status == PEGA_OK) status = pega_tvm_ffi_module_get(module, "add", &add, &error);
  if (status == PEGA_OK) status = pega_function_call(add, args, 2, &sum, &error);
  if (status == PEGA_OK) printf("sum: %lld\n", (long long)sum.as.i64);
  pega_function_release(add);
  pega_tvm_ffi_module_close(module);
  return status == PEGA_OK ? 0 : failed(status, &error);
}

static void tell(const char *what, pega_status status, pega_error *error) {
  printf("%s: %s\n%s message: %s\n", what, pega_status_name(status), what,
         pega_error_message(error));
  pega_error_clear(error);
}

static void give_second(pega_tvm_ffi *runtime, const char *path) {
  pega_error error = PEGA_ERROR_INIT;
  pega_tvm_ffi_module *module = NULL;
  tell("as module", pega_tvm_ffi_module_open(runtime, path, &module, &error), &error);
  pega_tvm_ffi_module_close(module);
  tell("as library", pega_tvm_ffi_load_library(runtime, path, &error), &error);
}

/* ---- streams that are set before there is a runtime ---- */

static const DLDevice cuda0 = {kDLCUDA, 0};
static const DLDevice cuda1 = {kDLCUDA, 1};
static char streams[4];

struct stream_thread {
  pthread_t thread;
  pthread_barrier_t is_set;
  pthread_barrier_t is_open;
  pega_tvm_ffi *runtime;
};

static const char *stream_name(const void *stream) {
  static const char *const names[] = {"main 0", "main 1", "thread 0", "thread 1"};
  for (size_t i = 0; i < sizeof streams; i++) {
    if (stream == &streams[i]) return names[i];
  }
  return stream == NULL ? "none" : "unknown";
}

static const char *seen_by_tvm_ffi(pega_tvm_ffi *runtime, DLDevice device) {
  void *symbol = NULL;
  void *(*get)(int32_t, int32_t) = NULL;
  pega_tvm_ffi_symbol(runtime, "TVMFFIEnvGetStream", &symbol, NULL);
  *(void **)&get = symbol;
  return get == NULL ? "no function"
                     : stream_name(get((int32_t)device.device_type, device.device_id));
}

static const char *seen_by_engine(DLDevice device) {
  void *stream = NULL;
  return pega_stream_get(device, &stream, NULL) == PEGA_OK ? stream_name(stream) : "failed";
}

static void *run_stream_thread(void *argument) {
  struct stream_thread *other = argument;
  pega_stream_set(cuda0, &streams[2], NULL, NULL);
  pega_stream_set(cuda1, &streams[3], NULL, NULL);
  pthread_barrier_wait(&other->is_set);
  pthread_barrier_wait(&other->is_open);
  if (other->runtime == NULL) return NULL;
  /* This thread's are handed over when it next asks. */
  printf("thread engine: %s, %s\n", seen_by_engine(cuda0), seen_by_engine(cuda1));
  printf("thread tvm_ffi: %s, %s\n", seen_by_tvm_ffi(other->runtime, cuda0),
         seen_by_tvm_ffi(other->runtime, cuda1));
  return NULL;
}

static void set_streams(struct stream_thread *other) {
  other->runtime = NULL;
  pthread_barrier_init(&other->is_set, NULL, 2);
  pthread_barrier_init(&other->is_open, NULL, 2);
  pega_stream_set(cuda0, &streams[0], NULL, NULL);
  pega_stream_set(cuda1, &streams[1], NULL, NULL);
  if (pthread_create(&other->thread, NULL, run_stream_thread, other) != 0) abort();
  pthread_barrier_wait(&other->is_set);
}

static void tell_streams(struct stream_thread *other, pega_tvm_ffi *runtime) {
  if (runtime != NULL) {
    printf("main tvm_ffi: %s, %s\n", seen_by_tvm_ffi(runtime, cuda0),
           seen_by_tvm_ffi(runtime, cuda1));
    printf("main engine: %s, %s\n", seen_by_engine(cuda0), seen_by_engine(cuda1));
  }
  other->runtime = runtime;
  pthread_barrier_wait(&other->is_open);
  pthread_join(other->thread, NULL);
  pthread_barrier_destroy(&other->is_set);
  pthread_barrier_destroy(&other->is_open);
}

static int describe(pega_tvm_ffi *runtime) {
  pega_error error = PEGA_ERROR_INIT;
  pega_tvm_ffi_info info;
  memset(&info, 0, sizeof info);
  info.struct_size = sizeof info;
  pega_status status = pega_tvm_ffi_describe(runtime, &info, &error);
  if (status != PEGA_OK) return failed(status, &error);
  printf("status: OK\nsource: %u\nversion: %u.%u.%u\ncopies: %u\npath: %s\nwheel: %s\nother: %s\n",
         info.source, info.major, info.minor, info.patch, info.num_copies, info.path,
         info.wheel_version, info.other_copy);
  return 0;
}

static int open_artifact(const struct probe *probe) {
  pega_error error = PEGA_ERROR_INIT;
  pega_artifact *artifact = NULL;
  pega_tvm_ffi *runtime = NULL;
  pega_artifact_options options = PEGA_ARTIFACT_OPTIONS_INIT;
  options.path = probe->artifact;
  options.search_paths = &probe->folder;
  options.num_search_paths = probe->folder == NULL ? 0 : 1;
  pega_status status = pega_tvm_ffi_add_loader(&probe->options, &error);
  if (status == PEGA_OK) status = pega_artifact_open(&options, &artifact, &error);
  if (status == PEGA_OK) status = pega_tvm_ffi_open(&probe->options, &runtime, &error);
  int result = status == PEGA_OK ? describe(runtime) : failed(status, &error);
  pega_tvm_ffi_close(runtime);
  pega_artifact_release(artifact);
  return result;
}

int main(int argc, char **argv) {
  struct probe probe = {.options = PEGA_TVM_FFI_OPTIONS_INIT};
  setvbuf(stdout, NULL, _IOLBF, 0);
  printf("secure: %lu\n", getauxval(AT_SECURE));
  if (parse(argc, argv, &probe) != 0) return 2;
  if (probe.segv) install_handler();
  if (probe.report) return report(&probe);
  if (probe.artifact != NULL) return open_artifact(&probe);
  struct stream_thread other;
  if (probe.streams) set_streams(&other);
  struct sigaction before;
  struct sigaction after;
  sigaction(SIGSEGV, NULL, &before);

  pega_error error = PEGA_ERROR_INIT;
  pega_tvm_ffi *runtime = NULL;
  pega_status status = pega_tvm_ffi_open(&probe.options, &runtime, &error);
  sigaction(SIGSEGV, NULL, &after);
  printf("segv: %s\n", same_handler(&before, &after) ? "unchanged" : "changed");
  if (probe.streams) tell_streams(&other, runtime);
  int result = status == PEGA_OK ? describe(runtime) : failed(status, &error);
  if (result == 0 && probe.twice) {
    pega_tvm_ffi *again = NULL;
    status = pega_tvm_ffi_open(&probe.options, &again, &error);
    printf("again: %s\n", status == PEGA_OK && again == runtime ? "the same" : "another");
    pega_tvm_ffi_close(again);
  }
  if (result == 0 && probe.second != NULL) give_second(runtime, probe.second);
  if (result == 0 && probe.fixture != NULL) result = call_fixture(runtime, probe.fixture);
  pega_tvm_ffi_close(runtime);
  if (probe.segv) raise(SIGSEGV);
  return result;
}
