#include "gradflow.h"
/* out = op(a) op(b), where op transposes a matrix or leaves it: the product of small matrices.

   C only: larger products are the BLAS's, whose packing and threads cost more than they bring below a certain
   size (backends/native.py), and a GPU's are cuBLAS's. op(a) is rows x depth, op(b) depth x columns.

   As in Goto & van de Geijn (2008, "Anatomy of High-Performance Matrix Multiplication"), a tile of the result
   stays in registers while it runs along the depth: each element of op(a) is multiplied into one or two vectors
   of op(b), which come from a panel where the columns of op(b) lie side by side. Wherever an element of the
   result lies in its tile, it is the same sum: in the order of the depth, in parts of GF_DEPTH. */

#if defined(__AVX512F__)
#define GF_VECTOR_BYTES 64
#define GF_TILE_ROWS 8 /* 16 of 32 registers hold a tile: enough sums at a time to keep the multipliers busy */
#elif defined(__AVX__)
#define GF_VECTOR_BYTES 32
#define GF_TILE_ROWS 6 /* 12 of 16 */
#else
#define GF_VECTOR_BYTES 16
#define GF_TILE_ROWS 6
#endif
#define GF_LANES ((int)(GF_VECTOR_BYTES / sizeof(real)))
#define GF_DEPTH 256
#define GF_INLINE GF_FUNCTION __attribute__((always_inline))
#define GF_UNROLL _Pragma("GCC unroll 8")

typedef real gf_vector __attribute__((vector_size(GF_VECTOR_BYTES)));
typedef real gf_loose_vector __attribute__((vector_size(GF_VECTOR_BYTES), aligned(sizeof(real)), may_alias));

/* A part of a matrix: its first element, and how far apart its rows and its columns lie. */
typedef struct {
  const real *first;
  gf_index row_step, column_step;
} gf_part;

/* out = a panel, or out += a panel for the later parts of the depth: rows x columns, where a row of the panel is
   `vectors` long. What is constant in a call is so for the compiler too: the loops are unrolled, sum is in registers. */
GF_INLINE void gf_tile(const int rows, const int vectors, int adds, gf_part a, gf_index depth,
                       const gf_vector *panel, real *out, gf_index out_step, gf_index columns) {
  gf_vector sum[GF_TILE_ROWS][2];
  GF_UNROLL for (int r = 0; r < rows; r++) {
    GF_UNROLL for (int v = 0; v < vectors; v++) sum[r][v] = (gf_vector){0};
  }
  for (gf_index p = 0; p < depth; p++)
    GF_UNROLL for (int r = 0; r < rows; r++) {
      const real factor = a.first[r * a.row_step + p * a.column_step];
      GF_UNROLL for (int v = 0; v < vectors; v++) sum[r][v] += factor * panel[p * vectors + v];
    }
  if (columns == vectors * GF_LANES) {
    GF_UNROLL for (int r = 0; r < rows; r++) {
      gf_loose_vector *place = (gf_loose_vector *)(out + r * out_step);
      GF_UNROLL for (int v = 0; v < vectors; v++) {
        if (adds) sum[r][v] += place[v];
        place[v] = sum[r][v];
      }
    }
  } else {
    gf_vector whole[GF_TILE_ROWS][2];
    GF_UNROLL for (int r = 0; r < rows; r++) {
      GF_UNROLL for (int v = 0; v < vectors; v++) whole[r][v] = sum[r][v];
    }
    for (int r = 0; r < rows; r++)
      for (gf_index j = 0; j < columns; j++) {
        const real value = ((const real *)whole[r])[j];
        out[r * out_step + j] = adds ? value + out[r * out_step + j] : value;
      }
  }
}

/* Columns of op(b) side by side, with zeros behind them up to the length of the vectors. */
GF_INLINE void gf_pack(const int vectors, gf_part b, gf_index depth, gf_index columns, gf_vector *panel) {
  if (b.column_step == 1 && columns == vectors * GF_LANES) {
    for (gf_index p = 0; p < depth; p++)
      for (int v = 0; v < vectors; v++)
        panel[p * vectors + v] = ((const gf_loose_vector *)(b.first + p * b.row_step))[v];
    return;
  }
  for (gf_index p = 0; p < depth; p++)
    for (int j = 0; j < vectors * GF_LANES; j++)
      ((real *)(panel + p * vectors))[j] = j < columns ? b.first[p * b.row_step + j * b.column_step] : 0;
}

/* All rows of up to `vectors` vectors of columns, for one part of the depth. */
GF_INLINE void gf_panel_product(const int vectors, int adds, gf_part a, gf_part b, gf_index rows,
                                gf_index depth, real *out, gf_index out_step, gf_index columns) {
  gf_vector panel[GF_DEPTH * 2];
  gf_pack(vectors, b, depth, columns, panel);
  for (gf_index row = 0; row < rows;) {
    const gf_index left = rows - row;
    /* The last two tiles share their rows evenly: a tile of one or two leaves the processor waiting. */
    const gf_index count = left >= 2 * GF_TILE_ROWS ? GF_TILE_ROWS : left > GF_TILE_ROWS ? (left + 1) / 2 : left;
    switch (count) {
#define GF_TILE(count) \
  case count: gf_tile(count, vectors, adds, a, depth, panel, out + row * out_step, out_step, columns); break;
      GF_TILE(1) GF_TILE(2) GF_TILE(3) GF_TILE(4) GF_TILE(5) GF_TILE(6)
#if GF_TILE_ROWS > 6
      GF_TILE(7) GF_TILE(8)
#endif
    }
    a.first += count * a.row_step;
    row += count;
  }
}

GF_KERNEL(gemm, const real *a, const real *b, real *out, int transpose_a, int transpose_b, gf_index rows,
          gf_index columns, gf_index depth) {
  GF_BLOCKS(first, columns, 2 * GF_LANES) {
    const gf_index width = end - first < 2 * GF_LANES ? end - first : 2 * GF_LANES;
    for (gf_index start = 0; start == 0 || start < depth; start += GF_DEPTH) {
      const gf_index part = depth - start < GF_DEPTH ? depth - start : GF_DEPTH;
      const gf_part of_a = transpose_a ? (gf_part){a + start * rows, 1, rows} : (gf_part){a + start, depth, 1};
      const gf_part of_b = transpose_b ? (gf_part){b + start + first * depth, 1, depth}
                                       : (gf_part){b + start * columns + first, columns, 1};
      if (width > GF_LANES)
        gf_panel_product(2, start > 0, of_a, of_b, rows, part, out + first, columns, width);
      else
        gf_panel_product(1, start > 0, of_a, of_b, rows, part, out + first, columns, width);
    }
  }
}
