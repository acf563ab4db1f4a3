#include "gradflow.h"
#include "clock.h"
#include "philox.h"
#include "shuffle.h"
/* The next batch: rows of the data and the targets, and their weights if there are any, copied in one launch. Rows are
   moved as 32-bit words, whatever their type. Row r of the batch is row `position + r` of the epoch: of the data as
   shuffled for (seed, epoch) (gather_shuffled_batch), or of the data in order, which may be one of several chunks of
   equal length that make up the epoch (gather_batch). With `places`, row i of the data has its inputs in row places_i
   of x, which holds those of other data too. */

GF_FUNCTION void copy_row(const gf_word *from, gf_word *to, gf_index words) {
  GF_COLUMNS_OF(j, words, from, to) to[j] = from[j];
}

GF_FUNCTION gf_index place_of(const gf_index *places, gf_index row) { return places ? places[row] : row; }

GF_KERNEL(gather_batch, const gf_word *x, const gf_word *targets, const real *row_weight, const gf_index *places,
          gf_word *batch_x, gf_word *batch_targets, real *batch_row_weight, const gf_index *clock, gf_index x_words,
          gf_index target_words, gf_index data_rows, gf_index rows) {
  const gf_index first = clock[GF_POSITION] % data_rows;
  GF_ROWS(row, rows) {
    const gf_index source = first + row;
    copy_row(x + place_of(places, source) * x_words, batch_x + row * x_words, x_words);
    copy_row(targets + source * target_words, batch_targets + row * target_words, target_words);
    GF_ONCE_PER_ROW if (row_weight) batch_row_weight[row] = row_weight[source];
  }
}

GF_KERNEL(gather_shuffled_batch, const gf_word *x, const gf_word *targets, const real *row_weight,
          const gf_index *places, gf_word *batch_x, gf_word *batch_targets, real *batch_row_weight,
          const gf_index *clock, gf_long_word seed, gf_index x_words, gf_index target_words, gf_index data_rows,
          gf_index rows) {
  gf_shuffle shuffle;
  gf_make_shuffle(&shuffle, data_rows, seed, clock[GF_EPOCH]);
  GF_ROW_BLOCKS(first, rows) {
    const gf_index count = gf_block_rows(first);
    gf_index source[GF_ROW_BLOCK];
    gf_shuffled(&shuffle, clock[GF_POSITION] + first, count, data_rows, source);
    GF_OF_BLOCK(i, count) {
      GF_PREFETCH_ROW(x + place_of(places, source[i]) * x_words, x_words);
      GF_PREFETCH_ROW(targets + source[i] * target_words, target_words);
      if (row_weight) GF_PREFETCH_ROW(row_weight + source[i], 1);
    }
    GF_OF_BLOCK(i, count) {
      copy_row(x + place_of(places, source[i]) * x_words, batch_x + (first + i) * x_words, x_words);
      copy_row(targets + source[i] * target_words, batch_targets + (first + i) * target_words, target_words);
      GF_ONCE_PER_ROW if (row_weight) batch_row_weight[first + i] = row_weight[source[i]];
    }
  }
}
