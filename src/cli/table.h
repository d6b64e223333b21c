/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file table.h
 * \brief Columns of text for people.
 */
#ifndef PEGA_CLI_TABLE_H_
#define PEGA_CLI_TABLE_H_

#include "print.h"

/** \brief Rows of cells; the first row is the head. Start it as {columns, 0, 0, NULL}. */
typedef struct cli_table {
  int columns; /* at most 32 */
  size_t num_cells;
  size_t capacity;
  char **cells; /* owned, escaped */
} cli_table;

/** \brief Appends a cell, row after row. Whatever could drive a terminal is escaped; NULL is "". */
void cli_table_add(cli_table *table, const char *text);
void cli_table_addf(cli_table *table, const char *format, ...) PEGA_PRINTF(2, 3);
/** \brief Prints the rows, each behind `indent` blanks, and frees the cells. */
void cli_table_print(cli_table *table, int indent);

#endif  // PEGA_CLI_TABLE_H_
