/* SPDX-License-Identifier: Apache-2.0 */
#include "bench_peer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench_device.h"
#include "installed.h"

#define FOLDER "share/pega/bench/peers"
#define INTERPRETER "PEGA_TORCH_PYTHON"
#define SECONDS "PEGA_BENCH_PEER_SECONDS" /* of an answer */
#define ALL_SECONDS "PEGA_BENCH_SECONDS"  /* of all of them */

enum {
  MAX_PEERS = 16,
  MAX_NAMES = 16,   /* ways of one peer in a case */
  MAX_NAME = 64,    /* bytes of a name */
  MAX_LINE = 65536, /* bytes of an answer */
  MEASURE_SECONDS = 60,
  PREPARE_SECONDS = 120, /* compiles and tunes; a first import of torch, too */
  GOODBYE_SECONDS = 5,
  MOST_STARTS = 4, /* after which what does not answer in time is left out for good */
  MOST_TEXT = 300  /* bytes of a reason or a version that are told */
};

extern char **environ;

/* rms, of a result from inputs that all get; a right implementation in bfloat16 has 4e-3. */
static const double kLimit = 1e-2;

typedef struct peer {
  char *program;  /* owned */
  char *name;     /* as it says; its file's name before that; owned */
  json_t *hello;  /* or NULL */
  char *left_out; /* why it is not asked any more; owned */
  char *lapsed;   /* why it is not asked in this case: it starts again with the next; owned */
  int starts;
  pid_t pid; /* 0: not running */
  int to;
  int from;
  char *line; /* MAX_LINE bytes, of which... */
  size_t size;
  char *names[MAX_NAMES];  /* of the case; owned */
  double graph[MAX_NAMES]; /* their medians by BENCH_GRAPH */
  json_t *errors;          /* of their results, as it says, or NULL */
  json_t *same[MAX_NAMES]; /* errors of their results from inputs that all get, or NULL; owned */
  bool wrong[MAX_NAMES];   /* by those */
  bool rotated;            /* as it says */
  int num_names;
  char *case_left_out; /* why it does not do the case, until it was told; owned */
} peer;

struct bench_peers {
  peer peers[MAX_PEERS];
  int count;
  bool started;
  double deadline; /* as bench_now() */
};

/* What a way of a peer is about. */
typedef struct asked {
  peer *of;
  int which;
  const char *how;
  double unit; /* of the samples wanted in 1 us */
} asked;

static char *copy_text(const char *text) {
  char *copy = strdup(text);
  if (copy == NULL) cli_out_of_memory();
  return copy;
}

static int seconds_of(int usual) {
  const char *text = getenv(SECONDS);
  const long number = text == NULL ? 0 : strtol(text, NULL, 10);
  return number > 0 && number < 86400 ? (int)number : usual;
}

/* ---- the process ---- */

/*
 * Groups of the processes that run. They are not in the terminal's: who ends this program by a signal ends them
 * through it. 0: none.
 */
static volatile sig_atomic_t groups[MAX_PEERS];

static void end_all(int number) {
  for (int i = 0; i < MAX_PEERS; ++i) {
    if (groups[i] != 0) (void)kill(-(pid_t)groups[i], SIGKILL);
  }
  /* The handler was for once. */
  (void)raise(number);
}

static void remember(pid_t before, pid_t now) {
  for (int i = 0; i < MAX_PEERS; ++i) {
    if (groups[i] != before) continue;
    groups[i] = now;
    return;
  }
}

/* What is ignored stays so. */
static void end_with_us(void) {
  static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; ++i) {
    struct sigaction usual;
    struct sigaction ours;
    memset(&ours, 0, sizeof ours);
    ours.sa_handler = end_all;
    ours.sa_flags = (int)SA_RESETHAND;
    (void)sigemptyset(&ours.sa_mask);
    if (sigaction(numbers[i], NULL, &usual) == 0 && usual.sa_handler == SIG_DFL) {
      (void)sigaction(numbers[i], &ours, NULL);
    }
  }
}

