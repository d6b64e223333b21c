/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli.h"

/* Every option of every command. */
static const struct {
  unsigned bit;
  const char *name;
  char letter; /* or 0 */
  int argument;
  const char *usage;
  const char *help;
} OPTIONS[] = {
#ifdef PEGA_CLI_BRIDGE
    {CLI_OPTION_MODULE, "module", 'm', required_argument, "-m, --module FILE",
     "take functions from a TVM FFI module"},
    {CLI_OPTION_GLOBALS, "tvm-ffi", 0, optional_argument, "    --tvm-ffi[=LIB]",
     "take functions from the TVM FFI runtime's globals too; LIB is the runtime to open"},
    {CLI_OPTION_RUNTIME, "tvm-ffi", 0, required_argument, "    --tvm-ffi LIB",
     "the TVM FFI runtime to open, and no other"},
#else
    {CLI_OPTION_MODULE, "module", 'm', required_argument, "-m, --module FILE",
     "take functions from a module (needs a build with a bridge)"},
#endif
    {CLI_OPTION_PACK, "pack", 'p', required_argument, "-p, --pack PACK",
     "take functions from a kernel pack, a folder or a file"},
    {CLI_OPTION_EMBEDDED, "embedded", 0, no_argument, "    --embedded",
     "take functions from the pack that libpega was built with"},
    {CLI_OPTION_EMBEDDED_PACK, "embedded", 0, no_argument, "    --embedded",
     "the pack that libpega was built with, in the place of PACK"},
    {CLI_OPTION_ARTIFACT, "artifact", 'a', required_argument, "-a, --artifact FILE",
     "take functions from an artifact: a pack, a C library, a module"},
    {CLI_OPTION_SIGNATURE, "signature", 0, required_argument, "    --signature FILE",
     "the signature file of a C library, where it is not the library's name with .json"},
    {CLI_OPTION_TARGET, "target", 't', required_argument, "-t, --target TARGET",
     "the target to explain for: sm_90, sm_90a; needs no GPU"},
    {CLI_OPTION_DEVICE, "device", 'd', required_argument, "-d, --device DEVICE",
     "the CUDA device, 0 or cuda:0"},
    {CLI_OPTION_ALLOW_PTX, "allow-ptx", 0, no_argument, "    --allow-ptx",
     "kernels that are PTX may be compiled by the driver"},
    {CLI_OPTION_PARAMS, "params", 0, no_argument, "    --params",
     "of a pack's variants show grids, conditions and parameters with offsets too"},
    {CLI_OPTION_SEARCH, "search", 0, required_argument, "    --search DIR",
     "look for libraries that are needed in this folder first; may be given again"},
    {CLI_OPTION_SYMBOLS, "symbols", 0, no_argument, "    --symbols",
     "show every symbol, and not how many there are"},
    {CLI_OPTION_OUTPUT, "output", 'o', required_argument, "-o, --output FILE",
     "write output tensors to this .safetensors file"},
    {CLI_OPTION_MODULE_OUTPUT, "output", 'o', required_argument, "-o, --output FILE",
     "write the module to this file"},
    {CLI_OPTION_FUNCTION, "function", 'f', required_argument, "-f, --function NAME",
     "take this function alone; may be given several times"},
    {CLI_OPTION_ONLY_TARGET, "target", 't', required_argument, "-t, --target TARGET",
     "take the variants of this target alone: sm_90a"},
    {CLI_OPTION_PREFIX, "prefix", 0, required_argument, "    --prefix TEXT",
     "put this before the functions' names"},
    {CLI_OPTION_ALIAS, "alias", 0, no_argument, "    --alias",
     "functions by their names with _ in the place of dots, too"},
    {CLI_OPTION_KEEP, "keep", 0, required_argument, "    --keep FOLDER",
     "leave what is compiled in this folder"},
    {CLI_OPTION_BATCHES, "batches", 0, required_argument, "    --batches N",
     "batches to take the median of"},
    {CLI_OPTION_PEERS, "peers", 0, required_argument, "    --peers PROGRAM",
     "measure this peer beside, and none of the installed; may be given again; or none"},
    {CLI_OPTION_QUICK, "quick", 0, no_argument, "    --quick",
     "few samples of small sizes: whether it works, not how fast it is"},
    {CLI_OPTION_JSON_FILE, "json", 0, required_argument, "    --json FILE",
     "write a JSON document to this file; to standard output, and nothing else, with -"},
    {CLI_OPTION_TUNE, "output", 'o', required_argument, "-o, --output FILE",
     "write the table to this file"},
    {CLI_OPTION_TUNE, "device", 'd', required_argument, "-d, --device DEVICE",
     "where to measure: cuda:0, cpu"},
    {CLI_OPTION_TUNE, "tokens", 0, required_argument, "    --tokens LIST",
     "tokens of a sequence to begin with: 64,512,4096"},
    {CLI_OPTION_TUNE, "sequences", 0, required_argument, "    --sequences LIST",
     "numbers of sequences: 1,8"},
    {CLI_OPTION_TUNE, "heads", 0, required_argument, "    --heads LIST",
     "key and value heads: 16:32,4:8"},
    {CLI_OPTION_TUNE, "quick", 0, no_argument, "    --quick", "fewer sizes, fewer rounds"},
    {CLI_OPTION_TUNE, "eager", 0, no_argument, "    --eager",
     "calls one by one, with what they cost the host; else CUDA graphs of calls"},
    {CLI_OPTION_TUNE, "states", 0, no_argument, "    --states",
     "calls that go on with given states; else from zeros, as prompts begin"},
    {CLI_OPTION_TUNE, "own", 0, no_argument, "    --own",
     "leave what --artifact provides out of the table"},
    {CLI_OPTION_TUNE, "check", 0, required_argument, "    --check FILE",
     "measure how good a table's choices are, at sizes that are drawn"},
    {CLI_OPTION_TUNE, "points", 0, required_argument, "    --points N",
     "of --check: how many sizes"},
    {CLI_OPTION_TUNE, "seed", 0, required_argument, "    --seed N",
     "of --check: what they are drawn with"},
    {CLI_OPTION_JSON, "json", 0, no_argument, "    --json", "print one JSON object"},
    {CLI_OPTION_HELP, "help", 'h', no_argument, "-h, --help", "print this help"},
};
enum { NUM_OPTIONS = sizeof OPTIONS / sizeof OPTIONS[0] };

