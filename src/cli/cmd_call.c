/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdlib.h>

#include "argument.h"
#include "print.h"
#include "signature.h"
#include "source.h"

/* A tensor that the call made or wrote. */
typedef struct output {
  char name[96];
  const DLTensor *tensor; /* where the call left it */
  cli_tensor copy;        /* row-major, for the file */
} output;

/* Everything one call holds. */
typedef struct call {
  cli_source *source;
  pega_function *function;
  cli_files files;
  cli_argument *args;
  int num_args;
  pega_value *values;
  pega_value result;
  output *outputs;
  size_t num_outputs;
} call;

static void call_clear(call *self) {
  for (size_t i = 0; i < self->num_outputs; ++i) cli_tensor_clear(&self->outputs[i].copy);
  free(self->outputs);
  pega_value_release(&self->result);
  for (int i = 0; i < self->num_args; ++i) cli_argument_clear(&self->args[i]);
  free(self->args);
  free(self->values);
  cli_files_clear(&self->files);
  pega_function_release(self->function);
  cli_source_close(self->source);
}

static cli_exit parse_arguments(call *self, int num_words, char **words, pega_error *error) {
  const pega_signature *signature = pega_function_signature(self->function);
  self->args = calloc((size_t)num_words + 1, sizeof *self->args);
  self->values = calloc((size_t)num_words + 1, sizeof *self->values);
  if (self->args == NULL || self->values == NULL) {
    (void)pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "out of memory");
    return CLI_FAILED;
  }
  for (int i = 0; i < num_words; ++i) {
    const pega_param *param = cli_signature_param(signature, i);
    const cli_exit code =
        cli_argument_parse(words[i], i, param, &self->files, &self->args[i], error);
    ++self->num_args;
    if (code != CLI_DONE) return code;
    self->values[i] = self->args[i].value;
  }
  return CLI_DONE;
}

/* Memory of a GPU that an argument would have to be, for an error text; NULL: it need not. */
static const char *lacks(const cli_argument *argument, const pega_param *param, bool kernel) {
  if (param == NULL) return NULL;
  const bool cuda = param->device_type == kDLCUDA || param->device_type == kDLCUDAManaged;
  if (param->type == PEGA_TYPE_TENSOR && cuda && argument->value.kind == PEGA_TENSOR) {
    return "a tensor on a GPU";
  }
  /* Any address that is written here would be taken for one of this process by the driver. */
  if (!kernel || argument->value.kind == PEGA_NONE || argument->value.as.u64 == 0) return NULL;
  if (param->type == PEGA_TYPE_POINTER) return "the address of memory on a GPU";
  return param->type == PEGA_TYPE_STREAM ? "a stream of this process (0 is the default one)" : NULL;
}

/* Arguments that nothing can be launched with are refused, and not by the GPU. */
static pega_status check_memory(const call *self, const char *from, pega_error *error) {
  const pega_signature *signature = pega_function_signature(self->function);
  const pega_status checked =
      pega_function_check(self->function, self->values, self->num_args, error);
  /* An argument that is wrong in another way is the call's to refuse. */
  if (checked != PEGA_OK && checked != PEGA_ERROR_DEVICE) return PEGA_OK;
  for (int i = 0; i < self->num_args; ++i) {
    const pega_param *param = cli_signature_param(signature, i);
    const char *what = lacks(&self->args[i], param, strcmp(from, CLI_FROM_PACK) == 0);
    if (what == NULL) continue;
    return pega_error_set(
        error, PEGA_ERROR_UNSUPPORTED, NULL,
        "%s: argument %d '%.64s': expected %s, which the command line cannot give: its tensors are "
        "on the CPU; nothing was launched. `pega test PACK` runs a pack's golden cases, and an "
        "engine calls the function with memory of its own (include/pega/pack.h)",
        pega_function_name(self->function), i, param->name, what);
  }
  return PEGA_OK;
}

static bool is_output(const cli_argument *argument, const pega_param *param) {
  if (argument->tensor.view.data == NULL) return false;
  if (param != NULL && param->type == PEGA_TYPE_TENSOR) {
    return (param->flags & PEGA_PARAM_OUTPUT) != 0;
  }
  /* Nobody says what the call writes; memory that was made for it has no other use. */
  return argument->zeros;
}

static bool is_taken(const call *self, const char *name) {
  for (size_t i = 0; i < self->num_outputs; ++i) {
    if (strcmp(self->outputs[i].name, name) == 0) return true;
  }
  return false;
}

/* A parameter may be called as the result is; the later one then gets an underscore. */
static void add_output(call *self, const char *name, const DLTensor *tensor) {
  output *added = &self->outputs[self->num_outputs];
  (void)snprintf(added->name, sizeof added->name - 8, "%s", name);
  while (is_taken(self, added->name) && strlen(added->name) + 1 < sizeof added->name) {
    added->name[strlen(added->name) + 1] = '\0';
    added->name[strlen(added->name)] = '_';
  }
  added->tensor = tensor;
  ++self->num_outputs;
}