static void pause_ms(long milliseconds) {
  const struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};
  (void)nanosleep(&time, NULL);
}

/* Waits for the process, which has `seconds` to end by itself. Returns its wait status. */
static int reap(peer *it, double seconds) {
  const double deadline = bench_now() + seconds * 1e9;
  int status = 0;
  for (;;) {
    const pid_t done = waitpid(it->pid, &status, WNOHANG);
    if (done == it->pid) break;
    if (done < 0 && errno != EINTR) return 0;
    if (bench_now() >= deadline) {
      /* With what it has started: it leads a group of its own. */
      (void)kill(-it->pid, SIGKILL);
      while (waitpid(it->pid, &status, 0) < 0 && errno == EINTR) continue;
      return status;
    }
    pause_ms(2);
  }
  (void)kill(-it->pid, SIGKILL);
  return status;
}

/* Ends the process if it runs. Returns its wait status. */
static int stop(peer *it, double seconds) {
  if (it->pid == 0) return 0;
  (void)close(it->to);
  (void)close(it->from);
  const int status = reap(it, seconds);
  remember(it->pid, 0);
  it->pid = 0;
  return status;
}

/* Of a reason or a version that somebody else wrote what can be shown. Returns owned. */
static char *shown(const char *text) {
  char *whole = cli_escape_line(text);
  if (strlen(whole) <= MOST_TEXT) return whole;
  size_t end = MOST_TEXT;
  while (end > 0 && ((unsigned char)whole[end] & 0xc0) == 0x80) --end; /* not inside a character */
  memcpy(whole + end, "...", 4);
  return whole;
}

/* Leaves it out from here on. */
static void give_up(peer *it, const char *format, ...) PEGA_PRINTF(2, 3);
static void give_up(peer *it, const char *format, ...) {
  va_list args;
  va_start(args, format);
  char *text = NULL;
  if (vasprintf(&text, format, args) < 0) cli_out_of_memory();
  va_end(args);
  (void)stop(it, 0);
  if (it->left_out == NULL) {
    it->left_out = shown(text);
    (void)fprintf(stderr, "pega bench: the peer %s is left out: %s\n", it->name, it->left_out);
  }
  free(text);
}

/* It took too long: ends it, for this case, or for good where that was too often. */
static void lapse(peer *it, const char *what, int seconds) {
  if (it->starts >= MOST_STARTS || it->hello == NULL) {
    give_up(it, "%s within %d s", what, seconds);
    return;
  }
  (void)stop(it, 0);
  free(it->lapsed);
  if (asprintf(&it->lapsed, "%s within %d s", what, seconds) < 0) cli_out_of_memory();
  (void)fprintf(stderr, "pega bench: the peer %s is left out of this case: %s\n", it->name,
                it->lapsed);
}

/* Why it cannot be asked now, or NULL. */
static const char *out_of(const peer *it) {
  return it->left_out != NULL ? it->left_out : it->lapsed;
}

static void give_up_ended(peer *it) {
  const int status = stop(it, 1);
  if (WIFSIGNALED(status)) {
    give_up(it, "it died of signal %d", WTERMSIG(status));
  } else {
    give_up(it, "it ended with exit status %d", WEXITSTATUS(status));
  }
}

static bool is_python(const char *program) {
  const char *end = strrchr(program, '.');
  return end != NULL && strcmp(end, ".py") == 0;
}

static int spawn(peer *it, int in, int out) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  sigset_t usual;
  const char *python = getenv(INTERPRETER);
  if (python == NULL || *python == '\0') python = "python3";
  char *const words[] = {is_python(it->program) ? (char *)(uintptr_t)python : it->program,
                         is_python(it->program) ? it->program : NULL, NULL};
  (void)posix_spawn_file_actions_init(&actions);
  (void)posix_spawn_file_actions_adddup2(&actions, in, 0);
  (void)posix_spawn_file_actions_adddup2(&actions, out, 1);
  (void)posix_spawnattr_init(&attributes);
  (void)sigemptyset(&usual);
  (void)sigaddset(&usual, SIGPIPE);
  (void)sigaddset(&usual, SIGXFSZ);
  (void)posix_spawnattr_setsigdefault(&attributes, &usual);
  (void)posix_spawnattr_setpgroup(&attributes, 0);
  (void)posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF);
  const int failed = posix_spawnp(&it->pid, words[0], &actions, &attributes, words, environ);
  (void)posix_spawnattr_destroy(&attributes);
  (void)posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) it->pid = 0;
  if (failed == 0) remember(0, it->pid);
  return failed;
}

