/* Tiles of a matmul, in which the elements of a row share a vector. */

#if defined(__AVX512F__)
#define GF_TILE_ROWS 8 /* a tile takes 16 of 32 registers: enough independent sums to keep the multipliers busy */
#else
#define GF_TILE_ROWS 6 /* 12 of 16 */
#endif
#define GF_PANEL_COLUMNS (2 * GF_LANES)
/* A part of a block of op(b) has 256 or 128 KiB, a part of the second-level cache; of op(a), if it must be
   packed, 64 KiB. */
#define GF_DEPTH ((int)(1024 / sizeof(real)))
#ifdef __AVX512F__
#define GF_BLOCK_COLUMNS 256
#else
#define GF_BLOCK_COLUMNS 128
#endif
#define GF_BLOCK_ROWS 64

/* Choices that change the speed alone. Rows far apart share few places of the first-level cache, so that copies pay; a
   block has twice as many panels of doubles, which use a copy twice as often. */
#define GF_IS_FAR(step) ((step) > (sizeof(real) == sizeof(float) ? 512 : 128))
#define GF_COPIED_COLUMNS_PAY(rows, row_step) ((rows) > 4 * GF_BLOCK_ROWS || GF_IS_FAR(row_step))
#define GF_COPIED_ROWS_PAY(columns, column_step) ((columns) > 64 && GF_IS_FAR(column_step))
#define GF_PREFETCH(a, row, column) __builtin_prefetch((a).first + ((column) + 16) * (a).column_step + (row))

/* A part of a matrix: its first element, and the strides of its rows and columns. */
typedef struct {
  const real *first;
  gf_index row_step, column_step;
} gf_part;

/* Return the part without the rows and columns before these. */
GF_INLINE gf_part gf_from(gf_part part, gf_index row, gf_index column) {
  part.first += row * part.row_step + column * part.column_step;
  return part;
}

/* Store, or add, a tile that is narrower than its vectors: once for all tiles, since it takes much code. */
static __attribute__((noinline)) void gf_store_some(int rows, int vectors, int adds, gf_vector (*sum)[2], real *out,
                                                    gf_index out_step, gf_index columns) {
  for (int r = 0; r < rows; r++)
    for (int v = 0; v < vectors; v++) {
      real *const place = out + r * out_step + v * GF_LANES;
      const gf_index room = columns - v * GF_LANES;
      gf_store(place, adds ? sum[r][v] + gf_load(place, room) : sum[r][v], room);
    }
}

/* out = a times a panel, or out += it for later parts of the depth: rows x columns, from the first `vectors` vectors of
   each row of the panel. Callers pass compile-time constants, so that the loops are unrolled and sum stays in
   registers. */
GF_INLINE void gf_tile(const int rows, const int vectors, int adds, gf_part a, gf_index depth, const real *panel,
                       gf_index panel_step, real *out, gf_index out_step, gf_index columns) {
  gf_vector sum[2 * GF_TILE_ROWS][2];
  GF_UNROLL for (int r = 0; r < rows; r++) {
    GF_UNROLL for (int v = 0; v < vectors; v++) sum[r][v] = (gf_vector){0};
  }
  for (gf_index p = 0; p < depth; p++) {
    const gf_loose_vector *factors = (const gf_loose_vector *)(panel + p * panel_step);
    GF_UNROLL for (int r = 0; r < rows; r++) {
      const real factor = a.first[r * a.row_step + p * a.column_step];
      GF_UNROLL for (int v = 0; v < vectors; v++) sum[r][v] += factor * factors[v];
    }
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
    gf_vector whole[2 * GF_TILE_ROWS][2];
    GF_UNROLL for (int r = 0; r < rows; r++) {
      GF_UNROLL for (int v = 0; v < vectors; v++) whole[r][v] = sum[r][v];
    }
    gf_store_some(rows, vectors, adds, whole, out, out_step, columns);
  }
}

