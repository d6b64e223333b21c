/* SPDX-License-Identifier: Apache-2.0 */
/* Whether cuBLAS is found, by the library's own search. That it is not there is no problem. */
#include <pega/cublas.h>
#include <pega/cuda.h>

#include "doctor.h"

json_t *cli_doctor_cublas(json_t *problems) {
  json_t *object = json_object();
  pega_error error = PEGA_ERROR_INIT;
  pega_cublas_info info;
  memset(&info, 0, sizeof info);
  info.struct_size = (uint32_t)sizeof info;
  int32_t count = 0;
  /* What is wrong with the driver is told with the driver. */
  if (pega_device_count(&count, &error) != PEGA_OK) {
    cli_json_set(object, "found", json_false());
    cli_json_set(object, "reason", json_string("not looked for: no CUDA device can be used"));
    pega_error_clear(&error);
    return object;
  }
  const pega_status status = pega_cublas_describe(&info, &error);
  cli_json_set(object, "found", json_boolean(status == PEGA_OK));
  if (status == PEGA_OK) {
    cli_json_set(object, "version",
                 json_sprintf("%d.%d.%d", (int)info.version / 10000,
                              (int)info.version % 10000 / 100, (int)info.version % 100));
    cli_json_set(object, "library", cli_json_string(info.path));
    cli_json_set(object, "function", json_string(PEGA_CUBLAS_GEMM));
  } else {
    json_t *text = cli_json_string(pega_error_message(&error));
    if (status != PEGA_ERROR_UNAVAILABLE) cli_json_append(problems, json_incref(text));
    cli_json_set(object, "reason", text);
  }
  pega_error_clear(&error);
  return object;
}
