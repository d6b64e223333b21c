/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include <pega/cublas.h>

#include "cli.h"
#include "print.h"

static const cli_command COMMANDS[] = {
    {"doctor", "[OPTION...]", "say what is found here: build, runtime, driver, devices, packs, CPU",
     "A missing GPU or runtime is no failure, and neither is a libpega with no pack of its own. The\n"
     "exit code is 1 if something that was found, or a pack that PEGA_PACK_PATH names, does not\n"
     "work.\n",
     CLI_OPTION_RUNTIME | CLI_OPTION_JSON | CLI_OPTION_HELP, 0, 0, cli_doctor},
    {"list", "[OPTION...]", "list functions with their signatures",
     "Without options: the functions of the registry. With --artifact, --module, --pack or\n"
     "--embedded: those of the artifact, the module or the kernel pack.\n",
     CLI_OPTION_ARTIFACT | CLI_OPTION_SIGNATURE | CLI_OPTION_SEARCH | CLI_OPTION_MODULE |
         CLI_OPTION_PACK | CLI_OPTION_EMBEDDED | CLI_OPTION_GLOBALS | CLI_OPTION_JSON |
         CLI_OPTION_HELP,
     0, 0, cli_list},
    {"info", "NAME | PACK [NAME] | --embedded [NAME] [OPTION...]",
     "describe a function and its parameters, or a kernel pack",
     "PACK is an argument that ends in .pegapack, has a slash or exists as a file or folder; a\n"
     "NAME is any other one, and every one where an option says what to take functions from.\n"
     "Needs no GPU.\n",
     CLI_OPTION_ARTIFACT | CLI_OPTION_SIGNATURE | CLI_OPTION_SEARCH | CLI_OPTION_MODULE |
         CLI_OPTION_PACK | CLI_OPTION_EMBEDDED_PACK | CLI_OPTION_GLOBALS | CLI_OPTION_PARAMS |
         CLI_OPTION_JSON | CLI_OPTION_HELP,
     1, 2, cli_info},
    {"inspect", "FILE... [OPTION...]", "say what a file is and needs; none of its code runs",
     "FILE is a kernel pack, a shared library or module, an object file, or code for GPUs (a cubin, a\n"
     "fatbin, PTX). Shown are its format and architecture, its functions, the libraries that it needs\n"
     "with where each was found, symbols that nothing provides, the targets of the GPU code in it, and\n"
     "what is missing before it can be opened. Needs no GPU.\n"
     "The exit code is 0 if nothing is missing, and 1 if something is.\n",
     CLI_OPTION_SIGNATURE | CLI_OPTION_SEARCH | CLI_OPTION_SYMBOLS | CLI_OPTION_JSON |
         CLI_OPTION_HELP,
     1, -1, cli_inspect},
    {"call", "NAME [ARG...] [OPTION...]", "call a function",
     "An ARG is read by the type that the function's signature gives it, or is one of:\n"
     "  3  -2.5  0x10  true  none      a number, bool or none\n"
     "  str:TEXT  bytes:HEX            a string, bytes\n"
     "  ptr:0x10  dtype:float32        a pointer, an element type\n"
     "  device:cpu:0  fn:NAME          a device, a function of the registry\n"
     "  @FILE.safetensors:TENSOR       a tensor of a file, copied into private memory\n"
     "  @FILE.safetensors              the file's only tensor\n"
     "  zeros:bfloat16[128,2,64]       a new tensor\n"
     "Output tensors (parameters that the call writes; without a signature each zeros:... one; a\n"
     "tensor that the function returns) are written to -o FILE under the parameter's name, or argN\n"
     "without a signature; a returned one is \"result\".\n"
     "Tensors are made on the CPU alone: a pack's function that wants memory of a GPU is refused\n"
     "before anything is launched; `pega test PACK` runs kernels.\n",
     CLI_OPTION_ARTIFACT | CLI_OPTION_SIGNATURE | CLI_OPTION_SEARCH | CLI_OPTION_MODULE |
         CLI_OPTION_PACK | CLI_OPTION_EMBEDDED | CLI_OPTION_GLOBALS | CLI_OPTION_ALLOW_PTX |
         CLI_OPTION_OUTPUT | CLI_OPTION_JSON | CLI_OPTION_HELP,
     1, -1, cli_call},
    {"verify", "PACK... | --embedded [OPTION...]",
     "check kernel packs whole: manifest and every blob",
     "Needs no GPU. Each blob is compared with the manifest. Proved of each is its SHA-256; of a\n"
     "cubin its target, that it has the entry, the offsets and sizes of the entry's parameters, its\n"
     "registers, its local and static shared memory, and its block and cluster where it fixes them;\n"
     "of PTX that it is PTX for that target with that entry, and no more. Not proved are types and\n"
     "values of parameters, grids, dynamic shared memory, other clusters, PDL and cooperative\n"
     "launch: `pega test` proves those, by running golden cases on a GPU. The exit code is 1 if a\n"
     "pack is not what it says.\n",
     CLI_OPTION_EMBEDDED_PACK | CLI_OPTION_JSON | CLI_OPTION_HELP, 1, -1, cli_verify},
    {"explain", "NAME --target TARGET | --device DEVICE | TOKENS... [OPTION...]",
     "say which variant or implementation of a function is taken, and why",
     "Of a pack's function: which variant a GPU takes, with one of --target and --device. Of a function\n"
     "that chooses between implementations: NAME [TOKENS [SEQUENCES [KEY_HEADS [VALUE_HEADS]]]], for the\n"
     "CPU, or with --device for a GPU, which need not be there. Tables of `pega tune` count where\n"
     "PEGA_CHOICES names them, what --artifact provides where it is given.\n"
     "\n"
     "Without --pack and --embedded: the first pack of PEGA_PACK_PATH (paths with colons between\n"
     "them) that has the function, else the one in libpega. The answer is the manifest's alone: no\n"
     "blob is looked at (`pega verify` does that). With --target no GPU is needed. The exit code is\n"
     "1 if no variant is taken.\n",
     CLI_OPTION_PACK | CLI_OPTION_EMBEDDED | CLI_OPTION_TARGET | CLI_OPTION_DEVICE |
         CLI_OPTION_ARTIFACT | CLI_OPTION_SEARCH | CLI_OPTION_ALLOW_PTX | CLI_OPTION_JSON |
         CLI_OPTION_HELP,
     1, 5, cli_explain},
    {"test", "PACK | --embedded [OPTION...]",
     "run a pack's golden cases on a GPU and compare what they write",
     "Without --device: on cuda:0. A line for each compared output, which agrees where each element\n"
     "is |got - expected| <= tolerance + relative tolerance * |expected|. In JSON a \"max_error\" that\n"
     "is no finite number (a NaN or an infinity that is not expected) is null, and \"not_finite\" is\n"
     "true. The exit code is 1 unless there was a case and all of them agreed.\n",
     CLI_OPTION_EMBEDDED_PACK | CLI_OPTION_DEVICE | CLI_OPTION_ALLOW_PTX | CLI_OPTION_JSON |
         CLI_OPTION_HELP,
     1, 1, cli_test},
    {"export", "PACK -o FILE | --embedded -o FILE [OPTION...]",
     "make a module of a kernel pack's functions, for hosts of any language",
#ifdef PEGA_CLI_BRIDGE
     "The module is a shared library that any host of TVM FFI loads; it needs no pega. Each function\n"
     "has the name and the signature that the pack gives it, but for a stream, which may be left\n"
     "out: then it is the environment's current one. A tensor may stand for a pointer. Needs no GPU,\n"
     "but a C compiler: CC names it, else it is cc. The pack is checked as `pega verify` does it.\n"
     "Choices between implementations (a whole prefill) are libpega's and not in a pack.\n",
#else
     "It needs a build with a bridge.\n",
#endif
     CLI_OPTION_MODULE_OUTPUT | CLI_OPTION_FUNCTION | CLI_OPTION_ONLY_TARGET | CLI_OPTION_PREFIX |
         CLI_OPTION_ALIAS | CLI_OPTION_KEEP | CLI_OPTION_ALLOW_PTX | CLI_OPTION_EMBEDDED_PACK |
         CLI_OPTION_JSON | CLI_OPTION_HELP,
     1, 1, cli_export},
    {"tune", "[FUNCTION] [OPTION...]",
     "measure a function's implementations here, and write the table by which it chooses",
     "FUNCTION is pegainfer.qwen35.gated_delta_rule_prefill, the one that chooses so. Every implementation\n"
     "that can do a call is measured over sizes, by turns; sizes are added where another one becomes\n"
     "the fastest. PEGA_CHOICES=FILE makes every process use the table, and an engine loads it by\n"
     "pega_qwen35_load_choices(); `pega explain` shows its choices. --artifact FILE provides FlashInfer's\n"
     "prefill first, and where its times are in a table it is taken by itself: it rounds more than the\n"
     "library's own (docs/tuning.md). With --check the exit code is 1 where a choice is more than 3 %\n"
     "slower than the fastest.\n",
     CLI_OPTION_TUNE | CLI_OPTION_ARTIFACT | CLI_OPTION_SEARCH | CLI_OPTION_SIGNATURE |
         CLI_OPTION_JSON | CLI_OPTION_HELP,
     0, 1, cli_tune},
    {"bench", "[PART...] [OPTION...]", "measure the library on this machine, and what others make",
     "Without a part: all that can be measured here; what cannot is left out by name. Parts:\n"
     "  call     ns of a no-op through each boundary\n"
     "  launch   host ns of a kernel's launch, in every form, and by the driver alone\n"
     "  cold     ms of a process to its first result, and of one with the driver alone\n"
     "  scale    packs of 10 to 10,000 functions: opening, registering, looking up; launches by threads\n"
     "  solve    us of the chunk solve on the GPU, for lengths\n"
     "  stages   us of each stage of the prefill\n"
     "  prefill  us of every implementation of the prefill, for lengths and heads\n"
     "  decode   us of the decode step, for batches\n"
     "  cpu      us of the functions on CPU tensors, and what the processors can do at most\n"
     "Peers are programs that measure what others make, by turns with the library: PREFIX/share/pega/\n"
     "bench/peers, or --peers; Python ones run with PEGA_TORCH_PYTHON. docs/benchmark.md has what the\n"
     "numbers mean, the JSON document and how a peer is written. The exit code is 1 where something of\n"
     "the library failed or was wrong, or a part that was named could not be measured.\n",
     CLI_OPTION_RUNTIME | CLI_OPTION_BATCHES | CLI_OPTION_PACK | CLI_OPTION_ARTIFACT |
         CLI_OPTION_SIGNATURE | CLI_OPTION_SEARCH | CLI_OPTION_PEERS | CLI_OPTION_QUICK |
         CLI_OPTION_JSON_FILE | CLI_OPTION_HELP,
     0, -1, cli_bench},
    {"help", "[COMMAND]", "print this help, or a command's", "", CLI_OPTION_JSON | CLI_OPTION_HELP,
     0, 1, cli_help},
};
enum { NUM_COMMANDS = sizeof COMMANDS / sizeof COMMANDS[0] };