/* What getopt_long() returns for option i: beyond every letter. */
enum { OPTION_BASE = 256 };

cli_exit cli_misuse(pega_error *error, const char *format, ...) {
  char text[1024];
  va_list args;
  va_start(args, format);
  (void)vsnprintf(text, sizeof text, format, args);
  va_end(args);
  (void)pega_error_set_text(error, PEGA_ERROR_INVALID_ARGUMENT, NULL, text, strlen(text));
  return CLI_MISUSE;
}

void cli_options_help(unsigned options) {
  for (int i = 0; i < NUM_OPTIONS; ++i) {
    if ((options & OPTIONS[i].bit) != 0) {
      (void)printf("  %-19s  %s\n", OPTIONS[i].usage, OPTIONS[i].help);
    }
  }
}

/* "-2.5", "-.5", "-inf" and "-" are arguments, not options. */
static bool is_argument(const char *word) {
  if (word[0] != '-' || word[1] == '\0') return true;
  if (isdigit((unsigned char)word[1]) || word[1] == '.') return true;
  return strcmp(word, "-inf") == 0 || strcmp(word, "-nan") == 0;
}

static cli_exit parse_batches(const char *text, int32_t *out, pega_error *error) {
  char *end = NULL;
  errno = 0;
  const long number = strtol(text, &end, 10);
  if (end == text || *end != '\0' || errno != 0 || number < 1 || number > 10000) {
    return cli_misuse(error, "--batches: expected a number from 1 to 10000, got \"%.100s\"", text);
  }
  *out = (int32_t)number;
  return CLI_DONE;
}

/* "0", "cuda:0" or "cuda". */
static cli_exit parse_device(const char *text, cli_options *out, pega_error *error) {
  char name[PEGA_NAME_SIZE];
  DLDevice device = {kDLCPU, 0};
  const bool bare = *text != '\0' && strspn(text, "0123456789") == strlen(text);
  const int size = snprintf(name, sizeof name, "%s%s", bare ? "cuda:" : "", text);
  if (size >= (int)sizeof name || pega_device_parse(name, &device, NULL) != PEGA_OK ||
      device.device_type != kDLCUDA) {
    return cli_misuse(error, "--device: expected a CUDA device, 0 or cuda:0, got \"%.100s\"", text);
  }
  out->has_device = true;
  out->device = device.device_id;
  return CLI_DONE;
}

