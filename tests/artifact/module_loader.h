/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file module_loader.h
 * \brief A loader for the tests: shared libraries with functions `int test_module_<name>(void)`.
 */
#ifndef PEGA_TESTS_ARTIFACT_MODULE_LOADER_H_
#define PEGA_TESTS_ARTIFACT_MODULE_LOADER_H_

#include <pega/artifact.h>

/** Adds it. `extra`: a library that it wants beyond each file's list, or NULL. */
pega_status module_loader_add(const char *extra, pega_error *error);

/** Opens a file of the tests' build folder with these search folders (ended by NULL). */
pega_status module_open(const char *file, const char *const *folders, uint32_t flags,
                        pega_artifact **out, pega_error *error);

#endif /* PEGA_TESTS_ARTIFACT_MODULE_LOADER_H_ */