static const cli_command *find_command(const char *name) {
  for (int i = 0; i < NUM_COMMANDS; ++i) {
    if (strcmp(COMMANDS[i].name, name) == 0) return &COMMANDS[i];
  }
  return NULL;
}

static void print_usage(FILE *stream) {
  (void)fputs("usage: pega COMMAND [ARG...]\n\ncommands:\n", stream);
  for (int i = 0; i < NUM_COMMANDS; ++i) {
    (void)fprintf(stream, "  %-8s %s\n", COMMANDS[i].name, COMMANDS[i].summary);
  }
  (void)fputs(
      "\n`pega COMMAND --help` tells more; `pega --version` prints the version.\n"
      "Exit codes: 0 done, 1 failed, 2 misuse. A function that refuses its arguments has failed; misuse\n"
      "is a command line that cannot be read.\n",
      stream);
}

static void print_help(const cli_command *command) {
  (void)printf("usage: pega %s %s\n\n%s.\n", command->name, command->usage, command->summary);
  if (*command->details != '\0') (void)printf("\n%s", command->details);
  (void)puts("\noptions:");
  cli_options_help(command->options);
}

static json_t *describe(const cli_command *command) {
  json_t *object = json_object();
  cli_json_set(object, "name", cli_json_string(command->name));
  cli_json_set(object, "usage", cli_json_string(command->usage));
  cli_json_set(object, "summary", cli_json_string(command->summary));
  cli_json_set(object, "details", cli_json_string(command->details));
  return object;
}