static cli_exit apply_tune(const char *name, cli_tune_options *out) {
  const struct {
    const char *name;
    const char **text;
    bool *flag;
  } all[] = {{"output", &out->output, NULL}, {"device", &out->device, NULL},
             {"tokens", &out->tokens, NULL}, {"sequences", &out->sequences, NULL},
             {"heads", &out->heads, NULL},   {"check", &out->check, NULL},
             {"points", &out->points, NULL}, {"seed", &out->seed, NULL},
             {"quick", NULL, &out->quick},   {"eager", NULL, &out->eager},
             {"own", NULL, &out->own},       {"states", NULL, &out->states}};
  for (size_t i = 0; i < sizeof all / sizeof *all; ++i) {
    if (strcmp(all[i].name, name) != 0) continue;
    if (all[i].text != NULL) *all[i].text = optarg;
    if (all[i].flag != NULL) *all[i].flag = true;
  }
  return CLI_DONE;
}

static cli_exit apply(unsigned bit, const char *name, cli_options *out, pega_error *error) {
  switch (bit) {
    case CLI_OPTION_TUNE:
      return apply_tune(name, &out->tune);
    case CLI_OPTION_HELP:
      out->help = true;
      return CLI_DONE;
    case CLI_OPTION_JSON:
      out->json = true;
      return CLI_DONE;
    case CLI_OPTION_MODULE:
      out->module = optarg;
      return CLI_DONE;
    case CLI_OPTION_GLOBALS:
    case CLI_OPTION_RUNTIME:
      out->globals = true;
      out->runtime_library = optarg;
      return CLI_DONE;
    case CLI_OPTION_PACK:
      out->pack = optarg;
      return CLI_DONE;
    case CLI_OPTION_EMBEDDED:
    case CLI_OPTION_EMBEDDED_PACK:
      out->embedded = true;
      return CLI_DONE;
    case CLI_OPTION_ARTIFACT:
      out->artifact = optarg;
      return CLI_DONE;
    case CLI_OPTION_SIGNATURE:
      out->signature = optarg;
      return CLI_DONE;
    case CLI_OPTION_TARGET:
    case CLI_OPTION_ONLY_TARGET:
      out->target = optarg;
      return CLI_DONE;
    case CLI_OPTION_DEVICE:
      return parse_device(optarg, out, error);
    case CLI_OPTION_ALLOW_PTX:
      out->allow_ptx = true;
      return CLI_DONE;
    case CLI_OPTION_PARAMS:
      out->params = true;
      return CLI_DONE;
    case CLI_OPTION_PREFIX:
      out->prefix = optarg;
      return CLI_DONE;
    case CLI_OPTION_ALIAS:
      out->alias = true;
      return CLI_DONE;
    case CLI_OPTION_KEEP:
      out->keep = optarg;
      return CLI_DONE;
    case CLI_OPTION_FUNCTION:
      out->functions[out->num_functions++] = optarg;
      return CLI_DONE;
    case CLI_OPTION_SEARCH:
      out->search[out->num_search++] = optarg;
      return CLI_DONE;
    case CLI_OPTION_PEERS:
      out->peers[out->num_peers++] = optarg;
      return CLI_DONE;
    case CLI_OPTION_QUICK:
      out->quick = true;
      return CLI_DONE;
    case CLI_OPTION_JSON_FILE:
      out->json_path = optarg;
      return CLI_DONE;
    case CLI_OPTION_SYMBOLS:
      out->symbols = true;
      return CLI_DONE;
    case CLI_OPTION_OUTPUT:
    case CLI_OPTION_MODULE_OUTPUT:
      out->output = optarg;
      return CLI_DONE;
    default:
      return parse_batches(optarg, &out->batches, error);
  }
}

