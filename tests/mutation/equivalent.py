"""Faults that do not change any result, each with the reason."""

from __future__ import annotations

_ZERO = "the other branch gives 0 at 0 too"
_SAME = "both branches give the same where the two sides are equal"
_ORDER = "a row's columns are walked in order, so that a later one is never the first"
_ROOM = "an array has room to spare"
_SLOWER = "the other branch gives the same, more slowly"
_OUTSIDE = "what lies outside of an array is not used; AddressSanitizer, in make check-long, finds that it is touched"
_UNUSED = "columns after the last one of a matrix are computed and discarded"
_COUNTED = (
    "these tests count the blocks themselves; those of the compiled library, which the copy has not, take this count"
)
_NEVER = "no value lies between the two limits"
_NOTHING = "it adds a part without rows or depth, which changes nothing"

EQUIVALENT: dict[str, str] = {
    "kernels/layers/gemm.c: gf_vector sum[GF_TILE_ROWS][2];  ->  gf_vector sum[GF_TILE_ROWS][3];": _ROOM,
    "kernels/layers/gemm.c: gf_vector whole[GF_TILE_ROWS][2];  ->  gf_vector whole[GF_TILE_ROWS][3];": _ROOM,
    "kernels/layers/gemm.c: if (columns == vectors * GF_LANES) {  ->  if (0) {": _SLOWER,
    "kernels/layers/gemm.c: if (columns == vectors * GF_LANES) {  ->  if (columns == vectors / GF_LANES) {": _SLOWER,
    "kernels/layers/gemm.c: if (columns == vectors * GF_LANES) {  ->  if (columns == GF_LANES) {": _SLOWER,
    "kernels/layers/gemm.c: GF_INLINE gf_index gf_least(gf_index x, gf_index y) { return x < y ? x : y; }  ->  "
    "GF_INLINE gf_index gf_least(gf_index x, gf_index y) { return x <= y ? x : y; }": _SAME,
    "kernels/layers/gemm.c: const gf_index width = gf_least(columns - column, GF_PANEL_COLUMNS);  ->  "
    "const gf_index width = gf_least(columns + column, GF_PANEL_COLUMNS);": _OUTSIDE,
    "kernels/layers/gemm.c: const gf_index width = gf_least(columns - column, GF_PANEL_COLUMNS);  ->  "
    "const gf_index width = gf_least(columns , GF_PANEL_COLUMNS);": _OUTSIDE,
    "kernels/layers/gemm.c: if (b.column_step == 1 && width == GF_PANEL_COLUMNS) {  ->  if (0) {": _SLOWER,
    "kernels/layers/gemm.c: if (b.column_step == 1 && width == GF_PANEL_COLUMNS) {  ->  "
    "if (b.column_step == 0 && width == GF_PANEL_COLUMNS) {": _SLOWER,
    "kernels/layers/gemm.c: if (b.column_step == 1 && width == GF_PANEL_COLUMNS) {  ->  "
    "if (b.column_step == 1 && width != GF_PANEL_COLUMNS) {": _OUTSIDE,
    "kernels/layers/gemm.c: for (int v = 0; v < 2; v++) panels[p * 2 + v] = ((const gf_loose_vector *)(first + p * "
    "b.row_step))[v];  ->  "
    "for (int v = 0; v <= 2; v++) panels[p * 2 + v] = ((const gf_loose_vector *)(first + p * "
    "b.row_step))[v];": _OUTSIDE,
    "kernels/layers/gemm.c: for (int v = 0; v < 2; v++) panels[p * 2 + v] = ((const gf_loose_vector *)(first + p * "
    "b.row_step))[v];  ->  "
    "for (int v = 0; v < 3; v++) panels[p * 2 + v] = ((const gf_loose_vector *)(first + p * b.row_step))[v];": _OUTSIDE,
    "kernels/layers/gemm.c: for (int j = 0; j < GF_PANEL_COLUMNS; j++)  ->  "
    "for (int j = 0; j <= GF_PANEL_COLUMNS; j++)": _OUTSIDE,
    "kernels/layers/gemm.c: ((real *)(panels + p * 2))[j] = j < width ? first[p * b.row_step + j * b.column_step] : "
    "0;  ->  "
    "((real *)(panels + p * 2))[j] = j <= width ? first[p * b.row_step + j * b.column_step] : 0;": _OUTSIDE,
    "kernels/layers/gemm.c: ((real *)(panels + p * 2))[j] = j < width ? first[p * b.row_step + j * b.column_step] : "
    "0;  ->  "
    "((real *)(panels + p * 2))[j] = 1 ? first[p * b.row_step + j * b.column_step] : 0;": _OUTSIDE,
    "kernels/layers/gemm.c: ((real *)(panels + p * 2))[j] = j < width ? first[p * b.row_step + j * b.column_step] : "
    "0;  ->  "
    "((real *)(panels + p * 2))[j] = j < width ? first[p * b.row_step + j * b.column_step] : 1;": _UNUSED,
    "kernels/layers/gemm.c: return left >= 2 * GF_TILE_ROWS ? GF_TILE_ROWS : left > GF_TILE_ROWS ? (left + 1) / 2 : "
    "left;  ->  "
    "return left > 2 * GF_TILE_ROWS ? GF_TILE_ROWS : left > GF_TILE_ROWS ? (left + 1) / 2 : left;": _SLOWER,
    "kernels/layers/gemm.c: return left >= 2 * GF_TILE_ROWS ? GF_TILE_ROWS : left > GF_TILE_ROWS ? (left + 1) / 2 : "
    "left;  ->  "
    "return left >= GF_TILE_ROWS ? GF_TILE_ROWS : left > GF_TILE_ROWS ? (left + 1) / 2 : left;": _SLOWER,
    "kernels/layers/gemm.c: return left >= 2 * GF_TILE_ROWS ? GF_TILE_ROWS : left > GF_TILE_ROWS ? (left + 1) / 2 : "
    "left;  ->  "
    "return left >= 2 * GF_TILE_ROWS ? GF_TILE_ROWS : left >= GF_TILE_ROWS ? (left + 1) / 2 : left;": _SLOWER,
    "kernels/layers/gemm.c: return left >= 2 * GF_TILE_ROWS ? GF_TILE_ROWS : left > GF_TILE_ROWS ? (left + 1) / 2 : "
    "left;  ->  "
    "return left >= 2 * GF_TILE_ROWS ? GF_TILE_ROWS : left > GF_TILE_ROWS ? (left - 1) / 2 : left;": _SLOWER,
    "kernels/layers/gemm.c: return left >= 2 * GF_TILE_ROWS ? GF_TILE_ROWS : left > GF_TILE_ROWS ? (left + 1) / 2 : "
    "left;  ->  "
    "return left >= 2 * GF_TILE_ROWS ? GF_TILE_ROWS : left > GF_TILE_ROWS ? (left ) / 2 : left;": _SLOWER,
    "kernels/layers/gemm.c: return left >= 2 * GF_TILE_ROWS ? GF_TILE_ROWS : left > GF_TILE_ROWS ? (left + 1) / 2 : "
    "left;  ->  "
    "return left >= 2 * GF_TILE_ROWS ? GF_TILE_ROWS : left > GF_TILE_ROWS ? (left + 2) / 2 : left;": _SLOWER,
    "kernels/layers/gemm.c: return left >= 2 * GF_TILE_ROWS ? GF_TILE_ROWS : left > GF_TILE_ROWS ? (left + 1) / 2 : "
    "left;  ->  "
    "return left >= 2 * GF_TILE_ROWS ? GF_TILE_ROWS : left > GF_TILE_ROWS ? (left + 0) / 2 : left;": _SLOWER,
    "kernels/layers/gemm.c: return left >= 2 * GF_TILE_ROWS ? GF_TILE_ROWS : left > GF_TILE_ROWS ? (left + 1) / 2 : "
    "left;  ->  "
    "return left >= 2 * GF_TILE_ROWS ? GF_TILE_ROWS : left > GF_TILE_ROWS ? (left + 1) / 3 : left;": _SLOWER,
    "kernels/layers/gemm.c: while (gf_height(rows - whole) == GF_TILE_ROWS) whole += GF_TILE_ROWS;  ->  "
    "while ((rows - whole) == GF_TILE_ROWS) whole += GF_TILE_ROWS;": _SLOWER,
    "kernels/layers/gemm.c: while (gf_height(rows - whole) == GF_TILE_ROWS) whole += GF_TILE_ROWS;  ->  "
    "while (gf_height(- whole) == GF_TILE_ROWS) whole += GF_TILE_ROWS;": _SLOWER,
    "kernels/layers/gemm.c: for (gf_index row = 0; row < whole; row += GF_TILE_ROWS)  ->  "
    "for (gf_index row = 0; row <= whole; row += GF_TILE_ROWS)": _OUTSIDE,
    "kernels/layers/gemm.c: for (; columns - column > GF_LANES; column += GF_PANEL_COLUMNS, panels += 2 * depth)  ->  "
    "for (; columns - column >= GF_LANES; column += GF_PANEL_COLUMNS, panels += 2 * depth)": _SLOWER,
    "kernels/layers/gemm.c: if (column < columns) gf_tile(rows, 1, adds, a, depth, panels, out + column, out_step, "
    "columns - column);  ->  "
    "if (1) gf_tile(rows, 1, adds, a, depth, panels, out + column, out_step, columns - column);": _OUTSIDE,
    "kernels/layers/gemm.c: if (column < columns) gf_tile(rows, 1, adds, a, depth, panels, out + column, out_step, "
    "columns - column);  ->  "
    "if (column <= columns) gf_tile(rows, 1, adds, a, depth, panels, out + column, out_step, "
    "columns - column);": _OUTSIDE,
    "kernels/layers/gemm.c: if (column < columns) gf_tile(rows, 1, adds, a, depth, panels, out + column, out_step, "
    "columns - column);  ->  "
    "if (column < columns) gf_tile(rows, 2, adds, a, depth, panels, out + column, out_step, "
    "columns - column);": _SLOWER,
    "kernels/layers/gemm.c: const int is_packed = a.row_step == 1 && columns > GF_BLOCK_COLUMNS / 2;  ->  "
    "const int is_packed = a.row_step == 2 && columns > GF_BLOCK_COLUMNS / 2;": _SLOWER,
    "kernels/layers/gemm.c: const int is_packed = a.row_step == 1 && columns > GF_BLOCK_COLUMNS / 2;  ->  "
    "const int is_packed = a.row_step == 0 && columns > GF_BLOCK_COLUMNS / 2;": _SLOWER,
    "kernels/layers/gemm.c: const int is_packed = a.row_step == 1 && columns > GF_BLOCK_COLUMNS / 2;  ->  "
    "const int is_packed = a.row_step == 1 && columns >= GF_BLOCK_COLUMNS / 2;": _SLOWER,
    "kernels/layers/gemm.c: const int is_packed = a.row_step == 1 && columns > GF_BLOCK_COLUMNS / 2;  ->  "
    "const int is_packed = a.row_step == 1 && columns < GF_BLOCK_COLUMNS / 2;": _SLOWER,
    "kernels/layers/gemm.c: const int is_packed = a.row_step == 1 && columns > GF_BLOCK_COLUMNS / 2;  ->  "
    "const int is_packed = a.row_step == 1 && columns > GF_BLOCK_COLUMNS * 2;": _SLOWER,
    "kernels/layers/gemm.c: const int is_packed = a.row_step == 1 && columns > GF_BLOCK_COLUMNS / 2;  ->  "
    "const int is_packed = a.row_step == 1 && columns > GF_BLOCK_COLUMNS ;": _SLOWER,
    "kernels/layers/gemm.c: const int is_packed = a.row_step == 1 && columns > GF_BLOCK_COLUMNS / 2;  ->  "
    "const int is_packed = a.row_step == 1 && columns > 1 / 2;": _SLOWER,
    "kernels/layers/gemm.c: const int is_packed = a.row_step == 1 && columns > GF_BLOCK_COLUMNS / 2;  ->  "
    "const int is_packed = a.row_step == 1 && columns > GF_BLOCK_COLUMNS / 3;": _SLOWER,
    "kernels/layers/gemm.c: if (is_packed) gf_pack_rows(a, depth, rows, packed);  ->  "
    "if (1) gf_pack_rows(a, depth, rows, packed);": _SLOWER,
    "kernels/layers/gemm.c: const gf_part tile = is_packed ? (gf_part){packed + row * depth, 1, height}  ->  "
    "const gf_part tile = 0 ? (gf_part){packed + row * depth, 1, height}": _SLOWER,
    "kernels/layers/gemm.c: return rows > GF_FEW_ROWS ? (rows + GF_BLOCK_ROWS - 1) / GF_BLOCK_ROWS : rows > 0;  ->  "
    "return rows > GF_FEW_ROWS ? (rows + GF_BLOCK_ROWS - 1) / GF_BLOCK_ROWS : rows >= 0;": _COUNTED,
    "kernels/layers/gemm.c: return (columns + gf_block_columns(rows) - 1) / gf_block_columns(rows);  ->  "
    "return (columns - gf_block_columns(rows) - 1) / gf_block_columns(rows);": _COUNTED,
    "kernels/layers/gemm.c: return (columns + gf_block_columns(rows) - 1) / gf_block_columns(rows);  ->  "
    "return (columns - 1) / gf_block_columns(rows);": _COUNTED,
    "kernels/layers/gemm.c: return (columns + gf_block_columns(rows) - 1) / gf_block_columns(rows);  ->  "
    "return ( gf_block_columns(rows) - 1) / gf_block_columns(rows);": _COUNTED,
    "kernels/layers/gemm.c: return (columns + gf_block_columns(rows) - 1) / gf_block_columns(rows);  ->  "
    "return (columns + (rows) - 1) / gf_block_columns(rows);": _COUNTED,
    "kernels/layers/gemm.c: return (columns + gf_block_columns(rows) - 1) / gf_block_columns(rows);  ->  "
    "return (columns + gf_block_columns(rows) + 1) / gf_block_columns(rows);": _COUNTED,
    "kernels/layers/gemm.c: return (columns + gf_block_columns(rows) - 1) / gf_block_columns(rows);  ->  "
    "return (columns + gf_block_columns(rows) ) / gf_block_columns(rows);": _COUNTED,
    "kernels/layers/gemm.c: return (columns + gf_block_columns(rows) - 1) / gf_block_columns(rows);  ->  "
    "return (columns + - 1) / gf_block_columns(rows);": _COUNTED,
    "kernels/layers/gemm.c: return (columns + gf_block_columns(rows) - 1) / gf_block_columns(rows);  ->  "
    "return (columns + gf_block_columns(rows) - 2) / gf_block_columns(rows);": _COUNTED,
    "kernels/layers/gemm.c: return (columns + gf_block_columns(rows) - 1) / gf_block_columns(rows);  ->  "
    "return (columns + gf_block_columns(rows) - 0) / gf_block_columns(rows);": _COUNTED,
    "kernels/layers/gemm.c: return (columns + gf_block_columns(rows) - 1) / gf_block_columns(rows);  ->  "
    "return (columns + gf_block_columns(rows) - 1) * gf_block_columns(rows);": _COUNTED,
    "kernels/layers/gemm.c: return (columns + gf_block_columns(rows) - 1) / gf_block_columns(rows);  ->  "
    "return (columns + gf_block_columns(rows) - 1) ;": _COUNTED,
    "kernels/layers/gemm.c: return (columns + gf_block_columns(rows) - 1) / gf_block_columns(rows);  ->  "
    "return 1 / gf_block_columns(rows);": _COUNTED,
    "kernels/layers/gemm.c: return (columns + gf_block_columns(rows) - 1) / gf_block_columns(rows);  ->  "
    "return (columns + gf_block_columns(rows) - 1) / (rows);": _COUNTED,
    "kernels/layers/gemm.c: return gf_least(end - block, row_blocks > 1 ? row_blocks - block % row_blocks : "
    "GF_NARROW);  ->  "
    "return gf_least(end - block, row_blocks >= 1 ? row_blocks - block % row_blocks : GF_NARROW);": _SLOWER,
    "kernels/layers/gemm.c: return gf_least(end - block, row_blocks > 1 ? row_blocks - block % row_blocks : "
    "GF_NARROW);  ->  "
    "return gf_least(end - block, row_blocks > 2 ? row_blocks - block % row_blocks : GF_NARROW);": _NEVER,
    "kernels/layers/gemm.c: return gf_least(end - block, row_blocks > 1 ? row_blocks - block % row_blocks : "
    "GF_NARROW);  ->  "
    "return gf_least(end - block, row_blocks > 0 ? row_blocks - block % row_blocks : GF_NARROW);": _SLOWER,
    "kernels/layers/gemm.c: return gf_least(end - block, row_blocks > 1 ? row_blocks - block % row_blocks : "
    "GF_NARROW);  ->  "
    "return gf_least(end - block, 1 ? row_blocks - block % row_blocks : GF_NARROW);": _SLOWER,
    "kernels/layers/gemm.c: GF_BLOCKS(block, gf_row_blocks(rows) * gf_column_blocks(rows, columns), gf_run(block, "
    "end, rows)) {  ->  "
    "GF_BLOCKS(block, (rows) * gf_column_blocks(rows, columns), gf_run(block, end, rows)) {": _COUNTED,
    "kernels/layers/gemm.c: GF_BLOCKS(block, gf_row_blocks(rows) * gf_column_blocks(rows, columns), gf_run(block, "
    "end, rows)) {  ->  "
    "GF_BLOCKS(block, gf_row_blocks(rows) / gf_column_blocks(rows, columns), gf_run(block, end, rows)) {": _COUNTED,
    "kernels/layers/gemm.c: GF_BLOCKS(block, gf_row_blocks(rows) * gf_column_blocks(rows, columns), gf_run(block, "
    "end, rows)) {  ->  "
    "GF_BLOCKS(block, gf_row_blocks(rows) , gf_run(block, end, rows)) {": _COUNTED,
    "kernels/layers/gemm.c: GF_BLOCKS(block, gf_row_blocks(rows) * gf_column_blocks(rows, columns), gf_run(block, "
    "end, rows)) {  ->  "
    "GF_BLOCKS(block, gf_column_blocks(rows, columns), gf_run(block, end, rows)) {": _COUNTED,
    "kernels/layers/gemm.c: const gf_index end_row = row_blocks > 1 ? gf_least(rows, first_row + run * GF_BLOCK_ROWS) "
    ": rows;  ->  "
    "const gf_index end_row = row_blocks > 2 ? gf_least(rows, first_row + run * GF_BLOCK_ROWS) : rows;": _NEVER,
    "kernels/layers/gemm.c: const gf_index width = gf_least(columns - first, row_blocks > 1 ? GF_BLOCK_COLUMNS : run "
    "* gf_block_columns(rows));  ->  "
    "const gf_index width = gf_least(columns - first, row_blocks > 2 ? GF_BLOCK_COLUMNS : run * "
    "gf_block_columns(rows));": _NEVER,
    "kernels/layers/gemm.c: for (gf_index start = 0; start == 0 || start < depth; start += GF_DEPTH) {  ->  "
    "for (gf_index start = 0; start == 0 || start <= depth; start += GF_DEPTH) {": _NOTHING,
    "kernels/layers/gemm.c: for (gf_index row = first_row; row < end_row; row += GF_BLOCK_ROWS)  ->  "
    "for (gf_index row = first_row; row <= end_row; row += GF_BLOCK_ROWS)": _NOTHING,
    "kernels/layers/gemm.c: gf_rows_of_tiles(start > 0,  ->  gf_rows_of_tiles(start > 1,": _NEVER,
    "kernels/vector_math.h: x = x < -104.0f ? -104.0f : x;  ->  x = x <= -104.0f ? -104.0f : x;": _SAME,
    "kernels/optimizers/clip.cu: const gf_index first = row * chunk, length = n - first < chunk ? n - first : chunk;  ->  "
    "const gf_index first = row * chunk, length = n - first <= chunk ? n - first : chunk;": _SAME,
    "kernels/optimizers/clip.cu: GF_ONCE_PER_ROW gradient_scale[row] = norm > clip_norm ? (real)(clip_norm / norm) : 1;  ->  "
    "GF_ONCE_PER_ROW gradient_scale[row] = norm >= clip_norm ? (real)(clip_norm / norm) : 1;": _SAME,
    "kernels/sum.cu: const gf_index first = row * chunk, length = n - first < chunk ? n - first : chunk;  ->  "
    "const gf_index first = row * chunk, length = n - first <= chunk ? n - first : chunk;": _SAME,
    "kernels/layers/elu.cu: GF_FUNCTION real elu(real x, real alpha) { return x <= 0 ? alpha * gf_expm1(x) : x; }  ->  "
    "GF_FUNCTION real elu(real x, real alpha) { return x < 0 ? alpha * gf_expm1(x) : x; }": _ZERO,
    "kernels/layers/leaky_relu.cu: GF_FUNCTION real leaky_relu(real x, real slope) { return x <= 0 ? slope * x : x; }  ->  "
    "GF_FUNCTION real leaky_relu(real x, real slope) { return x < 0 ? slope * x : x; }": _ZERO,
    "kernels/layers/relu.cu: GF_FUNCTION real relu(real x) { return x <= 0 ? 0 : x; }  ->  "
    "GF_FUNCTION real relu(real x) { return x < 0 ? 0 : x; }": _ZERO,
    "kernels/losses/softmax_cross_entropy.cu: if (z[j] == largest && j < first_largest) first_largest = j;  ->  "
    "if (z[j] == largest && j <= first_largest) first_largest = j;": _ORDER,
    "kernels/losses/softmax_cross_entropy.cu: if (t[j] == largest_target && j < label) label = j;  ->  "
    "if (t[j] == largest_target && j <= label) label = j;": _ORDER,
    "kernels/shuffle.h: gf_word bits = 0;  ->  "
    "gf_word bits = 1;": "one row stays where it is, however often it is sent through",
    "gradflow/optimizers/clipping.py: gradient_scale[0] = clip_norm / norm if norm > clip_norm else 1  ->  "
    "gradient_scale[0] = clip_norm / norm if ((norm) >= (clip_norm)) else 1": _SAME,
    "gradflow/layers/elu.py: y[...] = np.where(x <= 0, alpha * np.expm1(x), x)  ->  "
    "y[...] = np.where(((x) < (0)), alpha * np.expm1(x), x)": _ZERO,
    "gradflow/layers/identity.py: if y is not x:  ->  if True:": "copies an array onto itself",
    "gradflow/layers/leaky_relu.py: y[...] = np.where(x <= 0, slope * x, x)  ->  "
    "y[...] = np.where(((x) < (0)), slope * x, x)": _ZERO,
    "gradflow/functions.py: return np.where(x < 0, small, 1) / (1 + small)  ->  "
    "return np.where(((x) <= (0)), small, 1) / (1 + small)": _SAME,
    "kernels/metrics/error_moments.cu: if (row_weight[i] > 0 && i < first) first = i;  ->  "
    "if (row_weight[i] > 0 && i <= first) first = i;": "rows come in ascending order, and a row is itself",
}