/* The ends close at an exec, so that no peer holds those of another. */
static void start(peer *it) {
  int in[2];
  int out[2];
  if (pipe2(in, O_CLOEXEC) != 0) {
    give_up(it, "no pipe: %s", strerror(errno));
    return;
  }
  if (pipe2(out, O_CLOEXEC) != 0) {
    give_up(it, "no pipe: %s", strerror(errno));
    (void)close(in[0]);
    (void)close(in[1]);
    return;
  }
  ++it->starts;
  const int failed = spawn(it, in[0], out[1]);
  (void)close(in[0]);
  (void)close(out[1]);
  it->to = in[1];
  it->from = out[0];
  (void)fcntl(it->to, F_SETFL, O_NONBLOCK);
  (void)fcntl(it->from, F_SETFL, O_NONBLOCK);
  if (failed != 0) {
    (void)close(it->to);
    (void)close(it->from);
    give_up(it, "%s does not start: %s", it->program, strerror(failed));
  }
}

/* ---- a question and its answer ---- */

/* Whether the file can be read or written before the deadline. */
static bool ready(int file, short what, double deadline) {
  for (;;) {
    struct pollfd wait = {file, what, 0};
    const double left = deadline - bench_now();
    const int found = poll(&wait, 1, left <= 0 ? 0 : (int)(left / 1e6) + 1);
    if (found > 0) return true;
    if ((found < 0 && errno != EINTR) || left <= 0) return false;
  }
}

static bool send_line(peer *it, json_t *request, double deadline, int seconds) {
  char *text = json_dumps(request, JSON_COMPACT);
  if (text == NULL) cli_out_of_memory();
  const size_t size = strlen(text) + 1;
  text[size - 1] = '\n';
  for (size_t done = 0; done < size;) {
    const ssize_t written = write(it->to, text + done, size - done);
    if (written > 0) {
      done += (size_t)written;
    } else if (errno == EAGAIN) {
      if (!ready(it->to, POLLOUT, deadline)) {
        lapse(it, "it does not read what it is asked", seconds);
        break;
      }
    } else if (errno != EINTR) {
      give_up_ended(it);
      break;
    }
  }
  free(text);
  return out_of(it) == NULL;
}

/* A line, in it->line; its size without the newline. */
static bool receive_line(peer *it, double deadline, int seconds, size_t *size) {
  it->size = 0;
  for (;;) {
    if (!ready(it->from, POLLIN, deadline)) {
      lapse(it, "no answer", seconds);
      return false;
    }
    const ssize_t got = read(it->from, it->line + it->size, MAX_LINE - it->size);
    if (got == 0) {
      give_up_ended(it);
      return false;
    }
    if (got < 0) {
      if (errno == EAGAIN || errno == EINTR) continue;
      give_up(it, "its answer cannot be read: %s", strerror(errno));
      return false;
    }
    it->size += (size_t)got;
    const char *end = memchr(it->line, '\n', it->size);
    if (end != NULL) {
      *size = (size_t)(end - it->line);
      if (*size + 1 == it->size) return true;
      give_up(it, "it answered more than one line");
      return false;
    }
    if (it->size == MAX_LINE) {
      give_up(it, "an answer of more than %d bytes in one line", MAX_LINE);
      return false;
    }
  }
}

