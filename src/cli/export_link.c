/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "export.h"

extern char **environ;

/* The compiler's words: those of CC, then what is asked of it. */
enum { kMaxWords = 64 };

static const char *compiler(void) {
  const char *named = getenv("CC");
  return named == NULL || named[strspn(named, " \t")] == '\0' ? "cc" : named;
}

/* Splits `text`, which is changed, at blanks. The number of words; -1 for too many. */
static int split(char *text, char **words, int most) {
  int count = 0;
  for (char *word = strtok(text, " \t"); word != NULL; word = strtok(NULL, " \t")) {
    if (count == most) return -1;
    words[count++] = word;
  }
  return count;
}

/* The environment with the compiler's own temporary files in the folder that is removed. Owned. */
static char **make_environment(const cli_export_place *place, char tmpdir[PATH_MAX + 8]) {
  size_t count = 0;
  while (environ[count] != NULL) ++count;
  char **made = calloc(count + 2, sizeof *made);
  if (made == NULL) return NULL;
  (void)snprintf(tmpdir, PATH_MAX + 8, "TMPDIR=%s", place->folder);
  size_t kept = 0;
  for (size_t i = 0; i < count; ++i) {
    if (strncmp(environ[i], "TMPDIR=", 7) != 0) made[kept++] = environ[i];
  }
  made[kept] = tmpdir;
  return made;
}

static pega_status start(const cli_export_place *place, char **words, pid_t *out,
                         pega_error *error) {
  char tmpdir[PATH_MAX + 8];
  char **environment = make_environment(place, tmpdir);
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_t actions;
  if (environment == NULL || posix_spawnattr_init(&attributes) != 0 ||
      posix_spawn_file_actions_init(&actions) != 0) {
    free(environment);
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "out of memory");
  }
  /* A group of its own, to be ended whole. */
  int failed =
      posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK);
  if (failed == 0) failed = posix_spawnattr_setpgroup(&attributes, 0);
  if (failed == 0) failed = posix_spawnattr_setsigmask(&attributes, &place->before);
  if (failed == 0) failed = posix_spawn_file_actions_addchdir_np(&actions, place->sources);
  /* What a compiler has to say is no result of this command. */
  if (failed == 0) failed = posix_spawn_file_actions_adddup2(&actions, 2, 1);
  if (failed == 0) failed = posix_spawnp(out, words[0], &actions, &attributes, words, environment);
  (void)posix_spawn_file_actions_destroy(&actions);
  (void)posix_spawnattr_destroy(&attributes);
  free(environment);
  if (failed == 0) return PEGA_OK;
  return pega_error_set(
      error, PEGA_ERROR_NOT_FOUND, NULL,
      "a module is linked by a C compiler, and \"%.200s\" could not be started: %s; "
      "install one (Debian, Ubuntu: apt-get install gcc libc6-dev), or name it in "
      "the environment variable CC",
      words[0], strerror(failed));
}

/* Until it has ended; a signal ends it. */
static int wait_for(cli_export_place *place, pid_t pid) {
  int how = 0;
  for (;;) {
    const int signal_number = sigwaitinfo(&place->watched, NULL);
    if (signal_number > 0 && signal_number != SIGCHLD) {
      place->interrupted = signal_number;
      (void)kill(-pid, SIGTERM); /* a compiler removes its temporary files */
      while (waitpid(pid, &how, 0) < 0 && errno == EINTR) {
      }
      (void)kill(-pid, SIGKILL);
      return how;
    }
    if (waitpid(pid, &how, WNOHANG) == pid) return how;
  }
}

pega_status cli_export_link(cli_export_place *place, pega_error *error) {
  static const char *const flags[] = {
      "-shared",
      "-fPIC",
      "-O2",
      "-std=gnu11", /* c11 has trigraphs */
      "-fvisibility=hidden",
      "-Wl,--version-script=module.map",
      "-Wl,--gc-sections",
      "-Wl,--as-needed",
      "-Wl,-z,now",
      "-Wl,-z,relro",
      "-Wl,-z,noexecstack",
      "-Wl,--build-id=none", /* it would tell of a temporary name */
      "-Wl,-z,nodelete",     /* kernels that are loaded and a handler of fork refer to it */
      "-s",
  };
  enum { kNumFlags = sizeof flags / sizeof *flags };
  char built[PATH_MAX + 16];
  char *words[kMaxWords + kNumFlags + 10];
  char *text = strdup(compiler());
  int count = text == NULL ? 0 : split(text, words, kMaxWords);
  if (count <= 0) {
    free(text);
    return pega_error_set(error, count < 0 ? PEGA_ERROR_INVALID_ARGUMENT : PEGA_ERROR_OUT_OF_MEMORY,
                          NULL, count < 0 ? "CC has too many words" : "out of memory");
  }
  (void)snprintf(built, sizeof built, "%s/module.so", place->folder);
  const char *const files[] = {"-o", built, "module.c", place->archive, "-ldl", "-lpthread", "-lm"};
  for (int i = 0; i < kNumFlags; ++i) words[count++] = (char *)(uintptr_t)flags[i];
  for (size_t i = 0; i < sizeof files / sizeof *files; ++i) {
    words[count++] = (char *)(uintptr_t)files[i];
  }
  words[count] = NULL;
  pid_t pid = 0;
  pega_status status = start(place, words, &pid, error);
  if (status == PEGA_OK) {
    const int how = wait_for(place, pid);
    if (cli_export_interrupted(place, error)) {
      status = PEGA_ERROR_IO;
    } else if (!WIFEXITED(how) || WEXITSTATUS(how) != 0) {
      status = pega_error_set(error, PEGA_ERROR_CALLEE, NULL,
                              "\"%.200s\" could not link the module (%s %d); what it said is above",
                              words[0], WIFEXITED(how) ? "exit code" : "signal",
                              WIFEXITED(how) ? WEXITSTATUS(how) : WTERMSIG(how));
    } else if (rename(built, place->output) != 0) {
      status = pega_error_set(error, PEGA_ERROR_IO, NULL, "cannot write %s: %s", place->output,
                              strerror(errno));
    }
  }
  free(text);
  return status;
}
