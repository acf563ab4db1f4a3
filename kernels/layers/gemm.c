#include "gradflow.h"
/* out = op(a) op(b), where op transposes a matrix or leaves it.

   C only: on a GPU, cuBLAS computes all matmuls; on the CPU, the BLAS computes large ones (backends/cpu/native.py).
   op(a) is rows x depth, op(b) depth x columns.

   As in Goto & van de Geijn (2008, "Anatomy of High-Performance Matrix Multiplication"), a tile of the result
   stays in registers along the depth: each element of op(a) is multiplied into one or two vectors
   of op(b), which come from a panel that holds columns of op(b) side by side. A block of panels stays in the
   second-level cache, and the rows of op(a) of a tile in the first, while the tile moves along the panels. Wherever an
   element of the result lies in its tile, it is the same sum: in the order of the depth, in parts of GF_DEPTH. */

#if defined(__AVX512F__)
#define GF_VECTOR_BYTES 64
#define GF_TILE_ROWS 8 /* a tile takes 16 of 32 registers: enough independent sums to keep the multipliers busy */
#elif defined(__AVX__)
#define GF_VECTOR_BYTES 32
#define GF_TILE_ROWS 6 /* 12 of 16 */
#else
#define GF_VECTOR_BYTES 16
#define GF_TILE_ROWS 6
#endif
#define GF_LANES ((int)(GF_VECTOR_BYTES / sizeof(real)))
#define GF_PANEL_COLUMNS (2 * GF_LANES)
/* A part of a block of op(b) has 128 KiB; of op(a), if it must be packed, 64. */
#define GF_DEPTH ((int)(1024 / sizeof(real)))
#define GF_BLOCK_COLUMNS 128
#define GF_BLOCK_ROWS 64
#define GF_FEW_ROWS (3 * GF_BLOCK_ROWS)
#define GF_NARROW 4
#define GF_INLINE GF_FUNCTION __attribute__((always_inline))
#define GF_UNROLL _Pragma("GCC unroll 8")

typedef real gf_vector __attribute__((vector_size(GF_VECTOR_BYTES)));
typedef real gf_loose_vector __attribute__((vector_size(GF_VECTOR_BYTES), aligned(sizeof(real)), may_alias));

/* A part of a matrix: its first element, and the strides of its rows and columns. */
typedef struct {
  const real *first;
  gf_index row_step, column_step;
} gf_part;

/* Copies of a block of op(b) in panels, and of rows of op(a): too large for the stacks that some programs give their
   threads. Each thread has one buffer for both, shared by all tables of the library if the linker can merge them. */
#define GF_PANELS_BYTES (GF_DEPTH * GF_BLOCK_COLUMNS * (int)sizeof(real))
#define GF_PACKED_BYTES (GF_DEPTH * GF_BLOCK_ROWS * (int)sizeof(real))
#ifdef _WIN32
/* Loaders may align a thread's variables to 16 bytes only. */
static _Thread_local char gf_unaligned_copies[GF_PANELS_BYTES + GF_PACKED_BYTES + 63];
#define gf_copies (gf_unaligned_copies + (-(gf_long_word)gf_unaligned_copies & 63))
#else
__attribute__((weak, visibility("hidden"))) _Alignas(64) _Thread_local char
    gf_copies[GF_PANELS_BYTES + GF_PACKED_BYTES];
#endif

GF_INLINE gf_index gf_least(gf_index x, gf_index y) { return x < y ? x : y; }

/* out = a times a panel, or out += it for later parts of the depth: rows x columns, from the first `vectors` vectors of
   the panel. Callers pass compile-time constants, so that the loops are unrolled and sum stays in registers. */
