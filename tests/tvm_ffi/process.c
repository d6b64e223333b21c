/* SPDX-License-Identifier: Apache-2.0 */
#include "process.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void change_environment(const char *const *environment) {
  for (; environment != NULL && *environment != NULL; environment++) {
    char *copy = strdup(*environment);
    if (copy == NULL) _exit(126);
    char *equals = strchr(copy, '=');
    if (equals == NULL) {
      unsetenv(copy);
    } else {
      *equals = '\0';
      setenv(copy, equals + 1, 1);
    }
    free(copy);
  }
}

int process_run(const char *const *argv, const char *const *environment, process_result *result) {
  int ends[2];
  memset(result, 0, sizeof *result);
  if (pipe(ends) != 0) return -1;
  fflush(NULL);
  pid_t child = fork();
  if (child < 0) return -1;
  if (child == 0) {
    dup2(ends[1], STDOUT_FILENO);
    dup2(ends[1], STDERR_FILENO);
    close(ends[0]);
    close(ends[1]);
    change_environment(environment);
    execv(argv[0], (char *const *)(size_t)argv);
    _exit(127);
  }
  close(ends[1]);
  size_t size = 0;
  char chunk[4096];
  for (;;) {
    ssize_t got = read(ends[0], chunk, sizeof chunk);
    if (got <= 0) break;
    size_t room = sizeof result->output - 1 - size;
    size_t kept = (size_t)got < room ? (size_t)got : room;
    memcpy(result->output + size, chunk, kept);
    size += kept;
  }
  close(ends[0]);
  int status = 0;
  if (waitpid(child, &status, 0) != child) return -1;
  result->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  result->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  return 0;
}

const char *process_line(const process_result *result, const char *name, char *buffer,
                         size_t capacity) {
  size_t length = strlen(name);
  const char *line = result->output;
  buffer[0] = '\0';
  while (line != NULL && *line != '\0') {
    if (strncmp(line, name, length) == 0 && strncmp(line + length, ": ", 2) == 0) {
      snprintf(buffer, capacity, "%.*s", (int)strcspn(line + length + 2, "\n"), line + length + 2);
      return buffer;
    }
    line = strchr(line, '\n');
    if (line != NULL) line++;
  }
  return buffer;
}
