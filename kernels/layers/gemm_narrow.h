/* Matmuls with fewer columns than a panel, most of which the tiles would leave unused: the lanes of a vector hold
   neighbors in a column of the result instead, or terms of one sum. Several columns are computed at once. */

#define GF_MOST_BY_ROW 6
#define GF_MOST_BY_DEPTH (GF_LANES < 4 ? GF_LANES : 4)
#ifdef __AVX512F__
#define GF_ROW_VECTORS(columns) 4
#else
#define GF_ROW_VECTORS(columns) ((columns) > 2 ? 2 : 4)
#endif

/* Choices that change the speed alone, and not with the number of rows how an element is summed: sums by row are the
   same as those of tiles. */
#define GF_SUMS_BY_ROW_PAY(rows) ((rows) >= 2 * GF_LANES)
#define GF_SUMS_BY_DEPTH_PAY(columns, depth) ((columns) * ((depth) + 2 * GF_LANES) < (depth)*gf_padded(columns))

GF_INLINE int gf_is_narrow(int transpose_a, gf_index rows, gf_index columns, gf_index depth) {
  if (columns >= GF_PANEL_COLUMNS) return 0;
  return transpose_a ? GF_SUMS_BY_ROW_PAY(rows) : GF_SUMS_BY_DEPTH_PAY(columns, depth);
}

/* out = a b, or out += it for later parts of the depth, where neighbors in a column of a lie side by side. */
GF_INLINE void gf_sums_by_row(const int columns, int adds, gf_part a, gf_index rows, gf_part b, gf_index depth,
                              real *out, gf_index out_step) {
  const int vectors = GF_ROW_VECTORS(columns);
  gf_vector sum[GF_MOST_BY_ROW][4];
  GF_UNROLL for (int c = 0; c < columns; c++) {
    GF_UNROLL for (int v = 0; v < vectors; v++) sum[c][v] = (gf_vector){0};
  }
  for (gf_index p = 0; p < depth; p++) {
    const gf_loose_vector *factors = (const gf_loose_vector *)(a.first + p * a.column_step);
    GF_UNROLL for (int c = 0; c < columns; c++) {
      const real factor = b.first[p * b.row_step + c * b.column_step];
      GF_UNROLL for (int v = 0; v < vectors; v++) sum[c][v] += factor * factors[v];
    }
  }
  gf_vector sums[GF_MOST_BY_ROW][4];
  GF_UNROLL for (int c = 0; c < columns; c++) {
    GF_UNROLL for (int v = 0; v < vectors; v++) sums[c][v] = sum[c][v];
  }
  for (gf_index r = 0; r < rows; r++)
    GF_UNROLL for (int c = 0; c < columns; c++) {
      const real value = ((const real *)sums[c])[r];
      out[r * out_step + c] = adds ? value + out[r * out_step + c] : value;
    }
}

/* The same where neighbors in a row of a lie side by side. It reads whole vectors, of as many rows as are a multiple of
   the lanes, and of columns of b, which are GF_DEPTH apart. */
GF_INLINE void gf_sums_by_depth(const int columns, int adds, gf_part a, gf_index rows, gf_part b, gf_index depth,
                                real *out, gf_index out_step) {
  const int height = GF_LANES / (columns == 3 ? 4 : columns);
  for (gf_index row = 0; row < rows; row += height) {
    const real *first = a.first + row * a.row_step;
    gf_vector sum[GF_LANES];
    GF_UNROLL for (int i = 0; i < GF_LANES; i++) sum[i] = (gf_vector){0};
    for (gf_index p = 0; p < depth; p += GF_LANES)
      GF_UNROLL for (int r = 0; r < height; r++) {
        const gf_vector factors = *(const gf_loose_vector *)(first + r * a.row_step + p);
        GF_UNROLL for (int c = 0; c < columns; c++)
          sum[r * columns + c] += factors * *(const gf_vector *)(b.first + c * GF_DEPTH + p);
      }
    const gf_vector sums = gf_sums_of_lanes(sum);
    real *place = out + row * out_step;
    if (!adds && out_step == columns && height * columns == GF_LANES && rows - row >= height) {
      *(gf_loose_vector *)place = sums;
      continue;
    }
    for (gf_index r = 0; r < gf_least(rows - row, height); r++, place += out_step)
      GF_UNROLL for (int c = 0; c < columns; c++) {
        const real value = ((const real *)&sums)[r * columns + c];
        place[c] = adds ? value + place[c] : value;
      }
  }
}