GF_INLINE void gf_tile(const int rows, const int vectors, int adds, gf_part a, gf_index depth,
                       const gf_vector *panel, real *out, gf_index out_step, gf_index columns) {
  gf_vector sum[GF_TILE_ROWS][2];
  GF_UNROLL for (int r = 0; r < rows; r++) {
    GF_UNROLL for (int v = 0; v < vectors; v++) sum[r][v] = (gf_vector){0};
  }
  for (gf_index p = 0; p < depth; p++)
    GF_UNROLL for (int r = 0; r < rows; r++) {
      const real factor = a.first[r * a.row_step + p * a.column_step];
      GF_UNROLL for (int v = 0; v < vectors; v++) sum[r][v] += factor * panel[p * 2 + v];
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

/* Copy columns of op(b) to panels of two vectors side by side, with zeros after the last column. */
GF_INLINE void gf_pack_columns(gf_part b, gf_index depth, gf_index columns, gf_vector *panels) {
  for (gf_index column = 0; column < columns; column += GF_PANEL_COLUMNS, panels += 2 * depth) {
    const real *first = b.first + column * b.column_step;
    const gf_index width = gf_least(columns - column, GF_PANEL_COLUMNS);
    if (b.column_step == 1 && width == GF_PANEL_COLUMNS) {
      for (gf_index p = 0; p < depth; p++)
        for (int v = 0; v < 2; v++) panels[p * 2 + v] = ((const gf_loose_vector *)(first + p * b.row_step))[v];
    } else {
      for (gf_index p = 0; p < depth; p++)
        for (int j = 0; j < GF_PANEL_COLUMNS; j++)
          ((real *)(panels + p * 2))[j] = j < width ? first[p * b.row_step + j * b.column_step] : 0;
    }
  }
}

/* Return the number of rows of the next tile. The last two tiles split theirs evenly, since the processor would idle
   with only one or two rows. */
GF_INLINE gf_index gf_height(gf_index left) {
  return left >= 2 * GF_TILE_ROWS ? GF_TILE_ROWS : left > GF_TILE_ROWS ? (left + 1) / 2 : left;
}

/* Copy rows of op(a) tile by tile; in each, the elements of a column lie side by side. */
GF_INLINE void gf_pack_rows(gf_part a, gf_index depth, gf_index rows, real *packed) {
  gf_index whole = 0;
  while (gf_height(rows - whole) == GF_TILE_ROWS) whole += GF_TILE_ROWS;
  for (gf_index p = 0; p < depth; p++)
    for (gf_index row = 0; row < whole; row += GF_TILE_ROWS)
      GF_UNROLL for (int r = 0; r < GF_TILE_ROWS; r++)
        packed[row * depth + p * GF_TILE_ROWS + r] = a.first[p * a.column_step + row + r];
  for (gf_index row = whole, height; row < rows; row += height) {
    height = gf_height(rows - row);
    for (gf_index p = 0; p < depth; p++)
      for (gf_index r = 0; r < height; r++) packed[row * depth + p * height + r] = a.first[p * a.column_step + row + r];
  }
}

/* Compute one row of tiles of the result, for one part of the depth. */
GF_INLINE void gf_row_of_tiles(const int rows, int adds, gf_part a, gf_index depth, const gf_vector *panels, real *out,
                               gf_index out_step, gf_index columns) {
  gf_index column = 0;
  for (; columns - column > GF_LANES; column += GF_PANEL_COLUMNS, panels += 2 * depth)
    gf_tile(rows, 2, adds, a, depth, panels, out + column, out_step, gf_least(columns - column, GF_PANEL_COLUMNS));
  if (column < columns) gf_tile(rows, 1, adds, a, depth, panels, out + column, out_step, columns - column);
}

/* Compute rows of the result, for one part of the depth. */
GF_INLINE void gf_rows_of_tiles(int adds, gf_part a, gf_index rows, gf_index depth, const gf_vector *panels, real *out,
                                gf_index out_step, gf_index columns, real *packed) {
  /* Rows of a transposed matrix are packed if enough panels use them. */
  const int is_packed = a.row_step == 1 && columns > GF_BLOCK_COLUMNS / 2;
  if (is_packed) gf_pack_rows(a, depth, rows, packed);
  for (gf_index row = 0, height; row < rows; row += height) {
    height = gf_height(rows - row);
    const gf_part tile = is_packed ? (gf_part){packed + row * depth, 1, height}
                                   : (gf_part){a.first + row * a.row_step, a.row_step, a.column_step};
    switch (height) {
#define GF_TILE(height) \
  case height: gf_row_of_tiles(height, adds, tile, depth, panels, out + row * out_step, out_step, columns); break;
      GF_TILE(1) GF_TILE(2) GF_TILE(3) GF_TILE(4) GF_TILE(5) GF_TILE(6)
#if GF_TILE_ROWS > 6
      GF_TILE(7) GF_TILE(8)
#endif
    }
  }
}

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
  gf_vector *panels = (gf_vector *)gf_copies;
  real *packed = (real *)(gf_copies + GF_PANELS_BYTES);
  GF_BLOCKS(block, gf_row_blocks(rows) * gf_column_blocks(rows, columns), gf_run(block, end, rows)) {
    const gf_index row_blocks = gf_row_blocks(rows), run = gf_run(block, end, rows);
    const gf_index first_row = block % row_blocks * GF_BLOCK_ROWS, first = block / row_blocks * gf_block_columns(rows);
    const gf_index end_row = row_blocks > 1 ? gf_least(rows, first_row + run * GF_BLOCK_ROWS) : rows;
    const gf_index width = gf_least(columns - first, row_blocks > 1 ? GF_BLOCK_COLUMNS : run * gf_block_columns(rows));
    for (gf_index start = 0; start == 0 || start < depth; start += GF_DEPTH) {
      const gf_index part = gf_least(depth - start, GF_DEPTH);
      gf_pack_columns(transpose_b ? (gf_part){b + start + first * depth, 1, depth}
                                  : (gf_part){b + start * columns + first, columns, 1},
                      part, width, panels);
      for (gf_index row = first_row; row < end_row; row += GF_BLOCK_ROWS)
        gf_rows_of_tiles(start > 0,
                         transpose_a ? (gf_part){a + start * rows + row, 1, rows}
                                     : (gf_part){a + start + row * depth, depth, 1},
                         gf_least(end_row - row, GF_BLOCK_ROWS), part, panels, out + row * columns + first, columns,
                         width, packed);
    }
  }
}
