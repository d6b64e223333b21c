/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "export.h"

static pega_status io_error(const char *what, const char *path, pega_error *error) {
  return pega_error_set(error, PEGA_ERROR_IO, NULL, "%s %s: %s", what, path, strerror(errno));
}

/* The archive beside the program: where an installation has it, or a build. */
static pega_status find_archive(char out[PATH_MAX], pega_error *error) {
  static const char *const places[] = {PEGA_CLI_LIBDIR, "../lib"};
  char self[PATH_MAX];
  char path[2 * PATH_MAX];
  const ssize_t size = readlink("/proc/self/exe", self, sizeof self - 1);
  if (size <= 0) return io_error("cannot read", "/proc/self/exe", error);
  self[size] = '\0';
  char *slash = strrchr(self, '/');
  if (slash != NULL) *slash = '\0';
  for (size_t i = 0; i < sizeof places / sizeof *places; ++i) {
    (void)snprintf(path, sizeof path, "%s/%s/pega/libpega_module.a", self, places[i]);
    if (strlen(path) < PATH_MAX && realpath(path, out) != NULL) return PEGA_OK;
  }
  return pega_error_set(error, PEGA_ERROR_NOT_FOUND, NULL,
                        "libpega_module.a, which a module is linked with, is not in %s/%s/pega: "
                        "install pega whole (cmake --install), or run it from its build",
                        self, PEGA_CLI_LIBDIR);
}

/* `output` as an absolute path, in a folder that is there, where no folder or device is. */
static pega_status look_at_output(const char *output, char out[PATH_MAX], char folder[PATH_MAX],
                                  pega_error *error) {
  char given[PATH_MAX];
  const size_t size = strlen(output);
  if (size == 0 || size >= sizeof given) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL, "the output's path is %s",
                          size == 0 ? "empty" : "too long");
  }
  memcpy(given, output, size + 1);
  char *slash = strrchr(given, '/');
  const char *name = slash == NULL ? output : output + (slash - given) + 1;
  struct stat found;
  if (*name == '\0' || (stat(output, &found) == 0 && S_ISDIR(found.st_mode))) {
    return pega_error_set(error, PEGA_ERROR_IO, NULL, "cannot write %s: it is a folder", output);
  }
  if (lstat(output, &found) == 0 && !S_ISREG(found.st_mode) && !S_ISLNK(found.st_mode)) {
    return pega_error_set(error, PEGA_ERROR_IO, NULL, "cannot write %s: it is no file", output);
  }
  if (slash != NULL) slash[slash == given ? 1 : 0] = '\0';
  if (realpath(slash == NULL ? "." : given, folder) == NULL) {
    return io_error("cannot write to", slash == NULL ? "." : given, error);
  }
  const char *between = strcmp(folder, "/") == 0 ? "" : "/";
  if (snprintf(out, PATH_MAX, "%s%s%s", folder, between, name) >= PATH_MAX) {
    return pega_error_set(error, PEGA_ERROR_IO, NULL, "cannot write %s: its path is too long",
                          output);
  }
  return PEGA_OK;
}

static void watch_signals(cli_export_place *place) {
  static const int ending[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
  (void)sigemptyset(&place->watched);
  for (size_t i = 0; i < sizeof ending / sizeof *ending; ++i) {
    struct sigaction action;
    /* What the one who started this ignores, stays ignored. */
    if (sigaction(ending[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN) {
      (void)sigaddset(&place->watched, ending[i]);
    }
  }
  (void)signal(SIGCHLD, SIG_DFL);
  (void)sigaddset(&place->watched, SIGCHLD);
  (void)sigprocmask(SIG_BLOCK, &place->watched, &place->before);
}

pega_status cli_export_enter(const char *output, const char *keep, cli_export_place *out,
                             pega_error *error) {
  char folder[PATH_MAX];
  memset(out, 0, sizeof *out);
  watch_signals(out);
  pega_status status = find_archive(out->archive, error);
  if (status == PEGA_OK) status = look_at_output(output, out->output, folder, error);
  if (status != PEGA_OK) return status;
  if (snprintf(out->folder, sizeof out->folder, "%s/.pega-export-XXXXXX", folder) >=
          (int)sizeof out->folder ||
      mkdtemp(out->folder) == NULL) {
    out->folder[0] = '\0';
    return io_error("cannot write to", folder, error);
  }
  if (keep == NULL) {
    memcpy(out->sources, out->folder, sizeof out->sources);
    return PEGA_OK;
  }
  if ((mkdir(keep, 0777) != 0 && errno != EEXIST) || realpath(keep, out->sources) == NULL) {
    return io_error("cannot make", keep, error);
  }
  return PEGA_OK;
}

bool cli_export_interrupted(cli_export_place *place, pega_error *error) {
  const struct timespec now = {0, 0};
  int signal_number;
  do {
    signal_number = sigtimedwait(&place->watched, NULL, &now);
  } while (signal_number == SIGCHLD);
  if (signal_number > 0) place->interrupted = signal_number;
  if (place->interrupted != 0) {
    (void)pega_error_set(error, PEGA_ERROR_IO, NULL, "interrupted (%s); nothing was written",
                         strsignal(place->interrupted));
  }
  return place->interrupted != 0;
}

void cli_export_leave(cli_export_place *place) {
  DIR *folder = place->folder[0] == '\0' ? NULL : opendir(place->folder);
  if (folder != NULL) {
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
      if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
      (void)unlinkat(dirfd(folder), entry->d_name, 0);
    }
    (void)closedir(folder);
    (void)rmdir(place->folder);
  }
  if (place->interrupted != 0) (void)raise(place->interrupted);
  (void)sigprocmask(SIG_SETMASK, &place->before, NULL);
}

pega_status cli_export_write(const cli_export_place *place, const char *name, const void *data,
                             size_t size, pega_error *error) {
  char path[2 * PATH_MAX];
  (void)snprintf(path, sizeof path, "%s/%s", place->sources, name);
  FILE *file = fopen(path, "wbe");
  if (file == NULL) return io_error("cannot write", path, error);
  const bool written = fwrite(data, 1, size, file) == size;
  const int why = errno;
  if (fclose(file) == 0 && written) return PEGA_OK;
  if (!written) errno = why;
  return io_error("cannot write", path, error);
}