/* Copy a panel of op(b). Any numbers may follow its last column: what is computed with them is discarded. */
GF_INLINE void gf_pack_panel(gf_part b, gf_index depth, gf_index columns, real *panel) {
  gf_vector *const vectors = (gf_vector *)panel;
  gf_index p = 0;
  if (b.column_step == 1) {
    for (; p < depth; p++)
      GF_UNROLL for (int v = 0; v < 2; v++)
        vectors[p * 2 + v] = gf_load(b.first + p * b.row_step + v * GF_LANES,
                                     (depth - 1 - p) * b.row_step + columns - v * GF_LANES);
  } else if (columns == GF_PANEL_COLUMNS) {
    for (; p + GF_LANES <= depth; p += GF_LANES)
      for (int v = 0; v < 2; v++) {
        gf_vector square[GF_LANES];
        GF_UNROLL for (int lane = 0; lane < GF_LANES; lane++)
          square[lane] = *(const gf_loose_vector *)(b.first + p + (v * GF_LANES + lane) * b.column_step);
        gf_transpose(square);
        GF_UNROLL for (int lane = 0; lane < GF_LANES; lane++) vectors[(p + lane) * 2 + v] = square[lane];
      }
  }
  for (; p < depth; p++)
    for (gf_index j = 0; j < columns; j++)
      panel[p * GF_PANEL_COLUMNS + j] = b.first[p + j * b.column_step];
}

/* Columns of op(b), for one part of the depth: whole panels, copied or in place, and a copy of the last if it is not
   whole. */
typedef struct {
  const real *whole;
  gf_index row_step, panel_step;
  const real *last;
  gf_index columns;
} gf_panels;

/* Return panels for this number of rows of the result, copied side by side if that pays. */
GF_INLINE gf_panels gf_pack_columns(gf_part b, gf_index depth, gf_index columns, gf_index rows, real *copies) {
  gf_index column = columns - columns % GF_PANEL_COLUMNS;
  gf_panels panels = {b.first, b.row_step, GF_PANEL_COLUMNS, copies, columns};
  if (b.column_step != 1 || GF_COPIED_COLUMNS_PAY(rows, b.row_step)) {
    panels = (gf_panels){copies, GF_PANEL_COLUMNS, depth * GF_PANEL_COLUMNS, copies + column * depth, columns};
    column = 0;
  }
  for (; column < columns; column += GF_PANEL_COLUMNS, copies += GF_PANEL_COLUMNS * depth)
    gf_pack_panel(gf_from(b, 0, column), depth, gf_least(columns - column, GF_PANEL_COLUMNS), copies);
  return panels;
}

/* Return the number of rows, of those left, that are computed next. The last two parts are equal, since the processor
   would idle with only one or two rows. */
GF_INLINE gf_index gf_next(gf_index left, gf_index most) {
  return left >= 2 * most ? most : left > most ? (left + 1) / 2 : left;
}

/* Copy rows of op(a) tile by tile; in each, the elements of a column lie side by side. */
GF_INLINE void gf_pack_rows(gf_part a, gf_index depth, gf_index rows, real *packed) {
  gf_index whole = 0;
  while (gf_next(rows - whole, GF_TILE_ROWS) == GF_TILE_ROWS) whole += GF_TILE_ROWS;
  for (gf_index p = 0; p < depth; p++)
    for (gf_index row = 0; row < whole; row += GF_TILE_ROWS) {
      GF_PREFETCH(a, row, p);
      __builtin_memcpy(packed + row * depth + p * GF_TILE_ROWS, a.first + p * a.column_step + row,
                       GF_TILE_ROWS * sizeof(real));
    }
  for (gf_index row = whole, height; row < rows; row += height) {
    height = gf_next(rows - row, GF_TILE_ROWS);
    for (gf_index p = 0; p < depth; p++)
      for (gf_index r = 0; r < height; r += GF_LANES)
        gf_store(packed + row * depth + p * height + r,
                 gf_load(a.first + p * a.column_step + row + r, (depth - 1 - p) * a.column_step + rows - row - r),
                 height - r);
  }
}

/* Compute one row of tiles of the result, for one part of the depth. */
GF_INLINE void gf_row_of_tiles(const int rows, int adds, gf_part a, gf_index depth, gf_panels b, real *out,
                               gf_index out_step) {
  for (; b.columns > GF_LANES; b.columns -= GF_PANEL_COLUMNS, b.whole += b.panel_step, out += GF_PANEL_COLUMNS) {
    const int is_whole = b.columns >= GF_PANEL_COLUMNS;
    gf_tile(rows, 2, adds, a, depth, is_whole ? b.whole : b.last, is_whole ? b.row_step : GF_PANEL_COLUMNS, out,
            out_step, gf_least(b.columns, GF_PANEL_COLUMNS));
  }
  if (b.columns > 0) gf_tile(rows, 1, adds, a, depth, b.last, GF_PANEL_COLUMNS, out, out_step, b.columns);
}