/* How many arguments there are, and that they come from one place. */
static cli_exit check(const cli_command *command, const cli_options *out, pega_error *error) {
  /* An artifact may be of the runtime that --tvm-ffi names. */
  const bool foreign = out->module != NULL || (out->globals && out->artifact == NULL);
  /* An argument that an option stands for. */
  const int spared = out->embedded && (command->options & CLI_OPTION_EMBEDDED_PACK) != 0 ? 1 : 0;
  if (out->num_args < command->min_args - spared) {
    return cli_misuse(error, "expected `pega %s %s`, got %d argument%s", command->name,
                      command->usage, out->num_args, out->num_args == 1 ? "" : "s");
  }
  if (command->max_args >= 0 && out->num_args > command->max_args - spared) {
    return cli_misuse(error, "%s: unexpected argument \"%.100s\"", command->name,
                      out->args[command->max_args - spared]);
  }
  const char *const places[] = {out->pack != NULL ? "--pack" : NULL,
                                out->embedded ? "--embedded" : NULL,
                                out->artifact != NULL ? "--artifact" : NULL,
                                !foreign              ? NULL
                                : out->module != NULL ? "--module"
                                                      : "a runtime"};
  const char *first = NULL;
  for (size_t i = 0; i < sizeof places / sizeof *places; ++i) {
    if (places[i] != NULL && first != NULL) {
      return cli_misuse(error, "%s: expected one place to take functions from, got %s and %s",
                        command->name, first, places[i]);
    }
    if (places[i] != NULL) first = places[i];
  }
  const char *const lone = out->num_search > 0      ? "--search"
                           : out->signature != NULL ? "--signature"
                                                    : NULL;
  if (lone != NULL && (command->options & CLI_OPTION_ARTIFACT) != 0 && out->artifact == NULL) {
    return cli_misuse(error, "%s: %s is for --artifact", command->name, lone);
  }
  return CLI_DONE;
}

cli_exit cli_options_parse(const cli_command *command, int num_words, char **words,
                           cli_options *out, pega_error *error) {
  struct option longs[NUM_OPTIONS + 1];
  char shorts[2 + 2 * NUM_OPTIONS + 1] = "+:"; /* stop at arguments; ':' tells what is missing */
  size_t num_longs = 0;
  size_t num_shorts = 2;
  memset(longs, 0, sizeof longs);
  for (int i = 0; i < NUM_OPTIONS; ++i) {
    if ((command->options & OPTIONS[i].bit) == 0) continue;
    longs[num_longs].name = OPTIONS[i].name;
    longs[num_longs].has_arg = OPTIONS[i].argument;
    longs[num_longs].val = OPTION_BASE + i;
    ++num_longs;
    if (OPTIONS[i].letter != 0) {
      shorts[num_shorts++] = OPTIONS[i].letter;
      if (OPTIONS[i].argument == required_argument) shorts[num_shorts++] = ':';
    }
  }
  memset(out, 0, sizeof *out);
  out->prefix = "";
  out->args = calloc((size_t)num_words + 1, sizeof *out->args);
  out->functions = calloc((size_t)num_words + 1, sizeof *out->functions);
  out->search = calloc((size_t)num_words + 1, sizeof *out->search);
  out->peers = calloc((size_t)num_words + 1, sizeof *out->peers);
  if (out->args == NULL || out->functions == NULL || out->search == NULL || out->peers == NULL) {
    (void)pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "out of memory");
    return CLI_FAILED;
  }
  optind = 1;
  opterr = 0;
  while (optind < num_words) {
    char *word = words[optind];
    if (is_argument(word)) {
      out->args[out->num_args++] = word;
      ++optind;
      continue;
    }
    const int code = getopt_long(num_words, words, shorts, longs, NULL);
    if (code == -1) break; /* "--" */
    if (code == '?') return cli_misuse(error, "%s: no option \"%.100s\"", command->name, word);
    if (code == ':') return cli_misuse(error, "%s: \"%.100s\" needs a value", command->name, word);
    unsigned bit = 0;
    const char *name = NULL;
    for (int i = 0; i < NUM_OPTIONS && bit == 0; ++i) {
      const bool offered = (command->options & OPTIONS[i].bit) != 0;
      if (offered && (code == OPTION_BASE + i || code == OPTIONS[i].letter)) {
        bit = OPTIONS[i].bit;
        name = OPTIONS[i].name;
      }
    }
    const cli_exit applied = apply(bit, name, out, error);
    if (applied != CLI_DONE) return applied;
  }
  while (optind < num_words) out->args[out->num_args++] = words[optind++];
  return out->help ? CLI_DONE : check(command, out, error);
}

void cli_options_clear(cli_options *options) {
  free(options->args);
  free(options->functions);
  free(options->search);
  free(options->peers);
  options->peers = NULL;
  options->args = options->functions = NULL;
  options->search = NULL;
}