/* Asks; NULL where it was left out. Takes `request`, returns owned. */
static json_t *ask(peer *it, json_t *request, int seconds) {
  const double deadline = bench_now() + seconds * 1e9;
  size_t size = 0;
  json_t *answer = NULL;
  if (request == NULL) cli_out_of_memory();
  if (send_line(it, request, deadline, seconds) && receive_line(it, deadline, seconds, &size)) {
    answer = json_loadb(it->line, size, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(answer)) {
      json_decref(answer);
      answer = NULL;
      give_up(it, "its answer is no JSON object: %.*s", (int)(size < 80 ? size : 80), it->line);
    }
  }
  json_decref(request);
  return answer;
}

static bool is_name(const json_t *value) {
  return json_is_string(value) && json_string_length(value) > 0 &&
         json_string_length(value) <= MAX_NAME;
}

/* What it says about why it cannot; NULL where it says nothing of that. */
static const char *refusal(const json_t *answer) {
  const json_t *text = json_object_get(answer, "left_out");
  return json_is_string(text) ? json_string_value(text) : NULL;
}

static bool is_taken(const bench_peers *peers, const peer *it) {
  if (strcmp(it->name, BENCH_OURS) == 0) return true;
  for (const peer *other = peers->peers; other < it; ++other) {
    if (strcmp(other->name, it->name) == 0) return true;
  }
  return false;
}

static char *file_name(const char *program) {
  const char *slash = strrchr(program, '/');
  return cli_escape_line(slash == NULL ? program : slash + 1);
}

/* The same process again, which a case before had ended. */
static void start_again(peer *it) {
  free(it->lapsed);
  it->lapsed = NULL;
  start(it);
  if (it->left_out != NULL) return;
  json_t *hello = ask(it, json_pack("{s:s}", "do", "hello"), seconds_of(PREPARE_SECONDS));
  if (hello != NULL && refusal(hello) != NULL) give_up(it, "%s", refusal(hello));
  json_decref(hello);
}

static void greet(const bench_peers *peers, peer *it) {
  json_t *hello = ask(it, json_pack("{s:s}", "do", "hello"), seconds_of(PREPARE_SECONDS));
  if (hello == NULL) return;
  const json_t *name = json_object_get(hello, "name");
  const char *reason = refusal(hello);
  it->hello = hello;
  if (!is_name(name)) {
    give_up(it, "it does not say its name");
    return;
  }
  free(it->name);
  it->name = cli_escape_line(json_string_value(name));
  if (is_taken(peers, it)) {
    free(it->name);
    it->name = file_name(it->program);
    give_up(it, "another has its name, %s", json_string_value(name));
  } else if (reason != NULL) {
    give_up(it, "%s", reason);
  } else if (!json_is_array(json_object_get(hello, "parts")) ||
             !json_is_string(json_object_get(hello, "version"))) {
    give_up(it, "it does not say its version and parts");
  }
}

static void start_all(bench_peers *peers) {
  if (peers->started) return;
  peers->started = true;
  /* They load what they need at the same time. */
  for (int i = 0; i < peers->count; ++i) start(&peers->peers[i]);
  for (int i = 0; i < peers->count; ++i) {
    if (peers->peers[i].left_out == NULL) greet(peers, &peers->peers[i]);
  }
}

/* ---- cases ---- */

static bool does(const peer *it, const char *part) {
  size_t i = 0;
  const json_t *one = NULL;
  json_array_foreach(json_object_get(it->hello, "parts"), i, one) {
    if (json_is_string(one) && strcmp(json_string_value(one), part) == 0) return true;
  }
  return false;
}

static void forget_case(peer *it) {
  for (int i = 0; i < it->num_names; ++i) {
    free(it->names[i]);
    json_decref(it->same[i]);
    it->same[i] = NULL;
    it->wrong[i] = false;
  }
  it->num_names = 0;
  json_decref(it->errors);
  it->errors = NULL;
  free(it->case_left_out);
  it->case_left_out = NULL;
}

