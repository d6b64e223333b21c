/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file cli.h
 * \brief The command line `pega`: its commands, their options, and how one ends.
 *
 * main.c holds the table of commands and options.c the table of options; help, parsing and dispatch
 * all come from the two. A command is one function in a file of its own, over public headers only.
 */
#ifndef PEGA_CLI_H_
#define PEGA_CLI_H_

#include <stdbool.h>

#include <pega/pega.h>

/** \brief Exit codes of the process. */
typedef enum cli_exit {
  CLI_DONE = 0,
  CLI_FAILED = 1, /**< the command line was understood, the work failed */
  CLI_MISUSE = 2  /**< the command line itself is wrong */
} cli_exit;

/** \brief Bits that say which options a command takes. */
enum {
  CLI_OPTION_HELP = 1,
  CLI_OPTION_JSON = 2,
  CLI_OPTION_MODULE = 4,
  CLI_OPTION_GLOBALS = 8,  /**< --tvm-ffi[=LIB]: the runtime's globals too */
  CLI_OPTION_RUNTIME = 16, /**< --tvm-ffi LIB: which runtime */
  CLI_OPTION_OUTPUT = 32,
  CLI_OPTION_BATCHES = 64,
  CLI_OPTION_PACK = 128,
  CLI_OPTION_TARGET = 256,
  CLI_OPTION_DEVICE = 512,
  CLI_OPTION_ALLOW_PTX = 1024,
  CLI_OPTION_PARAMS = 2048,
  CLI_OPTION_EMBEDDED = 4096,      /**< --embedded: functions of the pack in libpega */
  CLI_OPTION_EMBEDDED_PACK = 8192, /**< --embedded: that pack, in the place of an argument PACK */
  CLI_OPTION_SEARCH = 16384,       /**< --search DIR, as often as there are folders */
  CLI_OPTION_SYMBOLS = 32768,
  CLI_OPTION_ARTIFACT = 65536,
  CLI_OPTION_SIGNATURE = 1 << 17,     /**< --signature FILE, of a C library */
  CLI_OPTION_MODULE_OUTPUT = 1 << 20, /**< --output: a module */
  CLI_OPTION_ALIAS = 1 << 21,
  CLI_OPTION_KEEP = 1 << 22,
  CLI_OPTION_PREFIX = 1 << 23,
  CLI_OPTION_FUNCTION = 1 << 24,
  CLI_OPTION_ONLY_TARGET = 1 << 25, /**< --target: variants of it alone */
  CLI_OPTION_JSON_FILE = 1 << 18,   /**< --json FILE */
  CLI_OPTION_PEERS = 1 << 19,       /**< --peers PROGRAM, as often as there are peers */
  CLI_OPTION_QUICK = 1 << 26,
  CLI_OPTION_TUNE = 1 << 30 /**< all that `pega tune` alone takes */
};

/** \brief Options of `pega tune`. Text is NULL where none was given. */
typedef struct cli_tune_options {
  const char *output, *device, *tokens, *sequences, *heads, *check, *seed, *points;
  bool quick, eager, own, states;
} cli_tune_options;

/** \brief A parsed command line. Text is borrowed from argv. */
typedef struct cli_options {
  bool help;
  bool json;
  bool globals;                /**< --tvm-ffi was given */
  const char *runtime_library; /**< its LIB, or NULL */
  const char *module;
  const char *pack;      /**< never together with module or globals */
  bool embedded;         /**< the pack in libpega; never together with any of them */
  const char *artifact;  /**< never together with any of them but the runtime */
  const char *signature; /**< file of a C library, or NULL */
  const char *target;
  const char *output;
  bool has_device;
  int32_t device;     /**< number of a CUDA device, 0 where none was given */
  bool allow_ptx;     /**< the driver may compile PTX */
  bool params;        /**< show the parameters of kernels */
  bool symbols;       /**< show every symbol */
  int32_t batches;    /**< 0 for the command's own number */
  const char *prefix; /**< of names, "" where none was given */
  const char *keep;   /**< folder, or NULL */
  bool alias;         /**< names without dots, too */
  char **functions;   /**< names that --function gave, in order */
  int num_functions;
  const char **search; /**< folders to look for libraries in, in order */
  int num_search;
  const char *json_path; /**< of --json FILE, or NULL */
  const char **peers;    /**< programs that --peers gave, in order */
  int num_peers;
  bool quick;
  cli_tune_options tune;
  char **args; /**< what is no option, in order */
  int num_args;
} cli_options;

/** \brief A command. */
typedef struct cli_command {
  const char *name;
  const char *usage;   /**< what follows the name */
  const char *summary; /**< one line */
  const char *details; /**< the rest of the help, or "" */
  unsigned options;    /**< CLI_OPTION_* bits */
  int min_args;
  int max_args; /**< -1 for any number */
  /**
   * Prints to stdout and returns CLI_DONE; or fills `error`, which is empty on entry and never
   * NULL, and returns another code. With no error filled what was printed says it all.
   */
  cli_exit (*run)(const cli_options *options, pega_error *error);
} cli_command;

/**
 * \brief Parses the words after the command's name.
 *
 * Options may stand anywhere. A word like -2.5 is an argument, and so is everything after "--".
 * \param words argv from the command's name on; may be permuted.
 * \param out Its args are owned: give them back with cli_options_clear(), on failure too.
 */
cli_exit cli_options_parse(const cli_command *command, int num_words, char **words,
                           cli_options *out, pega_error *error);
void cli_options_clear(cli_options *options);
/** \brief Prints the options of a command for its help, a line each. */
void cli_options_help(unsigned options);

/** \brief Fills `error` with a text about the command line, and returns CLI_MISUSE. */
cli_exit cli_misuse(pega_error *error, const char *format, ...) PEGA_PRINTF(2, 3);

cli_exit cli_doctor(const cli_options *options, pega_error *error);
cli_exit cli_list(const cli_options *options, pega_error *error);
cli_exit cli_info(const cli_options *options, pega_error *error);
cli_exit cli_call(const cli_options *options, pega_error *error);
cli_exit cli_verify(const cli_options *options, pega_error *error);
cli_exit cli_explain(const cli_options *options, pega_error *error);
cli_exit cli_export(const cli_options *options, pega_error *error);
cli_exit cli_test(const cli_options *options, pega_error *error);
cli_exit cli_inspect(const cli_options *options, pega_error *error);
cli_exit cli_tune(const cli_options *options, pega_error *error);
cli_exit cli_bench(const cli_options *options, pega_error *error);
cli_exit cli_help(const cli_options *options, pega_error *error);

#endif  // PEGA_CLI_H_
