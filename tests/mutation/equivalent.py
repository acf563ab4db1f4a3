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
