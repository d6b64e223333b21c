/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file signature.h
 * \brief Reading a signature that a newer library may have made larger.
 */
#ifndef PEGA_CLI_SIGNATURE_H_
#define PEGA_CLI_SIGNATURE_H_

#include <pega/pega.h>

/** \brief Parameter `index` of a signature, or NULL. Steps by the size that the library says. */
static inline const pega_param *cli_signature_param(const pega_signature *signature,
                                                    int32_t index) {
  if (signature == NULL || index < 0 || index >= signature->num_params) return NULL;
  return (const pega_param *)(const void *)((const char *)signature->params +
                                            (size_t)index * signature->param_size);
}

/** \brief "cuda" of a DLDeviceType; NULL for 0, which is any. */
static inline const char *cli_device_type_name(int32_t device_type, char buffer[PEGA_NAME_SIZE]) {
  DLDevice device;
  if (device_type == 0) return NULL;
  device.device_type = (DLDeviceType)device_type;
  device.device_id = 0;
  (void)pega_device_name(device, buffer);
  char *colon = strchr(buffer, ':');
  if (colon != NULL) *colon = '\0';
  return buffer;
}

#endif  // PEGA_CLI_SIGNATURE_H_