static void take_names(peer *it, const json_t *answer) {
  const json_t *names = json_object_get(answer, "names");
  const char *reason = refusal(answer);
  if (reason != NULL) {
    it->case_left_out = shown(reason);
    return;
  }
  bool good =
      json_is_array(names) && json_array_size(names) > 0 && json_array_size(names) <= MAX_NAMES;
  for (size_t i = 0; good && i < json_array_size(names); ++i) {
    good = is_name(json_array_get(names, i));
  }
  if (!good) {
    give_up(it, "its answer to \"prepare\" has neither names nor \"left_out\"");
    return;
  }
  it->rotated = json_is_true(json_object_get(answer, "rotated"));
  it->errors = json_incref(json_object_get(answer, "errors"));
  it->num_names = (int)json_array_size(names);
  for (int i = 0; i < it->num_names; ++i) {
    it->names[i] = copy_text(json_string_value(json_array_get(names, (size_t)i)));
    it->graph[i] = 0;
  }
}

/* What it made of inputs that all get: "judged" has the names in the order of the results in the
 * file. */
static void judge(peer *it, const json_t *answer, const bench_same *same) {
  size_t i = 0;
  const json_t *name = NULL;
  json_array_foreach(json_object_get(answer, "judged"), i, name) {
    for (int k = 0; k < it->num_names && json_is_string(name); ++k) {
      if (it->same[k] != NULL || strcmp(it->names[k], json_string_value(name)) != 0) continue;
      double error = 0;
      it->same[k] = bench_same_judge_file(same, (int64_t)i, &error);
      it->wrong[k] = it->same[k] == NULL || !(error <= kLimit);
    }
  }
}

void bench_peers_prepare(bench_peers *peers, const char *part, json_t *what, bool rotating,
                         const bench_same *same, const json_t *told) {
  start_all(peers);
  for (int i = 0; i < peers->count; ++i) {
    peer *it = &peers->peers[i];
    forget_case(it);
    if (!does(it, part)) continue;
    if (bench_now() >= peers->deadline) {
      it->case_left_out = copy_text("out of time: " ALL_SECONDS " says how many seconds there are");
      continue;
    }
    if (it->left_out == NULL && it->lapsed != NULL) start_again(it);
    if (out_of(it) == NULL) {
      json_t *request = json_pack("{s:s, s:s, s:O}", "do", "prepare", "part", part, "case", what);
      if (request == NULL) cli_out_of_memory();
      if (rotating) cli_json_set(request, "rotate_bytes", json_integer(BENCH_ROTATED));
      if (same != NULL) {
        cli_json_set(request, "judge", json_incref(same->request));
        if (ftruncate(same->results, 0) != 0) cli_json_set(request, "judge", json_null());
      }
      if (told != NULL && json_object_update(request, (json_t *)(uintptr_t)told) != 0) {
        cli_out_of_memory();
      }
      json_t *answer = ask(it, request, seconds_of(PREPARE_SECONDS));
      if (answer != NULL) take_names(it, answer);
      if (answer != NULL && same != NULL) judge(it, answer, same);
      json_decref(answer);
    }
    if (out_of(it) != NULL && it->case_left_out == NULL) it->case_left_out = copy_text(out_of(it));
  }
}

void bench_peers_drop(bench_peers *peers) {
  for (int i = 0; i < peers->count; ++i) {
    peer *it = &peers->peers[i];
    if (it->num_names > 0 && out_of(it) == NULL) {
      json_decref(ask(it, json_pack("{s:s}", "do", "drop"), seconds_of(MEASURE_SECONDS)));
    }
    forget_case(it);
  }
}

/* Times that can be: as many as were asked for, and together no longer than the answer took. */
static bool read_times(const json_t *times, int count, double elapsed_us, double unit,
                       double *out) {
  double sum = 0;
  if (!json_is_array(times) || json_array_size(times) != (size_t)count) return false;
  for (int i = 0; i < count; ++i) {
    const json_t *one = json_array_get(times, (size_t)i);
    const double us = json_number_value(one);
    if (!json_is_number(one) || !(us > 0)) return false;
    sum += us;
    out[i] = us * unit;
  }
  return sum <= elapsed_us;
}