/* Compute rows of the result, for one part of the depth. */
GF_INLINE void gf_rows_of_tiles(int adds, gf_part a, gf_index rows, gf_index depth, gf_panels b, real *out,
                                gf_index out_step, real *packed) {
  /* One vector leaves registers for twice as many rows. */
  for (; b.columns <= GF_LANES && rows >= 2 * GF_TILE_ROWS; rows -= 2 * GF_TILE_ROWS) {
    gf_tile(2 * GF_TILE_ROWS, 1, adds, a, depth, b.last, GF_PANEL_COLUMNS, out, out_step, b.columns);
    a = gf_from(a, 2 * GF_TILE_ROWS, 0);
    out += 2 * GF_TILE_ROWS * out_step;
  }
  const int is_packed = a.row_step == 1 && GF_COPIED_ROWS_PAY(b.columns, a.column_step);
  if (is_packed) gf_pack_rows(a, depth, rows, packed);
  for (gf_index row = 0, height; row < rows; row += height) {
    height = gf_next(rows - row, GF_TILE_ROWS);
    const gf_part tile = is_packed ? (gf_part){packed + row * depth, 1, height} : gf_from(a, row, 0);
    switch (height) {
#define GF_TILE(height) \
  case height: gf_row_of_tiles(height, adds, tile, depth, b, out + row * out_step, out_step); break;
      GF_TILE(1) GF_TILE(2) GF_TILE(3) GF_TILE(4) GF_TILE(5) GF_TILE(6)
#if GF_TILE_ROWS > 6
      GF_TILE(7) GF_TILE(8)
#endif
    }
  }
}

/* Parts of the depth that are added at once, while rows of the result are in the cache: not if they share it with copies
   of rows of op(a). */
#define GF_PARTS 2

/* Copies of a block of op(b) in panels, and of rows of op(a): too large for the stacks that some programs give their
   threads. Each thread has one buffer for both, shared by all tables of the library if the linker can merge them. */
#define GF_PANELS_BYTES (GF_PARTS * GF_DEPTH * GF_BLOCK_COLUMNS * (int)sizeof(real))
#define GF_PACKED_BYTES (GF_DEPTH * GF_BLOCK_ROWS * (int)sizeof(real))
#ifdef _WIN32
/* Loaders may align a thread's variables to 16 bytes only. */
static _Thread_local char gf_unaligned_copies[GF_PANELS_BYTES + GF_PACKED_BYTES + 63];
#define gf_copies (gf_unaligned_copies + (-(gf_long_word)gf_unaligned_copies & 63))
#else
__attribute__((weak, visibility("hidden"))) _Alignas(64) _Thread_local char
    gf_copies[GF_PANELS_BYTES + GF_PACKED_BYTES];
#endif

/* Compute a block of the result, for up to GF_PARTS parts of the depth. */
GF_INLINE void gf_some_parts(int adds, gf_part a, gf_index rows, gf_part b, gf_index columns, gf_index depth, real *out,
                             gf_index out_step, real *copies, real *packed) {
  gf_panels panels[GF_PARTS];
  for (int p = 0; p == 0 || p * GF_DEPTH < depth; p++)
    panels[p] = gf_pack_columns(gf_from(b, p * GF_DEPTH, 0), gf_least(depth - p * GF_DEPTH, GF_DEPTH), columns, rows,
                                copies + p * GF_DEPTH * GF_BLOCK_COLUMNS);
  for (gf_index row = 0; row < rows; row += GF_BLOCK_ROWS)
    for (int p = 0; p == 0 || p * GF_DEPTH < depth; p++)
      gf_rows_of_tiles(adds || p > 0, gf_from(a, row, p * GF_DEPTH), gf_least(rows - row, GF_BLOCK_ROWS),
                       gf_least(depth - p * GF_DEPTH, GF_DEPTH), panels[p], out + row * out_step, out_step, packed);
}

/* out = a b, for a few columns and rows of a larger matrix. */
GF_INLINE void gf_matmul(gf_part a, gf_index rows, gf_part b, gf_index columns, gf_index depth, real *out,
                         gf_index out_step) {
  real *copies = (real *)gf_copies, *packed = (real *)(gf_copies + GF_PANELS_BYTES);
  for (gf_index first = 0; first < columns; first += GF_BLOCK_COLUMNS)
    for (gf_index start = 0; start == 0 || start < depth; start += GF_PARTS * GF_DEPTH)
      gf_some_parts(start > 0, gf_from(a, 0, start), rows, gf_from(b, start, first),
                    gf_least(columns - first, GF_BLOCK_COLUMNS), gf_least(depth - start, GF_PARTS * GF_DEPTH),
                    out + first, out_step, copies, packed);
}
