#define GF_BLOCK_THREADS 1024
#include "gradflow.h"
/* Statistics of the units of a layer on a batch: 1 for a dead unit, with no y_ij above 0, else 0; and for activations
   with limits, the fraction of the rows with y_ij outside [low, high], where the curve is flat. */

GF_KERNEL(mark_dead_units, const real *y, accumulator *units, gf_index rows, gf_index columns) {
  GF_COLUMN_BLOCKS(first, columns) {
    accumulator alive[GF_COLUMN_BLOCK] = {0};
    GF_COLUMN_BLOCK_ROWS(row, rows) {
      GF_COLUMN_BLOCK_COLUMNS(j, first, columns) alive[j] += y[row * columns + first + j] > 0;
    }
    gf_column_block_sum(alive);
    GF_ONCE_PER_COLUMN_BLOCK {
      GF_COLUMN_BLOCK_COLUMNS(j, first, columns) units[first + j] = alive[j] == 0;
    }
  }
}

GF_KERNEL(saturated_shares, const real *y, accumulator *units, accumulator low, accumulator high, gf_index rows,
          gf_index columns) {
  const real least = (real)low, most = (real)high;
  GF_COLUMN_BLOCKS(first, columns) {
    accumulator outside[GF_COLUMN_BLOCK] = {0};
    GF_COLUMN_BLOCK_ROWS(row, rows) {
      GF_COLUMN_BLOCK_COLUMNS(j, first, columns) {
        const real value = y[row * columns + first + j];
        outside[j] += value < least || value > most;
      }
    }
    gf_column_block_sum(outside);
    GF_ONCE_PER_COLUMN_BLOCK {
      GF_COLUMN_BLOCK_COLUMNS(j, first, columns) units[first + j] = outside[j] / rows;
    }
  }
}