static pega_status collect_outputs(call *self, pega_error *error) {
  const pega_signature *signature = pega_function_signature(self->function);
  const int64_t items = self->result.kind == PEGA_ARRAY ? pega_value_size(&self->result) : 1;
  char name[96];
  self->outputs = calloc((size_t)self->num_args + (size_t)items + 1, sizeof *self->outputs);
  if (self->outputs == NULL) {
    return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "out of memory");
  }
  for (int i = 0; i < self->num_args; ++i) {
    const pega_param *param = cli_signature_param(signature, i);
    if (!is_output(&self->args[i], param)) continue;
    (void)snprintf(name, sizeof name, "arg%d", i);
    add_output(self, param == NULL ? name : param->name, &self->args[i].tensor.view);
  }
  if (self->result.kind == PEGA_TENSOR) {
    add_output(self, "result", pega_value_as_tensor(&self->result));
  }
  for (int64_t i = 0; self->result.kind == PEGA_ARRAY && i < items; ++i) {
    const pega_value *item = pega_array_get(&self->result, i);
    (void)snprintf(name, sizeof name, "result.%" PRId64, i);
    if (item->kind == PEGA_TENSOR) add_output(self, name, pega_value_as_tensor(item));
  }
  return PEGA_OK;
}

static pega_status write_outputs(call *self, const char *path, pega_error *error) {
  if (self->num_outputs == 0) {
    return pega_error_set(error, PEGA_ERROR_INVALID_ARGUMENT, NULL,
                          "%.100s: nothing to write: the call of %s has no output tensor", path,
                          pega_function_name(self->function));
  }
  safetensors_item *items = calloc(self->num_outputs, sizeof *items);
  if (items == NULL) return pega_error_set(error, PEGA_ERROR_OUT_OF_MEMORY, NULL, "out of memory");
  pega_status status = PEGA_OK;
  for (size_t i = 0; status == PEGA_OK && i < self->num_outputs; ++i) {
    output *one = &self->outputs[i];
    items[i].name = one->name;
    items[i].tensor = one->tensor;
    if (one->tensor->device.device_type != kDLCPU || !pega_tensor_is_contiguous(one->tensor)) {
      status = cli_tensor_copy(one->tensor, &one->copy, error);
      items[i].tensor = &one->copy.view;
    }
  }
  if (status == PEGA_OK) status = safetensors_write(path, items, self->num_outputs, error);
  free(items);
  return status;
}

static void print_text(const call *self, const char *path) {
  const bool only_tensors = self->result.kind == PEGA_NONE && self->num_outputs > 0;
  if (!only_tensors && self->result.kind != PEGA_TENSOR) {
    cli_print_value(stdout, &self->result);
    (void)putchar('\n');
  }
  for (size_t i = 0; i < self->num_outputs; ++i) {
    cli_print_string(stdout, self->outputs[i].name);
    (void)fputs(" = ", stdout);
    cli_tensor_print(stdout, self->outputs[i].tensor);
    (void)putchar('\n');
  }
  if (path != NULL) {
    (void)fputs("written to ", stdout);
    cli_print_string(stdout, path);
    (void)putchar('\n');
  }
}

static void print_json(const call *self, const char *path) {
  json_t *object = json_object();
  json_t *outputs = json_array();
  for (size_t i = 0; i < self->num_outputs; ++i) {
    const pega_value value = pega_value_tensor(self->outputs[i].tensor);
    json_t *item = cli_json_value(&value);
    cli_json_set(item, "name", cli_json_string(self->outputs[i].name));
    cli_json_append(outputs, item);
  }
  cli_json_set(object, "function", cli_json_string(pega_function_name(self->function)));
  cli_json_set(object, "result", cli_json_value(&self->result));
  cli_json_set(object, "outputs", outputs);
  cli_json_set(object, "file", cli_json_string(path));
  cli_print_json(object);
}

static cli_exit run(call *self, const cli_options *options, pega_error *error) {
  /* A file that cannot be written is better known before the work than after it. */
  if (options->output != NULL && safetensors_check_target(options->output, error) != PEGA_OK) {
    return CLI_FAILED;
  }
  const char *from = "";
  if (cli_source_open(options, &self->source, error) != PEGA_OK ||
      cli_source_get(self->source, options->args[0], &self->function, &from, error) != PEGA_OK) {
    return CLI_FAILED;
  }
  const cli_exit parsed = parse_arguments(self, options->num_args - 1, options->args + 1, error);
  if (parsed != CLI_DONE) return parsed;
  if (check_memory(self, from, error) != PEGA_OK) return CLI_FAILED;
  if (pega_function_call(self->function, self->values, self->num_args, &self->result, error) !=
          PEGA_OK ||
      collect_outputs(self, error) != PEGA_OK) {
    return CLI_FAILED;
  }
  if (options->output != NULL && write_outputs(self, options->output, error) != PEGA_OK) {
    return CLI_FAILED;
  }
  (options->json ? print_json : print_text)(self, options->output);
  return CLI_DONE;
}

cli_exit cli_call(const cli_options *options, pega_error *error) {
  call self;
  memset(&self, 0, sizeof self);
  const cli_exit code = run(&self, options, error);
  call_clear(&self);
  return code;
}
