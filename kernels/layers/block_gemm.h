/* out = op(a) op(b) for row-major matrices, by thread blocks of 1024 threads: one in block_programs.py, several in
   merged_programs.py. A block computes tiles of 64 x 64 results from shared memory, 2 x 2 by each thread; where that
   would leave most threads without work, a warp computes each result. The order of the sums depends on the sizes alone. */
#define GF_BLOCK_THREADS 1024
#include "gradflow.h"

#define GF_TILE 64
#define GF_TILE_DEPTH 16

/* Element (row, column) of op(a), of which `rows` x `columns` exist; 0 outside. */
GF_FUNCTION real gf_element(const real *a, gf_index row, gf_index column, gf_index rows, gf_index columns,
                            int is_transposed) {
  if (row >= rows || column >= columns) return 0;
  return is_transposed ? a[column * rows + row] : a[row * columns + column];
}

/* Results one by one: the lanes of a warp share out the terms of each. */
GF_FUNCTION void gf_gemm_by_warps(const real *a, const real *b, real *out, gf_index rows, gf_index columns,
                                  gf_index depth, int transpose_a, int transpose_b) {
  for (gf_index i = GF_THREAD / 32; i < rows * columns; i += GF_THREADS / 32) {
    real sum = 0;
    for (gf_index p = threadIdx.x % 32; p < depth; p += 32)
      sum += gf_element(a, i / columns, p, rows, depth, transpose_a) *
             gf_element(b, p, i % columns, depth, columns, transpose_b);
    sum = gf_butterfly<32>(sum, [](real x, real y) { return x + y; });
    if (threadIdx.x % 32 == 0) out[i] = sum;
  }
}

/* Copy a slice of op(a) into shared memory, depth by depth, so that neighboring threads read neighboring elements. */
GF_FUNCTION void gf_load_slice(real (*slice)[GF_TILE + 1], const real *a, gf_index first, gf_index first_depth,
                               gf_index rows, gf_index depth, int is_depth_contiguous, int is_transposed) {
  const int place = threadIdx.x;
  const int p = is_depth_contiguous ? place % GF_TILE_DEPTH : place / GF_TILE;
  const int r = is_depth_contiguous ? place / GF_TILE_DEPTH : place % GF_TILE;
  slice[p][r] = gf_element(a, first + r, first_depth + p, rows, depth, is_transposed);
}

GF_FUNCTION void gf_gemm_by_tiles(const real *a, const real *b, real *out, gf_index rows, gf_index columns,
                                  gf_index depth, int transpose_a, int transpose_b) {
  __shared__ real slice_a[GF_TILE_DEPTH][GF_TILE + 1], slice_b[GF_TILE_DEPTH][GF_TILE + 1];
  const int row = threadIdx.x / 32, column = threadIdx.x % 32; /* and those 32 further */
  const gf_index across = (columns + GF_TILE - 1) / GF_TILE, tiles = across * ((rows + GF_TILE - 1) / GF_TILE);
  for (gf_index tile = GF_BLOCK_INDEX; tile < tiles; tile += GF_GRID) {
    const gf_index first_row = tile / across * GF_TILE, first_column = tile % across * GF_TILE;
    real sum[2][2] = {};
    for (gf_index first = 0; first < depth; first += GF_TILE_DEPTH) {
      gf_load_slice(slice_a, a, first_row, first, rows, depth, !transpose_a, transpose_a);
      gf_load_slice(slice_b, b, first_column, first, columns, depth, transpose_b, !transpose_b);
      __syncthreads();
      for (int p = 0; p < GF_TILE_DEPTH; p++)
        for (int i = 0; i < 2; i++)
          for (int j = 0; j < 2; j++) sum[i][j] += slice_a[p][row + 32 * i] * slice_b[p][column + 32 * j];
      __syncthreads();
    }
    for (int i = 0; i < 2; i++)
      for (int j = 0; j < 2; j++)
        if (const gf_index r = first_row + row + 32 * i, c = first_column + column + 32 * j; r < rows && c < columns)
          out[r * columns + c] = sum[i][j];
  }
}

GF_KERNEL(gemm, const real *a, const real *b, real *out, gf_index rows, gf_index columns, gf_index depth,
          int transpose_a, int transpose_b) {
  if (rows < 16 || columns < 16)
    gf_gemm_by_warps(a, b, out, rows, columns, depth, transpose_a, transpose_b);
  else
    gf_gemm_by_tiles(a, b, out, rows, columns, depth, transpose_a, transpose_b);
}
