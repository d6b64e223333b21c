/* SPDX-License-Identifier: Apache-2.0 */
#include "table.h"

#include <stdlib.h>

/* A column wider than this does not push the ones behind it further. */
enum { MAX_WIDTH = 48, MAX_COLUMNS = 32 };

void cli_table_add(cli_table *table, const char *text) {
  if (table->num_cells == table->capacity) {
    const size_t capacity = table->capacity == 0 ? 64 : table->capacity * 2;
    char **grown = realloc(table->cells, capacity * sizeof *grown);
    if (grown == NULL) cli_out_of_memory();
    table->cells = grown;
    table->capacity = capacity;
  }
  table->cells[table->num_cells++] = cli_escape_line(text == NULL ? "" : text);
}

void cli_table_addf(cli_table *table, const char *format, ...) {
  char *text = NULL;
  va_list args;
  va_start(args, format);
  const int size = vasprintf(&text, format, args);
  va_end(args);
  if (size < 0) cli_out_of_memory();
  cli_table_add(table, text);
  free(text);
}

/* Characters of UTF-8 text: a terminal's columns, for the text that packs hold. */
static int width_of(const char *text) {
  int width = 0;
  for (; *text != '\0'; ++text) width += ((unsigned char)*text & 0xc0) != 0x80;
  return width;
}

void cli_table_print(cli_table *table, int indent) {
  const size_t columns = (size_t)table->columns;
  int widths[MAX_COLUMNS] = {0};
  for (size_t i = 0; i < table->num_cells; ++i) {
    const int own = width_of(table->cells[i]);
    int *width = &widths[i % columns];
    if (own > *width) *width = own > MAX_WIDTH ? MAX_WIDTH : own;
  }
  for (size_t i = 0; i < table->num_cells; ++i) {
    const size_t column = i % columns;
    const int blanks = widths[column] - width_of(table->cells[i]);
    (void)printf("%*s%s", column == 0 ? indent : 0, "", table->cells[i]);
    if (column + 1 < columns) {
      (void)printf("%*s", blanks > 0 ? blanks + 2 : 2, "");
    } else {
      (void)putchar('\n');
    }
    free(table->cells[i]);
  }
  free(table->cells);
  table->cells = NULL;
  table->num_cells = 0;
  table->capacity = 0;
}