static pega_status sample(void *self, int count, double *out, pega_error *error) {
  const asked *it = self;
  peer *of = it->of;
  if (out_of(of) == NULL) {
    const double start = bench_now();
    json_t *answer = ask(of,
                         json_pack("{s:s, s:s, s:s, s:i}", "do", "measure", "name",
                                   of->names[it->which], "how", it->how, "samples", count),
                         seconds_of(MEASURE_SECONDS));
    const double elapsed = (bench_now() - start) * 1e-3;
    const char *reason = refusal(answer);
    pega_status status = PEGA_OK;
    if (reason != NULL) {
      char *text = shown(reason);
      status = pega_error_set(error, PEGA_ERROR_UNAVAILABLE, NULL, "%s", text);
      free(text);
    } else if (answer != NULL &&
               !read_times(json_object_get(answer, "us"), count, elapsed, it->unit, out)) {
      give_up(
          of,
          "its times of \"%s\" cannot be: expected %d above 0, together at most the %.0f us that the "
          "answer took",
          of->names[it->which], count, elapsed);
    }
    json_decref(answer);
    if (out_of(of) == NULL) return status;
  }
  return pega_error_set(error, PEGA_ERROR_UNAVAILABLE, NULL, "%s", out_of(of));
}

/* ---- ways ---- */

/* Of both the larger is told. A peer without a result in the file gave none of the size that it
 * should have. */
static char *why_wrong(const json_t *same) {
  char *text = NULL;
  const double output = json_number_value(json_object_get(same, "output_rms"));
  const double state = json_number_value(json_object_get(same, "state_rms"));
  const int made =
      same == NULL
          ? asprintf(&text, "wrong: it left no result of the size that its small case has")
          : asprintf(
                &text,
                "wrong: on the inputs that all get its output is off by %.2e, its state by %.2e, "
                "where at most %.0e is right; not timed",
                output, state, kLimit);
  if (made < 0) cli_out_of_memory();
  return text;
}

/* {"error": {...}}: the numbers that it tells of one of its results. */
static json_t *errors_of(const peer *it, const char *name) {
  const char *key = NULL;
  json_t *value = NULL;
  json_t *told = json_object_get(it->errors, name);
  if (!json_is_object(told)) return NULL;
  json_t *numbers = json_object();
  json_object_foreach(told, key, value) {
    if (json_is_number(value)) cli_json_set(numbers, key, json_incref(value));
  }
  json_t *extra = json_object();
  cli_json_set(extra, "error", numbers);
  return extra;
}

int bench_peers_ways(bench_peers *peers, const char *unit, const char *how, double limit,
                     bench_way **out) {
  bench_way *ways = calloc(MAX_PEERS * MAX_NAMES, sizeof *ways);
  int count = 0;
  if (ways == NULL) cli_out_of_memory();
  const double factor = strcmp(unit, "ns") == 0 ? 1e3 : strcmp(unit, "ms") == 0 ? 1e-3 : 1;
  for (int i = 0; i < peers->count; ++i) {
    peer *it = &peers->peers[i];
    if (it->case_left_out != NULL) {
      /* Said once a case. */
      ways[count].name = it->name;
      ways[count].by = it->name;
      ways[count++].left_out = it->case_left_out;
      it->case_left_out = NULL;
    }
    for (int k = 0; k < it->num_names; ++k) {
      if (limit > 0 && it->graph[k] > limit) continue;
      asked *self = malloc(sizeof *self);
      if (self == NULL) cli_out_of_memory();
      *self = (asked){it, k, how, factor};
      ways[count].name = it->names[k];
      ways[count].by = it->name;
      ways[count].sample = sample;
      ways[count].rotated = it->rotated;
      ways[count].extra = errors_of(it, it->names[k]);
      if (it->same[k] != NULL) {
        if (ways[count].extra == NULL) ways[count].extra = json_object();
        cli_json_set(ways[count].extra, "same_data", json_incref(it->same[k]));
      }
      if (it->wrong[k]) ways[count].left_out = why_wrong(it->same[k]);
      ways[count++].self = self;
    }
  }
  *out = ways;
  return count;
}

