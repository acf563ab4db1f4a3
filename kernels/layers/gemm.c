#include "gradflow.h"
#include "gemm_vectors.h"
#include "gemm_tiles.h"
#include "gemm_narrow.h"
/* out = op(a) op(b), where op transposes a matrix or leaves it.

   C only: on a GPU, cuBLAS computes all matmuls; on the CPU, the BLAS computes large ones (backends/cpu/native.py).
   op(a) is rows x depth, op(b) depth x columns.

   As in Goto & van de Geijn (2008, "Anatomy of High-Performance Matrix Multiplication"), a tile of the result
   stays in registers along the depth (gemm_tiles.h): each element of op(a) is multiplied into one or two vectors
   of op(b), which come from a panel of its columns. A block of panels stays in the second-level cache, and the rows of
   op(a) of a tile in the first, while the tile moves along the panels. Results with few columns are computed in other
   ways (gemm_narrow.h). Wherever an element of the result lies, it is the same sum: in the order of the depth, or as
   many sums as a vector has lanes, in parts of GF_DEPTH. */

#define GF_FEW_ROWS (3 * GF_BLOCK_ROWS)
#define GF_NARROW (GF_BLOCK_COLUMNS / 32)

/* The result is split into blocks, numbered down the rows first. A result with few rows is split between columns only,
   into narrow blocks, of which up to GF_NARROW are computed as one. */
GF_INLINE gf_index gf_row_blocks(gf_index rows) {
  return rows > GF_FEW_ROWS ? (rows + GF_BLOCK_ROWS - 1) / GF_BLOCK_ROWS : rows > 0;
}
GF_INLINE gf_index gf_block_columns(gf_index rows) {
  return rows > GF_FEW_ROWS ? GF_BLOCK_COLUMNS : GF_BLOCK_COLUMNS / GF_NARROW;
}
GF_INLINE gf_index gf_column_blocks(gf_index rows, gf_index columns) {
  return (columns + gf_block_columns(rows) - 1) / gf_block_columns(rows);
}

/* Return the number of blocks from this one on that have the same columns, or form one block of narrow ones. */
GF_INLINE gf_index gf_run(gf_index block, gf_index end, gf_index rows) {
  const gf_index row_blocks = gf_row_blocks(rows);
  return gf_least(end - block, row_blocks > 1 ? row_blocks - block % row_blocks : GF_NARROW);
}

GF_KERNEL(gemm, const real *a, const real *b, real *out, int transpose_a, int transpose_b, gf_index rows,
          gf_index columns, gf_index depth) {
  const gf_part whole_a = {a, transpose_a ? 1 : depth, transpose_a ? rows : 1};
  const gf_part whole_b = {b, transpose_b ? 1 : columns, transpose_b ? depth : 1};
  real *copies = (real *)gf_copies, *packed = (real *)(gf_copies + GF_PANELS_BYTES);
  GF_BLOCKS(block, gf_row_blocks(rows) * gf_column_blocks(rows, columns), gf_run(block, end, rows)) {
    const gf_index row_blocks = gf_row_blocks(rows), run = gf_run(block, end, rows);
    const gf_index first_row = block % row_blocks * GF_BLOCK_ROWS, first = block / row_blocks * gf_block_columns(rows);
    const gf_index end_row = row_blocks > 1 ? gf_least(rows, first_row + run * GF_BLOCK_ROWS) : rows;
    const gf_index width = gf_least(columns - first, row_blocks > 1 ? GF_BLOCK_COLUMNS : run * gf_block_columns(rows));
    const gf_index height = end_row - first_row;
    real *const place = out + first_row * columns + first;
    if (gf_is_narrow(transpose_a, rows, columns, depth)) {
      for (gf_index start = 0; start == 0 || start < depth; start += GF_DEPTH) {
        const gf_part a_part = gf_from(whole_a, first_row, start), b_part = gf_from(whole_b, start, first);
        const gf_index part = gf_least(depth - start, GF_DEPTH);
        if (transpose_a) gf_narrow_by_row(start > 0, a_part, height, b_part, columns, part, place, packed);
        else gf_narrow_by_depth(start > 0, a_part, height, b_part, columns, part, place, copies, packed);
      }
      continue;
    }
    const gf_index at_once = transpose_a ? GF_DEPTH : GF_PARTS * GF_DEPTH;
    for (gf_index start = 0; start == 0 || start < depth; start += at_once)
      gf_some_parts(start > 0, gf_from(whole_a, first_row, start), height, gf_from(whole_b, start, first), width,
                    gf_least(depth - start, at_once), place, columns, copies, packed);
  }
}
