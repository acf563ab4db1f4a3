#include "gradflow.h"
/* Vectors in place of the numbers of categories (Bengio, Ducharme & Vincent, 2000), for one column of x at a time:

     y_i,first.. = table_k,  k = x_i,column        dL/dtable_k = sum of dL/dy_i,first.. over the rows i of category k

   A number that is not one of the table, or NaN, is replaced by the nearest one, so that nothing outside is read.

   In the backward pass, the first row of a category adds all rows of it, in their order: the sums have the same bits on
   any device and for any number of threads. Another row finds an earlier one of its category, and has nothing to do.
   Numbers are compared many at a time; only where some are equal are they looked at one by one. */

#define GF_COMPARED 128

/* The first columns of x, and 0 in the others; also backward. x and y may differ in width. */
GF_KERNEL(leading_columns, const real *x, real *y, gf_index count, gf_index rows, gf_index x_columns,
          gf_index y_columns) {
  GF_ROWS(row, rows) {
    const gf_auto in = x + row * x_columns;
    const gf_auto out = y + row * y_columns;
    GF_COLUMNS(j, y_columns) out[j] = j < count ? in[j] : (real)0;
  }
}

GF_KERNEL(embed_column, const real *x, const real *table, int *numbers, real *y, gf_index column, gf_index first,
          gf_index rows, gf_index x_columns, gf_index y_columns, gf_index categories, gf_index size) {
  GF_ROWS(row, rows) {
    const real given = x[row * x_columns + column];
    const gf_index number = !(given > 0) ? 0 : given < categories ? (gf_index)given : categories - 1;
    const gf_auto vector = table + number * size;
    const gf_auto out = y + row * y_columns + first;
    GF_COLUMNS(j, size) out[j] = vector[j];
    GF_ONCE_PER_ROW if (numbers) numbers[row] = (int)number;
  }
}

GF_KERNEL(embed_column_gradient, const int *numbers, const real *d_y, real *d_table, gf_index first, gf_index rows,
          gf_index y_columns, gf_index size) {
  GF_ROWS(row, rows) {
    const int number = numbers[row];
    int earlier = 0;
    for (gf_index start = 0; start < row && earlier == 0; start += GF_COMPARED) {
      const gf_index count = row - start < GF_COMPARED ? row - start : GF_COMPARED;
      GF_COLUMN_SUMS(i, count, earlier) earlier += numbers[start + i] == number;
      earlier = gf_row_sum(earlier);
    }
    if (earlier) continue;
    GF_COLUMN_PARTS(part, size) {
      accumulator sums[GF_COLUMN_PART] = {0};
      for (gf_index start = row; start < rows; start += GF_COMPARED) {
        const gf_index count = rows - start < GF_COMPARED ? rows - start : GF_COMPARED;
        int equal = 0;
        GF_COLUMN_SUMS(i, count, equal) equal += numbers[start + i] == number;
        if (gf_row_sum(equal) == 0) continue;
        for (gf_index i = start; i < start + count; i++) {
          if (numbers[i] != number) continue;
          GF_PART_COLUMNS(j, part, size) sums[j] += d_y[i * y_columns + first + part + j];
        }
      }
      GF_PART_COLUMNS(j, part, size) d_table[number * size + part + j] += (real)sums[j];
    }
  }
}