cli_exit cli_help(const cli_options *options, pega_error *error) {
  if (options->num_args == 0 && options->json) {
    json_t *object = json_object();
    json_t *commands = json_array();
    for (int i = 0; i < NUM_COMMANDS; ++i) cli_json_append(commands, describe(&COMMANDS[i]));
    cli_json_set(object, "commands", commands);
    cli_print_json(object);
    return CLI_DONE;
  }
  if (options->num_args == 0) {
    print_usage(stdout);
    return CLI_DONE;
  }
  const cli_command *command = find_command(options->args[0]);
  if (command == NULL) {
    return cli_misuse(error, "no command \"%.100s\"; `pega help` lists them", options->args[0]);
  }
  if (options->json) {
    cli_print_json(describe(command));
  } else {
    print_help(command);
  }
  return CLI_DONE;
}

/* Before parsing, since what parsing has to say is printed as asked too. */
static bool wants_json(int argc, char **argv) {
  const cli_command *command = argc > 1 ? find_command(argv[1]) : NULL;
  /* There it names a file: what is said to people goes to stderr. */
  if (command != NULL && (command->options & CLI_OPTION_JSON_FILE) != 0) return false;
  for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; ++i) {
    if (strcmp(argv[i], "--json") == 0) return true;
  }
  return false;
}

