/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file print.h
 * \brief What the commands print: text for people, JSON for programs.
 *
 * Text that comes from files, modules or other languages may hold anything. It is printed with
 * control characters and broken UTF-8 escaped, so that it can neither drive a terminal nor make the
 * JSON invalid.
 *
 * Out of memory while printing ends the process with exit code 1: there is nothing to undo.
 */
#ifndef PEGA_CLI_PRINT_H_
#define PEGA_CLI_PRINT_H_

#include <stdbool.h>
#include <stdio.h>

#include <jansson.h>
#include <pega/pega.h>

/** \brief Says that memory is out and exits with 1. */
_Noreturn void cli_out_of_memory(void);

/** \brief Prints an error: as `pega: text` on stderr, or as a JSON object on stdout. */
void cli_print_error(const pega_error *error, bool json);

/** \brief A text of the library with the command line's words for what is said to programs in C.
 *         Returns owned. Errors are printed so, as text and as JSON. */
char *cli_own_words(const char *text);

/** \brief Prints text with everything escaped that is no printable character, blank or newline. */
void cli_print_text(FILE *stream, const char *text, size_t size);
/** \brief The same for NUL-terminated text. */
void cli_print_string(FILE *stream, const char *text);
/** \brief The same as owned text that is one line: newlines and tabs are escaped too. */
char *cli_escape_line(const char *text);
/** \brief Prints what cli_escape_line() returns; NULL is nothing. */
void cli_print_line(FILE *stream, const char *text);
/** \brief Prints each line of a text on stdout behind `indent` blanks; NULL is nothing. */
void cli_print_lines(const char *text, int indent);
/** \brief Prints a value as pega_value_format() writes it. */
void cli_print_value(FILE *stream, const pega_value *value);

/**
 * \brief "name(a: int) -> None", or "name(...)" for a function with no signature, under the name by
 *        which it was found. Returns owned text.
 */
char *cli_signature_text(const char *name, const pega_function *function);

/** \brief Sets a member. Takes `value`. */
void cli_json_set(json_t *object, const char *key, json_t *value);
/** \brief Appends an item. Takes `value`. */
void cli_json_append(json_t *array, json_t *value);
/** \brief A JSON string of any bytes. Returns owned. */
json_t *cli_json_text(const char *text, size_t size);
/** \brief The same for NUL-terminated text; NULL becomes null. Returns owned. */
json_t *cli_json_string(const char *text);
/** \brief A JSON integer, or the decimal digits as a string where it is too great for one. */
json_t *cli_json_uint(uint64_t number);
/** \brief A JSON number; "nan", "inf", "-inf" for what JSON has no number for. */
json_t *cli_json_float(double number);
/** \brief {"kind": ..., "value": ...} with what else belongs to the kind. Returns owned. */
json_t *cli_json_value(const pega_value *value);
/** \brief {"status", "kind", "message", "traceback"[, "cause"]}. Returns owned. */
json_t *cli_json_error(const pega_error *error);
/** \brief Prints an object on stdout, control characters escaped, and frees it. */
void cli_print_json(json_t *object);

#endif  // PEGA_CLI_PRINT_H_
