/* SPDX-License-Identifier: Apache-2.0 */
/* Python wheels as they lie on disk: which one a library belongs to, and what it asks for. */
#ifndef PEGA_ARTIFACT_WHEEL_H_
#define PEGA_ARTIFACT_WHEEL_H_

#include <stdbool.h>

/* An installed or unpacked wheel. All on the heap. */
typedef struct pega_wheel {
  char *site;    /* folder that its files are named from */
  char *info;    /* its .dist-info folder */
  char *name;    /* "some-project" */
  char *version; /* "1.2.3" */
} pega_wheel;

/* The wheel whose RECORD lists the file; false if there is none (or no memory to tell). */
bool pega_wheel_of(const char *path, pega_wheel *out);
void pega_wheel_free(pega_wheel *wheel); /* takes a zeroed one */

/* What the wheel asks for of project `name`: "some-project<2,>=1.1", on the heap; NULL for nothing. Of
 * several requirements (for other systems, for extras) the first is taken. */
char *pega_wheel_requirement(const pega_wheel *wheel, const char *name);

/* What the wheel asks for of project `name` that version `version` is not, as above; NULL if nothing is
 * known against it. What is asked for in some cases alone, or in words that are not understood, does not
 * count. */
char *pega_wheel_refusal(const pega_wheel *wheel, const char *name, const char *version);

/* The wheel of project `name` that lies in folder `site`, and the full path of its file `base` (on the
 * heap). */
bool pega_wheel_beside(const char *site, const char *name, const char *base, pega_wheel *out,
                       char **path);

#endif /* PEGA_ARTIFACT_WHEEL_H_ */