void bench_peers_ways_end(bench_peers *peers, bench_way *ways, int num_ways) {
  (void)peers;
  for (int i = 0; i < num_ways; ++i) {
    asked *self = ways[i].self;
    if (self != NULL && strcmp(self->how, BENCH_GRAPH) == 0) {
      self->of->graph[self->which] = ways[i].median;
    }
    free(self);
  }
  bench_ways_clear(ways, num_ways);
  free(ways);
}

/* ---- which there are ---- */

static void add(bench_peers *peers, const char *program) {
  if (peers->count == MAX_PEERS) {
    (void)fprintf(stderr, "pega bench: the peer ");
    cli_print_line(stderr, program);
    (void)fprintf(stderr, " is left out: there are %d already, which is the most\n", MAX_PEERS);
    return;
  }
  peer *it = &peers->peers[peers->count++];
  it->program = copy_text(program);
  it->name = file_name(program);
  it->line = malloc(MAX_LINE);
  if (it->line == NULL) cli_out_of_memory();
}

/* Programs: what can be executed, and Python files; none that begins with '.' or '_'. */
static int is_program(const struct dirent *entry) {
  return entry->d_name[0] != '.' && entry->d_name[0] != '_';
}

static void add_installed(bench_peers *peers) {
  char folder[PATH_MAX];
  struct dirent **entries = NULL;
  if (!cli_installed(FOLDER, folder, sizeof folder)) return;
  const int count = scandir(folder, &entries, is_program, alphasort);
  for (int i = 0; i < count; ++i) {
    char path[PATH_MAX + 256];
    struct stat info;
    (void)snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
    if (stat(path, &info) == 0 && S_ISREG(info.st_mode) &&
        (is_python(path) || access(path, X_OK) == 0)) {
      add(peers, path);
    }
    free(entries[i]);
  }
  if (count >= 0) free(entries);
}

bench_peers *bench_peers_create(const cli_options *options) {
  bench_peers *peers = calloc(1, sizeof *peers);
  if (peers == NULL) cli_out_of_memory();
  const char *seconds = getenv(ALL_SECONDS);
  const double limit = seconds == NULL ? 0 : strtod(seconds, NULL);
  peers->deadline = limit > 0 ? bench_now() + limit * 1e9 : INFINITY;
  /* A peer that died is seen by the failing write. */
  (void)signal(SIGPIPE, SIG_IGN);
  end_with_us();
  if (options->num_peers == 0) add_installed(peers);
  for (int i = 0; i < options->num_peers; ++i) {
    if (strcmp(options->peers[i], "none") != 0) add(peers, options->peers[i]);
  }
  return peers;
}

void bench_peers_free(bench_peers *peers) {
  if (peers == NULL) return;
  for (int i = 0; i < peers->count; ++i) {
    peer *it = &peers->peers[i];
    forget_case(it);
    (void)stop(it, seconds_of(GOODBYE_SECONDS));
    json_decref(it->hello);
    free(it->left_out);
    free(it->lapsed);
    free(it->program);
    free(it->name);
    free(it->line);
  }
  free(peers);
}

json_t *bench_peers_report(const bench_peers *peers) {
  json_t *all = json_array();
  for (int i = 0; peers->started && i < peers->count; ++i) {
    const peer *it = &peers->peers[i];
    json_t *one = json_object();
    cli_json_set(one, "name", json_string(it->name));
    if (json_is_array(json_object_get(it->hello, "parts")) &&
        json_is_string(json_object_get(it->hello, "version"))) {
      char *version = shown(json_string_value(json_object_get(it->hello, "version")));
      cli_json_set(one, "version", cli_json_string(version));
      free(version);
      cli_json_set(one, "parts", json_incref(json_object_get(it->hello, "parts")));
    }
    if (it->left_out != NULL) cli_json_set(one, "left_out", json_string(it->left_out));
    cli_json_append(all, one);
  }
  return all;
}