static cli_exit dispatch(int argc, char **argv, pega_error *error) {
  if (argc < 2) {
    print_usage(stderr);
    return CLI_MISUSE;
  }
  if (strcmp(argv[1], "--version") == 0) {
    if (wants_json(argc, argv)) {
      json_t *object = json_object();
      cli_json_set(object, "version", cli_json_string(pega_version_string()));
      cli_print_json(object);
    } else {
      (void)printf("pega %s\n", pega_version_string());
    }
    return CLI_DONE;
  }
  if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
    print_usage(stdout);
    return CLI_DONE;
  }
  const cli_command *command = find_command(argv[1]);
  if (command == NULL) {
    return cli_misuse(error, "no command \"%.100s\"; `pega help` lists them", argv[1]);
  }
  cli_options options;
  cli_exit code = cli_options_parse(command, argc - 1, argv + 1, &options, error);
  if (code == CLI_DONE && options.help) {
    print_help(command);
  } else if (code == CLI_DONE) {
    code = command->run(&options, error);
  }
  cli_options_clear(&options);
  return code;
}

int main(int argc, char **argv) {
  /* A file-size limit is an error to report, not a reason to die half-way through a file. */
  (void)signal(SIGXFSZ, SIG_IGN);
  pega_error error = PEGA_ERROR_INIT;
  /* Without memory it is not among the functions: what is asked for says so. */
  (void)pega_cublas_register(0, NULL);
  cli_exit code = dispatch(argc, argv, &error);
  if (error.status != PEGA_OK) cli_print_error(&error, wants_json(argc, argv));
  pega_error_clear(&error);
  errno = 0;
  if (fflush(stdout) != 0 || ferror(stdout)) {
    (void)fprintf(stderr, "pega: cannot write to standard output: %s\n",
                  errno != 0 ? strerror(errno) : "an earlier write failed");
    if (code == CLI_DONE) code = CLI_FAILED;
  }
  return (int)code;
}
