/* SPDX-License-Identifier: Apache-2.0 */
/* pega export: a TVM FFI module of a pack's functions. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "export.h"
#include "kernel_pack.h"

/* What module.h of src/module says of the struct. The data is read by the assembler. */
static const char HEAD[] =
    "#include <stdatomic.h>\n"
    "#include <stdint.h>\n"
    "\n"
    "#define DATA(section, name, file)                                                    \\\n"
    "  __asm__(\".pushsection \" section \"\\n.balign 64\\n.globl \" #name \"\\n.hidden \" #name \\\n"
    "          \"\\n\" #name \":\\n.incbin \\\"\" file \"\\\"\\n.byte 0\\n.popsection\\n\");               \\\n"
    "  extern unsigned char name[]\n"
    "DATA(\".data.pega_image\", pega_image, \"descriptions.bin\");\n"
    "DATA(\".rodata.pega_addresses\", pega_addresses, \"addresses.bin\");\n"
    "DATA(\".rodata.pega_blobs\", pega_blobs, \"blobs.bin\");\n"
    "\n"
    "static _Atomic(void *) functions[NUM_FUNCTIONS];\n"
    "const struct {\n"
    "  unsigned char *image;\n"
    "  const void *addresses;\n"
    "  uint64_t num_addresses;\n"
    "  unsigned char *blobs;\n"
    "  _Atomic(void *) *functions;\n"
    "  uint32_t flags;\n"
    "} pega_this_module = {pega_image, pega_addresses, NUM_ADDRESSES, pega_blobs, functions, FLAGS};\n"
    "\n"
    "int pega_module_call(int32_t index, const void *args, int32_t num_args, void *result);\n"
    "int pega_module_metadata(int32_t index, void *result);\n"
    "int pega_module_doc(int32_t index, void *result);\n"
    "\n"
    "#define PARAMETERS void *self, const void *args, int32_t num_args, void *result\n"
    "#define FUNCTION(index)                                               \\\n"
    "  int pega_call_##index(PARAMETERS);                                  \\\n"
    "  int pega_call_##index(PARAMETERS) {                                 \\\n"
    "    (void)self;                                                       \\\n"
    "    return pega_module_call(index, args, num_args, result);           \\\n"
    "  }                                                                   \\\n"
    "  int pega_metadata_##index(PARAMETERS);                              \\\n"
    "  int pega_metadata_##index(PARAMETERS) {                             \\\n"
    "    (void)self, (void)args, (void)num_args;                           \\\n"
    "    return pega_module_metadata(index, result);                       \\\n"
    "  }                                                                   \\\n"
    "  int pega_doc_##index(PARAMETERS);                                   \\\n"
    "  int pega_doc_##index(PARAMETERS) {                                  \\\n"
    "    (void)self, (void)args, (void)num_args;                           \\\n"
    "    return pega_module_doc(index, result);                            \\\n"
    "  }\n"
    "#define SYMBOL(symbol, of) \\\n"
    "  __asm__(\".globl \\\"\" symbol \"\\\"\\n.set \\\"\" symbol \"\\\", \" #of \"\\n\");\n"
    "#define NAME(name, index)                                   \\\n"
    "  SYMBOL(\"__tvm_ffi_\" name, pega_call_##index)              \\\n"
    "  SYMBOL(\"__tvm_ffi__metadata_\" name, pega_metadata_##index) \\\n"
    "  SYMBOL(\"__tvm_ffi__doc_\" name, pega_doc_##index)\n"
    "\n";

/* Everything but the module's functions is its own. */
static const char MAP[] = "{\n  global:\n    __tvm_ffi_*;\n  local:\n    *;\n};\n";

/* What a symbol's name may hold. The name comes from a pack that may be hostile, and stands in C text and, in
 * that, in assembler text: nothing is let through that could mean anything in either. */