/* Functions of their own for each number of columns, since compilers run out of registers in one for all. */
#define GF_PARAMETERS int adds, gf_part a, gf_index rows, gf_part b, gf_index depth, real *out, gf_index out_step
#define GF_SUMS(way, n) static void way##_##n(GF_PARAMETERS) { way(n, adds, a, rows, b, depth, out, out_step); }
typedef void (*gf_sums)(GF_PARAMETERS);
GF_SUMS(gf_sums_by_row, 1)
GF_SUMS(gf_sums_by_row, 2)
GF_SUMS(gf_sums_by_row, 3)
GF_SUMS(gf_sums_by_row, 4)
GF_SUMS(gf_sums_by_row, 5)
GF_SUMS(gf_sums_by_row, 6)
GF_SUMS(gf_sums_by_depth, 1)
GF_SUMS(gf_sums_by_depth, 2)
GF_SUMS(gf_sums_by_depth, 3)
GF_SUMS(gf_sums_by_depth, 4)
static const gf_sums gf_by_row[] = {
    gf_sums_by_row_1, gf_sums_by_row_2, gf_sums_by_row_3, gf_sums_by_row_4, gf_sums_by_row_5, gf_sums_by_row_6};
static const gf_sums gf_by_depth[] = {
    gf_sums_by_depth_1, gf_sums_by_depth_2, gf_sums_by_depth_3, gf_sums_by_depth_4};

/* Compute up to `most` columns at once. */
GF_INLINE void gf_groups(const gf_sums *sums, gf_index most, int adds, gf_part a, gf_index rows, gf_part b,
                         gf_index columns, gf_index depth, real *out) {
  for (gf_index column = 0, width; column < columns; column += width) {
    width = gf_next(columns - column, most);
    sums[width - 1](adds, a, rows, gf_from(b, 0, column), depth, out + column, columns);
  }
}

/* Compute rows of the result, for one part of the depth. */
GF_INLINE void gf_narrow_by_row(int adds, gf_part a, gf_index rows, gf_part b, gf_index columns, gf_index depth,
                                real *out, real *packed) {
  const gf_index vectors = GF_ROW_VECTORS(columns), height = vectors * GF_LANES;
  for (gf_index row = 0; row < rows; row += height) {
    gf_part tile = gf_from(a, row, 0);
    const gf_index left = gf_least(rows - row, height);
    if (left < height) {
      /* Any numbers may follow the last row: what is computed with them is discarded. */
      for (gf_index p = 0; p < depth; p++)
        for (gf_index r = 0; r < height; r += GF_LANES)
          *(gf_vector *)(packed + p * height + r) =
              gf_load(tile.first + p * a.column_step + r, (depth - 1 - p) * a.column_step + left - r);
      tile = (gf_part){packed, 1, height};
    }
    gf_groups(gf_by_row, GF_MOST_BY_ROW, adds, tile, left, b, columns, depth, out + row * columns);
  }
}

/* Copy columns of op(b), with zeros after the last row. */
GF_INLINE void gf_pack_along_depth(gf_part b, gf_index depth, gf_index columns, real *copies) {
  for (gf_index p = 0; p < depth; p += GF_LANES)
    if (b.row_step == 1) {
      for (gf_index c = 0; c < columns; c++)
        *(gf_vector *)(copies + c * GF_DEPTH + p) = gf_load(b.first + c * b.column_step + p, depth - p);
    } else
      for (gf_index c = 0; c < columns; c += GF_LANES) {
        gf_vector square[GF_LANES];
        GF_UNROLL for (int lane = 0; lane < GF_LANES; lane++)
          square[lane] = gf_load(b.first + (p + lane) * b.row_step + c,
                                 (depth - 1 - p - lane) * b.row_step + columns - c);
        gf_transpose(square);
        GF_UNROLL for (int lane = 0; lane < GF_LANES; lane++)
          if (c + lane < columns) *(gf_vector *)(copies + (c + lane) * GF_DEPTH + p) = square[lane];
      }
}

GF_INLINE void gf_narrow_by_depth(int adds, gf_part a, gf_index rows, gf_part b, gf_index columns, gf_index depth,
                                  real *out, real *copies, real *packed) {
  gf_pack_along_depth(b, depth, columns, copies);
  const gf_index padded = gf_padded(depth);
  for (gf_index row = 0; row < rows; row += GF_BLOCK_ROWS) {
    gf_part tile = gf_from(a, row, 0);
    const gf_index left = gf_least(rows - row, GF_BLOCK_ROWS);
    if (left < gf_padded(left) || depth < padded) {
      for (gf_index r = 0; r < gf_padded(left); r++)
        for (gf_index p = 0; p < depth; p += GF_LANES)
          *(gf_vector *)(packed + r * padded + p) = gf_first(
              gf_load(tile.first + r * a.row_step + p, (left - 1 - r) * a.row_step + depth - p), depth - p);
      tile = (gf_part){packed, padded, 1};
    }
    gf_groups(gf_by_depth, GF_MOST_BY_DEPTH, adds, tile, left, (gf_part){copies, 1, GF_DEPTH}, columns, depth,
              out + row * columns);
  }
}
