/* SPDX-License-Identifier: Apache-2.0 */
/* Where the dynamic loader looks for a library. */
#ifndef PEGA_ARTIFACT_PLACES_H_
#define PEGA_ARTIFACT_PLACES_H_

#include <stdbool.h>
#include <stddef.h>

/* What the process and the system offer. Empty ones are zeroed. */
typedef struct pega_places {
  char **folders; /* the program's RPATH and LD_LIBRARY_PATH as it was when the program started */
  size_t num_folders; /* of `folders`, without the standard ones */
  char **standard;    /* the standard folders */
  size_t num_standard;
  char *cache; /* the loader's cache file, or NULL */
  size_t cache_size;
  char *lib;            /* what $LIB stands for: "lib64", "lib/x86_64-linux-gnu"; NULL if unknown */
  const char *platform; /* what $PLATFORM stands for, or NULL */
  const char *subfolders[4]; /* looked into before the folder that they are in, then a NULL */
} pega_places;

/* False if there is no memory. */
bool pega_places_read(pega_places *out);
void pega_places_free(pega_places *places);

/* Calls `test(self, path)` with each path that the cache has for a library, until it says yes: what is for
 * this processor first. */
bool pega_places_cached(const pega_places *places, const char *name,
                        bool (*test)(void *self, const char *path), void *self);

/* The next folder of a search path ("a:b", "" is the current one), from *at on, with $ORIGIN, $LIB and
 * $PLATFORM put in, into `folder` of PATH_MAX bytes; false at the end. One that cannot be expanded is left
 * out. */
bool pega_places_next(const pega_places *places, const char **at, const char *origin, char *folder);

#endif /* PEGA_ARTIFACT_PLACES_H_ */