static const char NAME_BYTES[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-:/<>,";

static pega_status check_name(const char *name, pega_error *error) {
  const unsigned char bad = (unsigned char)name[strspn(name, NAME_BYTES)];
  char shown[16];
  /* Names of TVM FFI's own begin so. */
  if (bad == '\0' && name[0] != '_') return PEGA_OK;
  (void)snprintf(shown, sizeof shown, bad > ' ' && bad < 0x7f ? "'%c'" : "byte 0x%02x", bad);
  return pega_error_set(
      error, PEGA_ERROR_UNSUPPORTED, NULL,
      "function '%.200s' cannot be exported: a symbol's name %s%s; expected letters of ASCII, digits and "
      "any of _.-:/<>,; take others with --function%s",
      name, bad == '\0' ? "must not begin with " : "cannot hold ", bad == '\0' ? "'_'" : shown,
      bad == '\0' ? ", or give a --prefix" : "");
}

/* The function's name with _ in the place of dots, where that is another name, and free. */
static bool make_alias(const pega_value *names, int64_t index, const char *prefix, char *out,
                       size_t capacity) {
  (void)snprintf(out, capacity, "%s%s", prefix,
                 pega_value_as_string(pega_array_get(names, index), NULL));
  if (strchr(out, '.') == NULL || out[0] == '.') return false; /* see check_name() */
  for (char *at = out; *at != '\0'; ++at) {
    if (*at == '.') *at = '_';
  }
  for (int64_t i = 0; i < pega_value_size(names); ++i) {
    char other[2 * PEGA_MAX_NAME + 2];
    (void)snprintf(other, sizeof other, "%s%s", prefix,
                   pega_value_as_string(pega_array_get(names, i), NULL));
    if (strcmp(other, out) == 0) return false; /* a function's own name goes before */
    for (char *at = other; *at != '\0' && i < index; ++at) {
      if (*at == '.') *at = '_';
    }
    if (i < index && strcmp(other, out) == 0) return false;
  }
  return true;
}

static pega_status write_names(FILE *to, const cli_options *options, const pega_value *names,
                               pega_error *error) {
  char name[2 * PEGA_MAX_NAME + 2];
  for (int64_t i = 0; i < pega_value_size(names); ++i) {
    const char *own = pega_value_as_string(pega_array_get(names, i), NULL);
    (void)snprintf(name, sizeof name, "%s%s", options->prefix, own);
    const pega_status status = check_name(name, error);
    if (status != PEGA_OK) return status;
    (void)fprintf(to, "FUNCTION(%d)\nNAME(\"%s\", %d)\n", (int)i, name, (int)i);
    if (options->alias && make_alias(names, i, options->prefix, name, sizeof name)) {
      (void)fprintf(to, "NAME(\"%s\", %d)\n", name, (int)i);
    }
  }
  return PEGA_OK;
}

static const pega_value *member(const pega_value *image, const char *key) {
  return pega_map_get(image, key);
}

static pega_status write_source(const cli_export_place *place, const cli_options *options,
                                const pega_value *image, pega_error *error) {
  char *text = NULL;
  size_t size = 0;
  size_t num_addresses = 0;
  FILE *to = open_memstream(&text, &size);
  if (to == NULL) return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "out of memory");
  const pega_value *names = member(image, "functions");
  (void)pega_value_as_bytes(member(image, "addresses"), &num_addresses);
  num_addresses /= sizeof(uint32_t);
  (void)fprintf(to,
                "/* Made by pega %s; linked with its libpega_module.a. */\n"
                "#define NUM_FUNCTIONS %lld\n#define NUM_ADDRESSES %zu\n#define FLAGS %u\n%s",
                pega_version_string(), (long long)pega_value_size(names), num_addresses,
                options->allow_ptx ? (unsigned)PEGA_PACK_ALLOW_PTX : 0U, HEAD);
  pega_status status = write_names(to, options, names, error);
  if (fclose(to) != 0 && status == PEGA_OK) {
    status = pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "out of memory");
  }
  if (status == PEGA_OK) status = cli_export_write(place, "module.c", text, size, error);
  free(text);
  return status;
}

static pega_status write_sources(const cli_export_place *place, const cli_options *options,
                                 const pega_value *image, pega_error *error) {
  static const char *const parts[] = {"descriptions", "addresses", "blobs"};
  pega_status status = write_source(place, options, image, error);
  if (status == PEGA_OK) {
    status = cli_export_write(place, "module.map", MAP, sizeof MAP - 1, error);
  }
  for (size_t i = 0; i < sizeof parts / sizeof *parts && status == PEGA_OK; ++i) {
    char name[32];
    size_t size = 0;
    const void *bytes = pega_value_as_bytes(member(image, parts[i]), &size);
    (void)snprintf(name, sizeof name, "%s.bin", parts[i]);
    status = cli_export_write(place, name, bytes, size, error);
  }
  return status;
}

static void report(const cli_options *options, const pega_value *image) {
  struct stat made;
  size_t blobs = 0;
  const int64_t functions = pega_value_size(member(image, "functions"));
  (void)pega_value_as_bytes(member(image, "blobs"), &blobs);
  const long long size = stat(options->output, &made) == 0 ? (long long)made.st_size : 0;
  if (options->json) {
    json_t *object = json_object();
    json_t *list = json_array();
    for (int64_t i = 0; i < functions; ++i) {
      char name[2 * PEGA_MAX_NAME + 2];
      (void)snprintf(name, sizeof name, "%s%s", options->prefix,
                     pega_value_as_string(pega_array_get(member(image, "functions"), i), NULL));
      cli_json_append(list, cli_json_string(name));
    }
    cli_json_set(object, "output", cli_json_string(options->output));
    cli_json_set(object, "functions", list);
    cli_json_set(object, "bytes", json_integer(size));
    cli_json_set(object, "kernel_bytes", json_integer((json_int_t)blobs));
    cli_print_json(object);
    return;
  }
  cli_print_line(stdout, options->output);
  (void)printf(": %lld function%s, %lld bytes, of which %zu are kernels\n", (long long)functions,
               functions == 1 ? "" : "s", size, blobs);
}

static pega_status make(const cli_options *options, const pega_value *image, pega_error *error) {
  cli_export_place *place = malloc(sizeof *place);
  if (place == NULL) return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "out of memory");
  pega_status status = cli_export_enter(options->output, options->keep, place, error);
  if (status == PEGA_OK) status = write_sources(place, options, image, error);
  if (status == PEGA_OK && cli_export_interrupted(place, error)) status = PEGA_ERROR_IO;
  if (status == PEGA_OK) status = cli_export_link(place, error);
  cli_export_leave(place);
  free(place);
  return status;
}

cli_exit cli_export(const cli_options *options, pega_error *error) {
  if (options->output == NULL) return cli_misuse(error, "export: expected -o FILE");
  if (strlen(options->prefix) > PEGA_MAX_NAME) {
    return cli_misuse(error, "--prefix: expected at most %d bytes", PEGA_MAX_NAME);
  }
  cli_pack pack = CLI_PACK_INIT;
  pega_value image = pega_value_none();
  pega_status status =
      cli_pack_open(options->embedded ? NULL : options->args[0], options->allow_ptx, &pack, error);
  if (status == PEGA_OK) {
    status = pega_pack_image(pack.pack, (const char *const *)options->functions,
                             options->num_functions, options->target, &image, error);
  }
  if (status == PEGA_OK) status = make(options, &image, error);
  if (status == PEGA_OK) report(options, &image);
  pega_value_release(&image);
  cli_pack_close(&pack);
  return status == PEGA_OK ? CLI_DONE : CLI_FAILED;
}
