/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

char *pega_path;

static char folder[] = "cli-XXXXXX";

void enter_folder(void) {
  if (mkdtemp(folder) == NULL || chdir(folder) != 0) {
    perror(folder);
    exit(1);
  }
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *place) {
  (void)info;
  (void)type;
  return place->level == 0 ? 0 : remove(path);
}

void leave_folder(void) {
  if (nftw(".", remove_entry, 8, FTW_DEPTH | FTW_PHYS) != 0) perror(folder);
  if (chdir("..") != 0 || rmdir(folder) != 0) perror(folder);
}

int count_files(const char *prefix) {
  int count = 0;
  DIR *directory = opendir(".");
  assert_non_null(directory);
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
    if (strncmp(entry->d_name, prefix, strlen(prefix)) == 0) ++count;
  }
  (void)closedir(directory);
  return count;
}

void write_file(const char *path, const void *bytes, size_t size) {
  FILE *file = fopen(path, "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(bytes, 1, size, file), size);
  assert_int_equal(fclose(file), 0);
}

char *read_whole_file(const char *path, size_t *size) {
  struct stat info;
  FILE *file = fopen(path, "rb");
  if (file == NULL) fail_msg("%s: %s", path, strerror(errno));
  assert_int_equal(fstat(fileno(file), &info), 0);
  *size = (size_t)info.st_size;
  char *bytes = malloc(*size + 1);
  assert_non_null(bytes);
  assert_int_equal(fread(bytes, 1, *size, file), *size);
  bytes[*size] = '\0';
  (void)fclose(file);
  return bytes;
}

void write_safetensors(const char *path, const char *header, size_t data_size) {
  const size_t header_size = strlen(header);
  unsigned char *bytes = malloc(8 + header_size + data_size + 1);
  assert_non_null(bytes);
  for (int i = 0; i < 8; ++i) bytes[i] = (unsigned char)((uint64_t)header_size >> (8 * i));
  memcpy(bytes + 8, header, header_size);
  for (size_t i = 0; i < data_size; ++i) bytes[8 + header_size + i] = (unsigned char)i;
  write_file(path, bytes, 8 + header_size + data_size);
  free(bytes);
}

void set_pega_path(int argc, char **argv) {
  pega_path = argc > 1 ? realpath(argv[1], NULL) : NULL;
  if (pega_path == NULL) {
    (void)fprintf(stderr, "usage: %s PEGA\n", argv[0]);
    exit(2);
  }
}

char *library_path(const char *path) {
  char *absolute = realpath(path, NULL);
  char *text = malloc(absolute == NULL ? 1 : strlen(absolute) + 32);
  if (absolute == NULL || text == NULL) {
    perror(path);
    exit(2);
  }
  (void)sprintf(text, "LD_LIBRARY_PATH=%s", absolute);
  free(absolute);
  return text;
}

/* The environment with one variable set anew. */
static char **make_environment(const char *variable) {
  size_t count = 0;
  while (environ[count] != NULL) ++count;
  char **copy = calloc(count + 2, sizeof *copy);
  assert_non_null(copy);
  const size_t name = variable == NULL ? 0 : strcspn(variable, "=") + 1;
  size_t kept = 0;
  for (size_t i = 0; i < count; ++i) {
    if (name == 0 || strncmp(environ[i], variable, name) != 0) copy[kept++] = environ[i];
  }
  if (variable != NULL) copy[kept] = (char *)(uintptr_t)variable;
  return copy;
}

static int wait_for(pid_t child) {
  int status = 0;
  const time_t deadline = time(NULL) + 60;
  for (;;) {
    const pid_t done = waitpid(child, &status, WNOHANG);
    if (done == child) break;
    assert_int_equal(done, 0);
    if (time(NULL) > deadline) (void)kill(child, SIGKILL);
    const struct timespec pause = {0, 1000000};
    (void)nanosleep(&pause, NULL);
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

run_result run_words(const run_how *how, const char *const *words) {
  static const char out_name[] = "stdout.txt";
  static const char err_name[] = "stderr.txt";
  const char *out_path = how != NULL && how->stdout_path != NULL ? how->stdout_path : out_name;
  run_result result = {0, NULL, NULL};
  posix_spawn_file_actions_t actions;
  char *argv[64] = {pega_path};
  pid_t child = 0;
  size_t size = 0;
  for (size_t i = 0; words[i] != NULL; ++i) {
    assert_true(i + 2 < sizeof argv / sizeof argv[0]);
    argv[i + 1] = (char *)(uintptr_t)words[i];
  }
  char **environment = make_environment(how == NULL ? NULL : how->variable);
  const int flags = O_WRONLY | O_CREAT | O_TRUNC;
  assert_int_equal(posix_spawn_file_actions_init(&actions), 0);
  assert_int_equal(posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0), 0);
  assert_int_equal(posix_spawn_file_actions_addopen(&actions, 1, out_path, flags, 0600), 0);
  assert_int_equal(posix_spawn_file_actions_addopen(&actions, 2, err_name, flags, 0600), 0);
  assert_int_equal(posix_spawn(&child, pega_path, &actions, NULL, argv, environment), 0);
  result.code = wait_for(child);
  (void)posix_spawn_file_actions_destroy(&actions);
  free(environment);
  result.out = out_path == out_name ? read_whole_file(out_name, &size) : strdup("");
  result.err = read_whole_file(err_name, &size);
  return result;
}

void run_free(run_result *result) {
  free(result->out);
  free(result->err);
}

static void show(const run_result *result, const char *file, int line) {
  print_error("%s:%d: exit code %d\nstdout: %s\nstderr: %s\n", file, line, result->code,
              result->out, result->err);
}

static bool holds(const char *text, const char *part) {
  return part == NULL ? *text == '\0' : strstr(text, part) != NULL;
}

void expect_run(run_result result, int code, const char *out, const char *err, const char *file,
                int line) {
  if (result.code != code || !holds(result.out, out) || !holds(result.err, err)) {
    show(&result, file, line);
    fail_msg("%s:%d: expected exit code %d, stdout with \"%s\", stderr with \"%s\"", file, line,
             code, out == NULL ? "(nothing)" : out, err == NULL ? "(nothing)" : err);
  }
  run_free(&result);
}

json_t *expect_json_run(run_result result, int code, const char *file, int line) {
  json_error_t problem;
  json_t *object = json_loads(result.out, JSON_REJECT_DUPLICATES, &problem);
  if (result.code != code || object == NULL || *result.err != '\0') {
    show(&result, file, line);
    fail_msg("%s:%d: expected exit code %d, one JSON object and no stderr", file, line, code);
  }
  run_free(&result);
  return object;
}

void expect_error_run(run_result result, int code, const char *status, const char *kind,
                      const char *text, const char *file, int line) {
  json_t *object = expect_json_run(result, code, file, line);
  const char *got_status = json_text_at(object, "error.status");
  const char *got_kind = json_text_at(object, "error.kind");
  const char *got_text = json_text_at(object, "error.message");
  (void)json_text_at(object, "error.traceback");
  if (strcmp(got_status, status) != 0 || strcmp(got_kind, kind) != 0 ||
      strstr(got_text, text) == NULL) {
    fail_msg("%s:%d: expected %s, %s with \"%s\", got %s, %s: %s", file, line, status, kind, text,
             got_status, got_kind, got_text);
  }
  json_decref(object);
}

json_t *json_at(json_t *object, const char *path) {
  while (object != NULL && *path != '\0') {
    char key[64];
    const size_t size = strcspn(path, ".");
    assert_true(size < sizeof key);
    memcpy(key, path, size);
    key[size] = '\0';
    object = json_is_array(object) ? json_array_get(object, strtoul(key, NULL, 10))
                                   : json_object_get(object, key);
    path += size + (path[size] == '.' ? 1 : 0);
  }
  return object;
}

const char *json_text_at(json_t *object, const char *path) {
  const char *text = json_string_value(json_at(object, path));
  if (text == NULL) fail_msg("no string at %s", path);
  return text;
}
