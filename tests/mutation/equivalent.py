"""Faults that do not change any result, each with the reason."""

from __future__ import annotations

_ZERO = "the other branch gives 0 at 0 too"
_SAME = "both branches give the same where the two sides are equal"
_ORDER = "a row's columns are walked in order, so that a later one is never the first"
_ROOM = "an array has room to spare"
_SLOWER = "the other branch gives the same, more slowly"
_OUTSIDE = "what lies outside of an array is not used; AddressSanitizer, in make check-long, finds that it is touched"
_PREFETCH = "a prefetch has no result, wherever it points"
_UNUSED = "columns after the last one of a matrix are computed and discarded"
_COUNTED = (
    "these tests count the blocks themselves; those of the compiled library, which the copy has not, take this count"
)
_NEVER = "no value lies between the two limits"
_LIMIT = "all elements that count are read, and others are discarded or multiplied by zero"
_STEP = "the functions that get this part step by one element without asking"
_WINDOWS = "only Windows has this array"
_CLANG = "only Clang compiles this line"
_WIDER = "the vectors of the copy have at most four lanes; those of the compiled library, which it has not, have more"
_TYPE = "only the type of this expression counts"
_MODULO = "the order of a shuffle counts modulo the number of lanes of both vectors"
_UNSET = "compilers take zero for the lane that is not set"
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
    "kernels/layers/gemm_tiles.h: static _Thread_local char gf_unaligned_copies[GF_PANELS_BYTES + GF_PACKED_BYTES + "
    "63];  ->  "
    "static _Thread_local char gf_unaligned_copies[GF_PANELS_BYTES + 63];": _WINDOWS,
    "kernels/layers/gemm_tiles.h: static _Thread_local char gf_unaligned_copies[GF_PANELS_BYTES + GF_PACKED_BYTES + "
    "63];  ->  "
    "static _Thread_local char gf_unaligned_copies[GF_PANELS_BYTES - GF_PACKED_BYTES + 63];": _WINDOWS,
    "kernels/layers/gemm_tiles.h: static _Thread_local char gf_unaligned_copies[GF_PANELS_BYTES + GF_PACKED_BYTES + "
    "63];  ->  "
    "static _Thread_local char gf_unaligned_copies[ GF_PACKED_BYTES + 63];": _WINDOWS,
    "kernels/layers/gemm_tiles.h: static _Thread_local char gf_unaligned_copies[GF_PANELS_BYTES + GF_PACKED_BYTES + "
    "63];  ->  "
    "static _Thread_local char gf_unaligned_copies[GF_PANELS_BYTES + GF_PACKED_BYTES - 63];": _WINDOWS,
    "kernels/layers/gemm_tiles.h: static _Thread_local char gf_unaligned_copies[GF_PANELS_BYTES + GF_PACKED_BYTES + "
    "63];  ->  "
    "static _Thread_local char gf_unaligned_copies[GF_PANELS_BYTES + GF_PACKED_BYTES ];": _WINDOWS,
    "kernels/layers/gemm.c: if (gf_is_narrow(transpose_a, rows, columns, depth)) {  ->  if (0) {": _SLOWER,
    "kernels/layers/gemm.c: if (transpose_a) gf_narrow_by_row(start > 0, a_part, height, b_part, columns, part, place, "
    "packed);  ->  "
    "if (transpose_a) gf_narrow_by_row(start > 1, a_part, height, b_part, columns, part, place, packed);": _NEVER,
    "kernels/layers/gemm.c: else gf_narrow_by_depth(start > 0, a_part, height, b_part, columns, part, place, copies, "
    "packed);  ->  "
    "else gf_narrow_by_depth(start > 1, a_part, height, b_part, columns, part, place, copies, packed);": _NEVER,
    "kernels/layers/gemm.c: const gf_index at_once = transpose_a ? GF_DEPTH : GF_PARTS * GF_DEPTH;  ->  "
    "const gf_index at_once = 1 ? GF_DEPTH : GF_PARTS * GF_DEPTH;": _SLOWER,
    "kernels/layers/gemm.c: const gf_index at_once = transpose_a ? GF_DEPTH : GF_PARTS * GF_DEPTH;  ->  "
    "const gf_index at_once = 0 ? GF_DEPTH : GF_PARTS * GF_DEPTH;": _SLOWER,
    "kernels/layers/gemm.c: for (gf_index start = 0; start == 0 || start < depth; start += at_once)  ->  "
    "for (gf_index start = 0; start == 0 || start <= depth; start += at_once)": _NOTHING,
    "kernels/layers/gemm.c: gf_some_parts(start > 0, gf_from(whole_a, first_row, start), height, "
    "gf_from(whole_b, start, first), width,  ->  "
    "gf_some_parts(start > 1, gf_from(whole_a, first_row, start), height, gf_from(whole_b, start, first), "
    "width,": _NEVER,
    "kernels/layers/gemm_tiles.h: for (gf_index row = 0; row < rows; row += GF_BLOCK_ROWS)  ->  "
    "for (gf_index row = 0; row <= rows; row += GF_BLOCK_ROWS)": _NOTHING,
    "kernels/layers/gemm_tiles.h: gf_some_parts(start > 0, gf_from(a, 0, start), rows, gf_from(b, start, first),  ->  "
    "gf_some_parts(start > 1, gf_from(a, 0, start), rows, gf_from(b, start, first),": _NEVER,
    "kernels/layers/gemm_narrow.h: if (columns >= GF_PANEL_COLUMNS) return 0;  ->  if (1) return 0;": _SLOWER,
    "kernels/layers/gemm_narrow.h: if (columns >= GF_PANEL_COLUMNS) return 0;  ->  "
    "if (columns > GF_PANEL_COLUMNS) return 0;": _SLOWER,
    "kernels/layers/gemm_narrow.h: return transpose_a ? GF_SUMS_BY_ROW_PAY(rows) : "
    "GF_SUMS_BY_DEPTH_PAY(columns, depth);  ->  "
    "return 0 ? GF_SUMS_BY_ROW_PAY(rows) : GF_SUMS_BY_DEPTH_PAY(columns, depth);": _SLOWER,
    "kernels/layers/gemm_narrow.h: const int height = GF_LANES / (columns == 3 ? 4 : columns);  ->  "
    "const int height = GF_LANES / (columns != 3 ? 4 : columns);": _SLOWER,
    "kernels/layers/gemm_narrow.h: const int height = GF_LANES / (columns == 3 ? 4 : columns);  ->  "
    "const int height = GF_LANES / (1 ? 4 : columns);": _SLOWER,
    "kernels/layers/gemm_narrow.h: const int height = GF_LANES / (columns == 3 ? 4 : columns);  ->  "
    "const int height = GF_LANES / (0 ? 4 : columns);": _SLOWER,
    "kernels/layers/gemm_narrow.h: for (gf_index row = 0; row < rows; row += height) {  ->  "
    "for (gf_index row = 0; row <= rows; row += height) {": _OUTSIDE,
    "kernels/layers/gemm_narrow.h: if (!adds && out_step == columns && height * columns == GF_LANES && rows - "
    "row >= height) {  ->  "
    "if (0) {": _SLOWER,
    "kernels/layers/gemm_narrow.h: if (!adds && out_step == columns && height * columns == GF_LANES && rows - "
    "row >= height) {  ->  "
    "if (!adds && out_step == columns && height / columns == GF_LANES && rows - row >= height) {": _SLOWER,
    "kernels/layers/gemm_narrow.h: if (!adds && out_step == columns && height * columns == GF_LANES && rows - "
    "row >= height) {  ->  "
    "if (!adds && out_step == columns && height == GF_LANES && rows - row >= height) {": _SLOWER,
    "kernels/layers/gemm_narrow.h: if (!adds && out_step == columns && height * columns == GF_LANES && rows - "
    "row >= height) {  ->  "
    "if (!adds && out_step == columns && columns == GF_LANES && rows - row >= height) {": _SLOWER,
    "kernels/layers/gemm_narrow.h: if (!adds && out_step == columns && height * columns == GF_LANES && rows - "
    "row >= height) {  ->  "
    "if (!adds && out_step == columns && height * columns == GF_LANES && - row >= height) {": _SLOWER,
    "kernels/layers/gemm_narrow.h: if (!adds && out_step == columns && height * columns == GF_LANES && rows - "
    "row >= height) {  ->  "
    "if (!adds && out_step == columns && height * columns == GF_LANES && rows - row > height) {": _SLOWER,
    "kernels/layers/gemm_narrow.h: const gf_index vectors = GF_ROW_VECTORS(columns), height = vectors * "
    "GF_LANES;  ->  "
    "const gf_index vectors = GF_ROW_VECTORS(columns), height = GF_LANES;": _SLOWER,
    "kernels/layers/gemm_narrow.h: if (left < height) {  ->  if (1) {": _SLOWER,
    "kernels/layers/gemm_narrow.h: if (left < height) {  ->  if (0) {": _OUTSIDE,
    "kernels/layers/gemm_narrow.h: if (left < height) {  ->  if (left > height) {": _OUTSIDE,
    "kernels/layers/gemm_narrow.h: if (left < height) {  ->  if (left <= height) {": _SLOWER,
    "kernels/layers/gemm_narrow.h: for (gf_index p = 0; p < depth; p++)  ->  "
    "for (gf_index p = 0; p <= depth; p++)": _OUTSIDE,
    "kernels/layers/gemm_narrow.h: for (gf_index r = 0; r < height; r += GF_LANES)  ->  "
    "for (gf_index r = 0; r <= height; r += GF_LANES)": _OUTSIDE,
    "kernels/layers/gemm_narrow.h: gf_load(tile.first + p * a.column_step + r, (depth - 1 - p) * a.column_step"
    " + left - r);  ->  "
    "gf_load(tile.first + p * a.column_step + r, (depth + 1 - p) * a.column_step + left - r);": _LIMIT,
    "kernels/layers/gemm_narrow.h: gf_load(tile.first + p * a.column_step + r, (depth - 1 - p) * a.column_step"
    " + left - r);  ->  "
    "gf_load(tile.first + p * a.column_step + r, (depth - p) * a.column_step + left - r);": _LIMIT,
    "kernels/layers/gemm_narrow.h: gf_load(tile.first + p * a.column_step + r, (depth - 1 - p) * a.column_step"
    " + left - r);  ->  "
    "gf_load(tile.first + p * a.column_step + r, (depth - 0 - p) * a.column_step + left - r);": _LIMIT,
    "kernels/layers/gemm_narrow.h: gf_load(tile.first + p * a.column_step + r, (depth - 1 - p) * a.column_step"
    " + left - r);  ->  "
    "gf_load(tile.first + p * a.column_step + r, (depth - 1 + p) * a.column_step + left - r);": _LIMIT,
    "kernels/layers/gemm_narrow.h: gf_load(tile.first + p * a.column_step + r, (depth - 1 - p) * a.column_step"
    " + left - r);  ->  "
    "gf_load(tile.first + p * a.column_step + r, (depth - 1 ) * a.column_step + left - r);": _LIMIT,
    "kernels/layers/gemm_narrow.h: gf_load(tile.first + p * a.column_step + r, (depth - 1 - p) * a.column_step"
    " + left - r);  ->  "
    "gf_load(tile.first + p * a.column_step + r, (depth - - p) * a.column_step + left - r);": _LIMIT,
    "kernels/layers/gemm_narrow.h: gf_load(tile.first + p * a.column_step + r, (depth - 1 - p) * a.column_step"
    " + left - r);  ->  "
    "gf_load(tile.first + p * a.column_step + r, (depth - 1 - p) / a.column_step + left - r);": _LIMIT,
    "kernels/layers/gemm_narrow.h: gf_load(tile.first + p * a.column_step + r, (depth - 1 - p) * a.column_step"
    " + left - r);  ->  "
    "gf_load(tile.first + p * a.column_step + r, (depth - 1 - p) + left - r);": _LIMIT,
    "kernels/layers/gemm_narrow.h: gf_load(tile.first + p * a.column_step + r, (depth - 1 - p) * a.column_step"
    " + left - r);  ->  "
    "gf_load(tile.first + p * a.column_step + r, a.column_step + left - r);": _LIMIT,
    "kernels/layers/gemm_narrow.h: gf_load(tile.first + p * a.column_step + r, (depth - 1 - p) * a.column_step"
    " + left - r);  ->  "
    "gf_load(tile.first + p * a.column_step + r, left - r);": _LIMIT,
    "kernels/layers/gemm_narrow.h: gf_load(tile.first + p * a.column_step + r, (depth - 1 - p) * a.column_step"
    " + left - r);  ->  "
    "gf_load(tile.first + p * a.column_step + r, (depth - 1 - p) * a.column_step + left + r);": _LIMIT,
    "kernels/layers/gemm_narrow.h: gf_load(tile.first + p * a.column_step + r, (depth - 1 - p) * a.column_step"
    " + left - r);  ->  "
    "gf_load(tile.first + p * a.column_step + r, (depth - 1 - p) * a.column_step + left );": _LIMIT,
    "kernels/layers/gemm_narrow.h: tile = (gf_part){packed, 1, height};  ->  "
    "tile = (gf_part){packed, 2, height};": _STEP,
    "kernels/layers/gemm_narrow.h: tile = (gf_part){packed, 1, height};  ->  "
    "tile = (gf_part){packed, 0, height};": _STEP,
    "kernels/layers/gemm_narrow.h: for (gf_index c = 0; c < columns; c++)  ->  "
    "for (gf_index c = 0; c <= columns; c++)": _OUTSIDE,
    "kernels/layers/gemm_narrow.h: for (gf_index c = 0; c < columns; c += GF_LANES) {  ->  "
    "for (gf_index c = 0; c <= columns; c += GF_LANES) {": _OUTSIDE,
    "kernels/layers/gemm_narrow.h: (depth - 1 - p - lane) * b.row_step + columns - c);  ->  "
    "(depth + 1 - p - lane) * b.row_step + columns - c);": _LIMIT,
    "kernels/layers/gemm_narrow.h: (depth - 1 - p - lane) * b.row_step + columns - c);  ->  "
    "(depth - p - lane) * b.row_step + columns - c);": _LIMIT,
    "kernels/layers/gemm_narrow.h: (depth - 1 - p - lane) * b.row_step + columns - c);  ->  "
    "(depth - 0 - p - lane) * b.row_step + columns - c);": _LIMIT,
    "kernels/layers/gemm_narrow.h: (depth - 1 - p - lane) * b.row_step + columns - c);  ->  "
    "(depth - 1 + p - lane) * b.row_step + columns - c);": _LIMIT,
    "kernels/layers/gemm_narrow.h: (depth - 1 - p - lane) * b.row_step + columns - c);  ->  "
    "(depth - 1 - lane) * b.row_step + columns - c);": _LIMIT,
    "kernels/layers/gemm_narrow.h: (depth - 1 - p - lane) * b.row_step + columns - c);  ->  "
    "(depth - - p - lane) * b.row_step + columns - c);": _LIMIT,
    "kernels/layers/gemm_narrow.h: (depth - 1 - p - lane) * b.row_step + columns - c);  ->  "
    "(depth - 1 - p + lane) * b.row_step + columns - c);": _LIMIT,
    "kernels/layers/gemm_narrow.h: (depth - 1 - p - lane) * b.row_step + columns - c);  ->  "
    "(depth - 1 - p ) * b.row_step + columns - c);": _LIMIT,
    "kernels/layers/gemm_narrow.h: (depth - 1 - p - lane) * b.row_step + columns - c);  ->  "
    "(depth - 1 - - lane) * b.row_step + columns - c);": _LIMIT,
    "kernels/layers/gemm_narrow.h: (depth - 1 - p - lane) * b.row_step + columns - c);  ->  "
    "(depth - 1 - p - lane) / b.row_step + columns - c);": _LIMIT,
    "kernels/layers/gemm_narrow.h: (depth - 1 - p - lane) * b.row_step + columns - c);  ->  "
    "(depth - 1 - p - lane) + columns - c);": _LIMIT,
    "kernels/layers/gemm_narrow.h: (depth - 1 - p - lane) * b.row_step + columns - c);  ->  "
    "b.row_step + columns - c);": _LIMIT,
    "kernels/layers/gemm_narrow.h: (depth - 1 - p - lane) * b.row_step + columns - c);  ->  columns - c);": _LIMIT,
    "kernels/layers/gemm_narrow.h: (depth - 1 - p - lane) * b.row_step + columns - c);  ->  "
    "(depth - 1 - p - lane) * b.row_step + columns + c);": _LIMIT,
    "kernels/layers/gemm_narrow.h: (depth - 1 - p - lane) * b.row_step + columns - c);  ->  "
    "(depth - 1 - p - lane) * b.row_step + columns );": _LIMIT,
    "kernels/layers/gemm_narrow.h: if (c + lane < columns) *(gf_vector *)(copies + (c + lane) * GF_DEPTH + p) "
    "= square[lane];  ->  "
    "if (1) *(gf_vector *)(copies + (c + lane) * GF_DEPTH + p) = square[lane];": _OUTSIDE,
    "kernels/layers/gemm_narrow.h: if (c + lane < columns) *(gf_vector *)(copies + (c + lane) * GF_DEPTH + p) "
    "= square[lane];  ->  "
    "if (c - lane < columns) *(gf_vector *)(copies + (c + lane) * GF_DEPTH + p) = square[lane];": _OUTSIDE,
    "kernels/layers/gemm_narrow.h: if (c + lane < columns) *(gf_vector *)(copies + (c + lane) * GF_DEPTH + p) "
    "= square[lane];  ->  "
    "if (c < columns) *(gf_vector *)(copies + (c + lane) * GF_DEPTH + p) = square[lane];": _OUTSIDE,
    "kernels/layers/gemm_narrow.h: if (c + lane < columns) *(gf_vector *)(copies + (c + lane) * GF_DEPTH + p) "
    "= square[lane];  ->  "
    "if ( lane < columns) *(gf_vector *)(copies + (c + lane) * GF_DEPTH + p) = square[lane];": _OUTSIDE,
    "kernels/layers/gemm_narrow.h: if (c + lane < columns) *(gf_vector *)(copies + (c + lane) * GF_DEPTH + p) "
    "= square[lane];  ->  "
    "if (c + lane <= columns) *(gf_vector *)(copies + (c + lane) * GF_DEPTH + p) = square[lane];": _OUTSIDE,
    "kernels/layers/gemm_narrow.h: for (gf_index row = 0; row < rows; row += GF_BLOCK_ROWS) {  ->  "
    "for (gf_index row = 0; row <= rows; row += GF_BLOCK_ROWS) {": _NOTHING,
    "kernels/layers/gemm_narrow.h: if (left < gf_padded(left) || depth < padded) {  ->  if (1) {": _SLOWER,
    "kernels/layers/gemm_narrow.h: if (left < gf_padded(left) || depth < padded) {  ->  "
    "if (left <= gf_padded(left) || depth < padded) {": _SLOWER,
    "kernels/layers/gemm_narrow.h: if (left < gf_padded(left) || depth < padded) {  ->  "
    "if (left < gf_padded(left) || depth <= padded) {": _SLOWER,
    "kernels/layers/gemm_narrow.h: for (gf_index r = 0; r < gf_padded(left); r++)  ->  "
    "for (gf_index r = 0; r < (left); r++)": _UNUSED,
    "kernels/layers/gemm_narrow.h: gf_load(tile.first + r * a.row_step + p, (left - 1 - r) * a.row_step + "
    "depth - p), depth - p);  ->  "
    "gf_load(tile.first + r * a.row_step + p, (left + 1 - r) * a.row_step + depth - p), depth - p);": _LIMIT,
    "kernels/layers/gemm_narrow.h: gf_load(tile.first + r * a.row_step + p, (left - 1 - r) * a.row_step + "
    "depth - p), depth - p);  ->  "
    "gf_load(tile.first + r * a.row_step + p, (left - r) * a.row_step + depth - p), depth - p);": _LIMIT,
    "kernels/layers/gemm_narrow.h: gf_load(tile.first + r * a.row_step + p, (left - 1 - r) * a.row_step + "
    "depth - p), depth - p);  ->  "
    "gf_load(tile.first + r * a.row_step + p, (left - 0 - r) * a.row_step + depth - p), depth - p);": _LIMIT,
    "kernels/layers/gemm_narrow.h: gf_load(tile.first + r * a.row_step + p, (left - 1 - r) * a.row_step + "
    "depth - p), depth - p);  ->  "
    "gf_load(tile.first + r * a.row_step + p, (left - 1 + r) * a.row_step + depth - p), depth - p);": _LIMIT,
    "kernels/layers/gemm_narrow.h: gf_load(tile.first + r * a.row_step + p, (left - 1 - r) * a.row_step + "
    "depth - p), depth - p);  ->  "
    "gf_load(tile.first + r * a.row_step + p, (left - 1 ) * a.row_step + depth - p), depth - p);": _LIMIT,
    "kernels/layers/gemm_narrow.h: gf_load(tile.first + r * a.row_step + p, (left - 1 - r) * a.row_step + "
    "depth - p), depth - p);  ->  "
    "gf_load(tile.first + r * a.row_step + p, (left - - r) * a.row_step + depth - p), depth - p);": _LIMIT,
    "kernels/layers/gemm_narrow.h: gf_load(tile.first + r * a.row_step + p, (left - 1 - r) * a.row_step + "
    "depth - p), depth - p);  ->  "
    "gf_load(tile.first + r * a.row_step + p, (left - 1 - r) / a.row_step + depth - p), depth - p);": _LIMIT,
    "kernels/layers/gemm_narrow.h: gf_load(tile.first + r * a.row_step + p, (left - 1 - r) * a.row_step + "
    "depth - p), depth - p);  ->  "
    "gf_load(tile.first + r * a.row_step + p, (left - 1 - r) + depth - p), depth - p);": _LIMIT,
    "kernels/layers/gemm_narrow.h: gf_load(tile.first + r * a.row_step + p, (left - 1 - r) * a.row_step + "
    "depth - p), depth - p);  ->  "
    "gf_load(tile.first + r * a.row_step + p, a.row_step + depth - p), depth - p);": _LIMIT,
    "kernels/layers/gemm_narrow.h: gf_load(tile.first + r * a.row_step + p, (left - 1 - r) * a.row_step + "
    "depth - p), depth - p);  ->  "
    "gf_load(tile.first + r * a.row_step + p, depth - p), depth - p);": _LIMIT,
    "kernels/layers/gemm_narrow.h: gf_load(tile.first + r * a.row_step + p, (left - 1 - r) * a.row_step + "
    "depth - p), depth - p);  ->  "
    "gf_load(tile.first + r * a.row_step + p, (left - 1 - r) * a.row_step + depth + p), depth - p);": _LIMIT,
    "kernels/layers/gemm_narrow.h: gf_load(tile.first + r * a.row_step + p, (left - 1 - r) * a.row_step + "
    "depth - p), depth - p);  ->  "
    "gf_load(tile.first + r * a.row_step + p, (left - 1 - r) * a.row_step + depth ), depth - p);": _LIMIT,
    "kernels/layers/gemm_narrow.h: tile = (gf_part){packed, padded, 1};  ->  "
    "tile = (gf_part){packed, padded, 0};": _STEP,
    "kernels/layers/gemm_narrow.h: tile = (gf_part){packed, padded, 1};  ->  "
    "tile = (gf_part){packed, padded, 2};": _STEP,
    "kernels/layers/gemm_narrow.h: gf_groups(gf_by_depth, GF_MOST_BY_DEPTH, adds, tile, left, "
    "(gf_part){copies, 1, GF_DEPTH}, columns, depth,  ->  "
    "gf_groups(gf_by_depth, GF_MOST_BY_DEPTH, adds, tile, left, (gf_part){copies, 2, GF_DEPTH}, columns, "
    "depth,": _STEP,
    "kernels/layers/gemm_narrow.h: gf_groups(gf_by_depth, GF_MOST_BY_DEPTH, adds, tile, left, "
    "(gf_part){copies, 1, GF_DEPTH}, columns, depth,  ->  "
    "gf_groups(gf_by_depth, GF_MOST_BY_DEPTH, adds, tile, left, (gf_part){copies, 0, GF_DEPTH}, columns, "
    "depth,": _STEP,
    "kernels/layers/gemm_vectors.h: typedef __typeof__(_Generic((real)0, float: 0, double: (gf_index)0)) "
    "gf_lane; /* an integer of the size of a real */  ->  "
    "typedef __typeof__(_Generic((real)0, float: 1, double: (gf_index)0)) gf_lane; /* an integer of the size "
    "of a real */": _TYPE,
    "kernels/layers/gemm_vectors.h: typedef __typeof__(_Generic((real)0, float: 0, double: (gf_index)0)) "
    "gf_lane; /* an integer of the size of a real */  ->  "
    "typedef __typeof__(_Generic((real)1, float: 0, double: (gf_index)0)) gf_lane; /* an integer of the size "
    "of a real */": _TYPE,
    "kernels/layers/gemm_vectors.h: GF_INLINE gf_index gf_least(gf_index x, gf_index y) { return x < y ? x : "
    "y; }  ->  "
    "GF_INLINE gf_index gf_least(gf_index x, gf_index y) { return x <= y ? x : y; }": _SAME,
    "kernels/layers/gemm_vectors.h: typedef __typeof__(_Generic((real)0, float: 0, double: (gf_index)0)) "
    "gf_lane; /* an integer of the size of a real */  ->  "
    "typedef __typeof__(_Generic((real)0, float: 0, double: (gf_index)1)) gf_lane; /* an integer of the size "
    "of a real */": _TYPE,
    "kernels/layers/gemm_vectors.h: GF_UNROLL for (int some = GF_LANES / 2; some > 0; some /= 2)  ->  "
    "GF_UNROLL for (int some = GF_LANES * 2; some > 0; some /= 2)": _SLOWER,
    "kernels/layers/gemm_vectors.h: GF_UNROLL for (int some = GF_LANES / 2; some > 0; some /= 2)  ->  "
    "GF_UNROLL for (int some = GF_LANES ; some > 0; some /= 2)": _SLOWER,
    "kernels/layers/gemm_vectors.h: if (left >= GF_LANES) return *(const gf_loose_vector *)from;  ->  "
    "if (1) return *(const gf_loose_vector *)from;": _OUTSIDE,
    "kernels/layers/gemm_vectors.h: gf_vector some = {0};  ->  gf_vector some = {1};": _LIMIT,
    "kernels/layers/gemm_vectors.h: if (left > 0) gf_copy_some((real *)&some, from, left);  ->  "
    "if (1) gf_copy_some((real *)&some, from, left);": _OUTSIDE,
    "kernels/layers/gemm_vectors.h: if (left > 0) gf_copy_some((real *)&some, from, left);  ->  "
    "if (left >= 0) gf_copy_some((real *)&some, from, left);": _OUTSIDE,
    "kernels/layers/gemm_vectors.h: if (room >= GF_LANES) *(gf_loose_vector *)to = value;  ->  "
    "if (room > GF_LANES) *(gf_loose_vector *)to = value;": _SLOWER,
    "kernels/layers/gemm_vectors.h: GF_UNROLL for (int lane = 0; lane < GF_LANES; lane++) both[lane] = (lane %"
    " 2 ? y : x)[first + lane / 2];  ->  "
    "GF_UNROLL for (int lane = 1; lane < GF_LANES; lane++) both[lane] = (lane % 2 ? y : x)[first + lane / 2];": _CLANG,
    "kernels/layers/gemm_vectors.h: GF_UNROLL for (int lane = 0; lane < GF_LANES; lane++) both[lane] = (lane %"
    " 2 ? y : x)[first + lane / 2];  ->  "
    "GF_UNROLL for (int lane = 0; lane <= GF_LANES; lane++) both[lane] = (lane % 2 ? y : x)[first + lane / 2];": _CLANG,
    "kernels/layers/gemm_vectors.h: GF_UNROLL for (int lane = 0; lane < GF_LANES; lane++) both[lane] = (lane %"
    " 2 ? y : x)[first + lane / 2];  ->  "
    "GF_UNROLL for (int lane = 0; lane > GF_LANES; lane++) both[lane] = (lane % 2 ? y : x)[first + lane / 2];": _CLANG,
    "kernels/layers/gemm_vectors.h: GF_UNROLL for (int lane = 0; lane < GF_LANES; lane++) both[lane] = (lane %"
    " 2 ? y : x)[first + lane / 2];  ->  "
    "GF_UNROLL for (int lane = 0; lane < GF_LANES; lane++) both[lane] = (lane % 3 ? y : x)[first + lane / 2];": _CLANG,
    "kernels/layers/gemm_vectors.h: GF_UNROLL for (int lane = 0; lane < GF_LANES; lane++) both[lane] = (lane %"
    " 2 ? y : x)[first + lane / 2];  ->  "
    "GF_UNROLL for (int lane = 0; lane < GF_LANES; lane++) both[lane] = (0 ? y : x)[first + lane / 2];": _CLANG,
    "kernels/layers/gemm_vectors.h: GF_UNROLL for (int lane = 0; lane < GF_LANES; lane++) both[lane] = (lane %"
    " 2 ? y : x)[first + lane / 2];  ->  "
    "GF_UNROLL for (int lane = 0; lane < GF_LANES; lane++) both[lane] = (1 ? y : x)[first + lane / 2];": _CLANG,
    "kernels/layers/gemm_vectors.h: GF_UNROLL for (int lane = 0; lane < GF_LANES; lane++) both[lane] = (lane %"
    " 2 ? y : x)[first + lane / 2];  ->  "
    "GF_UNROLL for (int lane = 0; lane < GF_LANES; lane++) both[lane] = (lane % 2 ? y : x)[first - lane / 2];": _CLANG,
    "kernels/layers/gemm_vectors.h: GF_UNROLL for (int lane = 0; lane < GF_LANES; lane++) both[lane] = (lane %"
    " 2 ? y : x)[first + lane / 2];  ->  "
    "GF_UNROLL for (int lane = 0; lane < GF_LANES; lane++) both[lane] = (lane % 2 ? y : x)[first ];": _CLANG,
    "kernels/layers/gemm_vectors.h: GF_UNROLL for (int lane = 0; lane < GF_LANES; lane++) both[lane] = (lane %"
    " 2 ? y : x)[first + lane / 2];  ->  "
    "GF_UNROLL for (int lane = 0; lane < GF_LANES; lane++) both[lane] = (lane % 2 ? y : x)[ lane / 2];": _CLANG,
    "kernels/layers/gemm_vectors.h: GF_UNROLL for (int lane = 0; lane < GF_LANES; lane++) both[lane] = (lane %"
    " 2 ? y : x)[first + lane / 2];  ->  "
    "GF_UNROLL for (int lane = 0; lane < GF_LANES; lane++) both[lane] = (lane % 2 ? y : x)[first + lane * 2];": _CLANG,
    "kernels/layers/gemm_vectors.h: GF_UNROLL for (int lane = 0; lane < GF_LANES; lane++) both[lane] = (lane %"
    " 2 ? y : x)[first + lane / 2];  ->  "
    "GF_UNROLL for (int lane = 0; lane < GF_LANES; lane++) both[lane] = (lane % 2 ? y : x)[first + lane ];": _CLANG,
    "kernels/layers/gemm_vectors.h: GF_UNROLL for (int lane = 0; lane < GF_LANES; lane++) both[lane] = (lane %"
    " 2 ? y : x)[first + lane / 2];  ->  "
    "GF_UNROLL for (int lane = 0; lane < GF_LANES; lane++) both[lane] = (lane % 2 ? y : x)[first + 1 / 2];": _CLANG,
    "kernels/layers/gemm_vectors.h: GF_UNROLL for (int lane = 0; lane < GF_LANES; lane++) both[lane] = (lane %"
    " 2 ? y : x)[first + lane / 2];  ->  "
    "GF_UNROLL for (int lane = 0; lane < GF_LANES; lane++) both[lane] = (lane % 2 ? y : x)[first + lane / 3];": _CLANG,
    "kernels/layers/gemm_vectors.h: GF_UNROLL for (int lane = 0; lane < GF_LANES; lane++) order[lane] = first "
    "+ lane / 2 + lane % 2 * GF_LANES;  ->  "
    "GF_UNROLL for (int lane = 0; lane < GF_LANES; lane++) order[lane] = first + lane / 2 - lane % 2 * "
    "GF_LANES;": _MODULO,
    "kernels/layers/gemm_vectors.h: if (GF_LANES > 2) gf_transposition_step(square);  ->  "
    "if (1) gf_transposition_step(square);": _WIDER,
    "kernels/layers/gemm_vectors.h: if (GF_LANES > 2) gf_transposition_step(square);  ->  "
    "if (GF_LANES >= 2) gf_transposition_step(square);": _WIDER,
    "kernels/layers/gemm_vectors.h: if (GF_LANES > 2) gf_transposition_step(square);  ->  "
    "if (GF_LANES > 3) gf_transposition_step(square);": _WIDER,
    "kernels/layers/gemm_vectors.h: if (GF_LANES > 4) gf_transposition_step(square);  ->  "
    "if (0) gf_transposition_step(square);": _WIDER,
    "kernels/layers/gemm_vectors.h: if (GF_LANES > 4) gf_transposition_step(square);  ->  "
    "if (GF_LANES < 4) gf_transposition_step(square);": _WIDER,
    "kernels/layers/gemm_vectors.h: if (GF_LANES > 4) gf_transposition_step(square);  ->  "
    "if (GF_LANES > 4) (square);": _WIDER,
    "kernels/layers/gemm_vectors.h: if (GF_LANES > 8) gf_transposition_step(square);  ->  "
    "if (0) gf_transposition_step(square);": _WIDER,
    "kernels/layers/gemm_vectors.h: if (GF_LANES > 8) gf_transposition_step(square);  ->  "
    "if (GF_LANES >= 8) gf_transposition_step(square);": _WIDER,
    "kernels/layers/gemm_vectors.h: if (GF_LANES > 8) gf_transposition_step(square);  ->  "
    "if (GF_LANES > 8) (square);": _WIDER,
    "kernels/layers/gemm_vectors.h: GF_UNROLL for (int i = 0; i < pairs; i++)  ->  "
    "GF_UNROLL for (int i = 0; i <= pairs; i++)": _OUTSIDE,
    "kernels/layers/gemm_vectors.h: if (GF_LANES > 8) gf_summation_step(square, 8);  ->  "
    "if (0) gf_summation_step(square, 8);": _WIDER,
    "kernels/layers/gemm_vectors.h: if (GF_LANES > 8) gf_summation_step(square, 8);  ->  "
    "if (GF_LANES >= 8) gf_summation_step(square, 8);": _WIDER,
    "kernels/layers/gemm_vectors.h: if (GF_LANES > 4) gf_summation_step(square, 4);  ->  "
    "if (0) gf_summation_step(square, 4);": _WIDER,
    "kernels/layers/gemm_vectors.h: if (GF_LANES > 4) gf_summation_step(square, 4);  ->  "
    "if (GF_LANES < 4) gf_summation_step(square, 4);": _WIDER,
    "kernels/layers/gemm_vectors.h: if (GF_LANES > 2) gf_summation_step(square, 2);  ->  "
    "if (1) gf_summation_step(square, 2);": _WIDER,
    "kernels/layers/gemm_vectors.h: if (GF_LANES > 2) gf_summation_step(square, 2);  ->  "
    "if (GF_LANES >= 2) gf_summation_step(square, 2);": _WIDER,
    "kernels/layers/gemm_vectors.h: if (GF_LANES > 2) gf_summation_step(square, 2);  ->  "
    "if (GF_LANES > 3) gf_summation_step(square, 2);": _WIDER,
    "kernels/layers/gemm_tiles.h: gf_vector sum[2 * GF_TILE_ROWS][2];  ->  gf_vector sum[3 * GF_TILE_ROWS][2];": _ROOM,
    "kernels/layers/gemm_tiles.h: gf_vector sum[2 * GF_TILE_ROWS][2];  ->  gf_vector sum[2 * GF_TILE_ROWS][3];": _ROOM,
    "kernels/layers/gemm_tiles.h: if (columns == vectors * GF_LANES) {  ->  if (0) {": _SLOWER,
    "kernels/layers/gemm_tiles.h: if (columns == vectors * GF_LANES) {  ->  "
    "if (columns == vectors / GF_LANES) {": _SLOWER,
    "kernels/layers/gemm_tiles.h: if (columns == vectors * GF_LANES) {  ->  if (columns == GF_LANES) {": _SLOWER,
    "kernels/layers/gemm_tiles.h: gf_vector whole[2 * GF_TILE_ROWS][2];  ->  "
    "gf_vector whole[3 * GF_TILE_ROWS][2];": _ROOM,
    "kernels/layers/gemm_tiles.h: gf_vector whole[2 * GF_TILE_ROWS][2];  ->  "
    "gf_vector whole[2 * GF_TILE_ROWS][3];": _ROOM,
    "kernels/layers/gemm_tiles.h: for (; p < depth; p++)  ->  for (; p <= depth; p++)": _OUTSIDE,
    "kernels/layers/gemm_tiles.h: for (; p < depth; p++)  ->  for (; p > depth; p++)": _SLOWER,
    "kernels/layers/gemm_tiles.h: GF_UNROLL for (int v = 0; v < 2; v++)  ->  "
    "GF_UNROLL for (int v = 0; v <= 2; v++)": _OUTSIDE,
    "kernels/layers/gemm_tiles.h: GF_UNROLL for (int v = 0; v < 2; v++)  ->  "
    "GF_UNROLL for (int v = 0; v < 3; v++)": _OUTSIDE,
    "kernels/layers/gemm_tiles.h: (depth - 1 - p) * b.row_step + columns - v * GF_LANES);  ->  "
    "(depth + 1 - p) * b.row_step + columns - v * GF_LANES);": _LIMIT,
    "kernels/layers/gemm_tiles.h: (depth - 1 - p) * b.row_step + columns - v * GF_LANES);  ->  "
    "(depth - p) * b.row_step + columns - v * GF_LANES);": _LIMIT,
    "kernels/layers/gemm_tiles.h: (depth - 1 - p) * b.row_step + columns - v * GF_LANES);  ->  "
    "(depth - 0 - p) * b.row_step + columns - v * GF_LANES);": _LIMIT,
    "kernels/layers/gemm_tiles.h: (depth - 1 - p) * b.row_step + columns - v * GF_LANES);  ->  "
    "(depth - 1 + p) * b.row_step + columns - v * GF_LANES);": _LIMIT,
    "kernels/layers/gemm_tiles.h: (depth - 1 - p) * b.row_step + columns - v * GF_LANES);  ->  "
    "(depth - 1 ) * b.row_step + columns - v * GF_LANES);": _LIMIT,
    "kernels/layers/gemm_tiles.h: (depth - 1 - p) * b.row_step + columns - v * GF_LANES);  ->  "
    "(depth - - p) * b.row_step + columns - v * GF_LANES);": _LIMIT,
    "kernels/layers/gemm_tiles.h: (depth - 1 - p) * b.row_step + columns - v * GF_LANES);  ->  "
    "(depth - 1 - p) / b.row_step + columns - v * GF_LANES);": _LIMIT,
    "kernels/layers/gemm_tiles.h: (depth - 1 - p) * b.row_step + columns - v * GF_LANES);  ->  "
    "(depth - 1 - p) + columns - v * GF_LANES);": _LIMIT,
    "kernels/layers/gemm_tiles.h: (depth - 1 - p) * b.row_step + columns - v * GF_LANES);  ->  "
    "b.row_step + columns - v * GF_LANES);": _LIMIT,
    "kernels/layers/gemm_tiles.h: (depth - 1 - p) * b.row_step + columns - v * GF_LANES);  ->  "
    "columns - v * GF_LANES);": _LIMIT,
    "kernels/layers/gemm_tiles.h: (depth - 1 - p) * b.row_step + columns - v * GF_LANES);  ->  "
    "(depth - 1 - p) * b.row_step + columns + v * GF_LANES);": _LIMIT,
    "kernels/layers/gemm_tiles.h: (depth - 1 - p) * b.row_step + columns - v * GF_LANES);  ->  "
    "(depth - 1 - p) * b.row_step + columns );": _LIMIT,
    "kernels/layers/gemm_tiles.h: (depth - 1 - p) * b.row_step + columns - v * GF_LANES);  ->  "
    "(depth - 1 - p) * b.row_step + columns - v / GF_LANES);": _LIMIT,
    "kernels/layers/gemm_tiles.h: (depth - 1 - p) * b.row_step + columns - v * GF_LANES);  ->  "
    "(depth - 1 - p) * b.row_step + columns - v );": _LIMIT,
    "kernels/layers/gemm_tiles.h: } else if (columns == GF_PANEL_COLUMNS) {  ->  } else if (1) {": _OUTSIDE,
    "kernels/layers/gemm_tiles.h: } else if (columns == GF_PANEL_COLUMNS) {  ->  } else if (0) {": _SLOWER,
    "kernels/layers/gemm_tiles.h: } else if (columns == GF_PANEL_COLUMNS) {  ->  "
    "} else if (columns != GF_PANEL_COLUMNS) {": _OUTSIDE,
    "kernels/layers/gemm_tiles.h: for (; p + GF_LANES <= depth; p += GF_LANES)  ->  "
    "for (; p - GF_LANES <= depth; p += GF_LANES)": _OUTSIDE,
    "kernels/layers/gemm_tiles.h: for (; p + GF_LANES <= depth; p += GF_LANES)  ->  "
    "for (; p <= depth; p += GF_LANES)": _OUTSIDE,
    "kernels/layers/gemm_tiles.h: for (; p + GF_LANES <= depth; p += GF_LANES)  ->  "
    "for (; p + GF_LANES < depth; p += GF_LANES)": _SLOWER,
    "kernels/layers/gemm_tiles.h: for (gf_index j = 0; j < columns; j++)  ->  "
    "for (gf_index j = 0; j <= columns; j++)": _OUTSIDE,
    "kernels/layers/gemm_tiles.h: if (b.column_step != 1 || GF_COPIED_COLUMNS_PAY(rows, b.row_step)) {  ->  "
    "if (1) {": _SLOWER,
    "kernels/layers/gemm_tiles.h: if (b.column_step != 1 || GF_COPIED_COLUMNS_PAY(rows, b.row_step)) {  ->  "
    "if (b.column_step != 0 || GF_COPIED_COLUMNS_PAY(rows, b.row_step)) {": _SLOWER,
    "kernels/layers/gemm_tiles.h: for (; column < columns; column += GF_PANEL_COLUMNS, copies += "
    "GF_PANEL_COLUMNS * depth)  ->  "
    "for (; column <= columns; column += GF_PANEL_COLUMNS, copies += GF_PANEL_COLUMNS * depth)": _OUTSIDE,
    "kernels/layers/gemm_tiles.h: gf_pack_panel(gf_from(b, 0, column), depth, gf_least(columns - column, "
    "GF_PANEL_COLUMNS), copies);  ->  "
    "gf_pack_panel(gf_from(b, 0, column), depth, gf_least(columns + column, GF_PANEL_COLUMNS), copies);": _OUTSIDE,
    "kernels/layers/gemm_tiles.h: gf_pack_panel(gf_from(b, 0, column), depth, gf_least(columns - column, "
    "GF_PANEL_COLUMNS), copies);  ->  "
    "gf_pack_panel(gf_from(b, 0, column), depth, gf_least(columns , GF_PANEL_COLUMNS), copies);": _OUTSIDE,
    "kernels/layers/gemm_tiles.h: return left >= 2 * most ? most : left > most ? (left + 1) / 2 : left;  ->  "
    "return left > 2 * most ? most : left > most ? (left + 1) / 2 : left;": _SLOWER,
    "kernels/layers/gemm_tiles.h: return left >= 2 * most ? most : left > most ? (left + 1) / 2 : left;  ->  "
    "return left >= most ? most : left > most ? (left + 1) / 2 : left;": _SLOWER,
    "kernels/layers/gemm_tiles.h: return left >= 2 * most ? most : left > most ? (left + 1) / 2 : left;  ->  "
    "return left >= 2 * most ? most : left >= most ? (left + 1) / 2 : left;": _SLOWER,
    "kernels/layers/gemm_tiles.h: return left >= 2 * most ? most : left > most ? (left + 1) / 2 : left;  ->  "
    "return left >= 2 * most ? most : left > most ? (left - 1) / 2 : left;": _SLOWER,
    "kernels/layers/gemm_tiles.h: return left >= 2 * most ? most : left > most ? (left + 1) / 2 : left;  ->  "
    "return left >= 2 * most ? most : left > most ? (left ) / 2 : left;": _SLOWER,
    "kernels/layers/gemm_tiles.h: return left >= 2 * most ? most : left > most ? (left + 1) / 2 : left;  ->  "
    "return left >= 2 * most ? most : left > most ? (left + 2) / 2 : left;": _SLOWER,
    "kernels/layers/gemm_tiles.h: return left >= 2 * most ? most : left > most ? (left + 1) / 2 : left;  ->  "
    "return left >= 2 * most ? most : left > most ? (left + 0) / 2 : left;": _SLOWER,
    "kernels/layers/gemm_tiles.h: return left >= 2 * most ? most : left > most ? (left + 1) / 2 : left;  ->  "
    "return left >= 2 * most ? most : left > most ? (left + 1) / 3 : left;": _SLOWER,
    "kernels/layers/gemm_tiles.h: while (gf_next(rows - whole, GF_TILE_ROWS) == GF_TILE_ROWS) whole += "
    "GF_TILE_ROWS;  ->  "
    "while (gf_next(- whole, GF_TILE_ROWS) == GF_TILE_ROWS) whole += GF_TILE_ROWS;": _SLOWER,
    "kernels/layers/gemm_tiles.h: while (gf_next(rows - whole, GF_TILE_ROWS) == GF_TILE_ROWS) whole += "
    "GF_TILE_ROWS;  ->  "
    "while (gf_next(rows - whole, GF_TILE_ROWS) != GF_TILE_ROWS) whole += GF_TILE_ROWS;": _SLOWER,
    "kernels/layers/gemm_tiles.h: for (gf_index row = 0; row < whole; row += GF_TILE_ROWS) {  ->  "
    "for (gf_index row = 0; row <= whole; row += GF_TILE_ROWS) {": _OUTSIDE,
    "kernels/layers/gemm_tiles.h: for (gf_index r = 0; r < height; r += GF_LANES)  ->  "
    "for (gf_index r = 0; r <= height; r += GF_LANES)": _OUTSIDE,
    "kernels/layers/gemm_tiles.h: gf_load(a.first + p * a.column_step + row + r, (depth - 1 - p) * "
    "a.column_step + rows - row - r),  ->  "
    "gf_load(a.first + p * a.column_step + row + r, (depth + 1 - p) * a.column_step + rows - row - r),": _LIMIT,
    "kernels/layers/gemm_tiles.h: gf_load(a.first + p * a.column_step + row + r, (depth - 1 - p) * "
    "a.column_step + rows - row - r),  ->  "
    "gf_load(a.first + p * a.column_step + row + r, (depth - p) * a.column_step + rows - row - r),": _LIMIT,
    "kernels/layers/gemm_tiles.h: gf_load(a.first + p * a.column_step + row + r, (depth - 1 - p) * "
    "a.column_step + rows - row - r),  ->  "
    "gf_load(a.first + p * a.column_step + row + r, (depth - 0 - p) * a.column_step + rows - row - r),": _LIMIT,
    "kernels/layers/gemm_tiles.h: gf_load(a.first + p * a.column_step + row + r, (depth - 1 - p) * "
    "a.column_step + rows - row - r),  ->  "
    "gf_load(a.first + p * a.column_step + row + r, (depth - 1 + p) * a.column_step + rows - row - r),": _LIMIT,
    "kernels/layers/gemm_tiles.h: gf_load(a.first + p * a.column_step + row + r, (depth - 1 - p) * "
    "a.column_step + rows - row - r),  ->  "
    "gf_load(a.first + p * a.column_step + row + r, (depth - 1 ) * a.column_step + rows - row - r),": _LIMIT,
    "kernels/layers/gemm_tiles.h: gf_load(a.first + p * a.column_step + row + r, (depth - 1 - p) * "
    "a.column_step + rows - row - r),  ->  "
    "gf_load(a.first + p * a.column_step + row + r, (depth - - p) * a.column_step + rows - row - r),": _LIMIT,
    "kernels/layers/gemm_tiles.h: gf_load(a.first + p * a.column_step + row + r, (depth - 1 - p) * "
    "a.column_step + rows - row - r),  ->  "
    "gf_load(a.first + p * a.column_step + row + r, (depth - 1 - p) / a.column_step + rows - row - r),": _LIMIT,
    "kernels/layers/gemm_tiles.h: gf_load(a.first + p * a.column_step + row + r, (depth - 1 - p) * "
    "a.column_step + rows - row - r),  ->  "
    "gf_load(a.first + p * a.column_step + row + r, (depth - 1 - p) + rows - row - r),": _LIMIT,
    "kernels/layers/gemm_tiles.h: gf_load(a.first + p * a.column_step + row + r, (depth - 1 - p) * "
    "a.column_step + rows - row - r),  ->  "
    "gf_load(a.first + p * a.column_step + row + r, a.column_step + rows - row - r),": _LIMIT,
    "kernels/layers/gemm_tiles.h: gf_load(a.first + p * a.column_step + row + r, (depth - 1 - p) * "
    "a.column_step + rows - row - r),  ->  "
    "gf_load(a.first + p * a.column_step + row + r, rows - row - r),": _LIMIT,
    "kernels/layers/gemm_tiles.h: gf_load(a.first + p * a.column_step + row + r, (depth - 1 - p) * "
    "a.column_step + rows - row - r),  ->  "
    "gf_load(a.first + p * a.column_step + row + r, (depth - 1 - p) * a.column_step + rows + row - r),": _LIMIT,
    "kernels/layers/gemm_tiles.h: gf_load(a.first + p * a.column_step + row + r, (depth - 1 - p) * "
    "a.column_step + rows - row - r),  ->  "
    "gf_load(a.first + p * a.column_step + row + r, (depth - 1 - p) * a.column_step + rows - r),": _LIMIT,
    "kernels/layers/gemm_tiles.h: gf_load(a.first + p * a.column_step + row + r, (depth - 1 - p) * "
    "a.column_step + rows - row - r),  ->  "
    "gf_load(a.first + p * a.column_step + row + r, (depth - 1 - p) * a.column_step + rows - row ),": _LIMIT,
    "kernels/layers/gemm_tiles.h: gf_load(a.first + p * a.column_step + row + r, (depth - 1 - p) * "
    "a.column_step + rows - row - r),  ->  "
    "gf_load(a.first + p * a.column_step + row + r, (depth - 1 - p) * a.column_step + rows - row + r),": _LIMIT,
    "kernels/layers/gemm_tiles.h: gf_load(a.first + p * a.column_step + row + r, (depth - 1 - p) * "
    "a.column_step + rows - row - r),  ->  "
    "gf_load(a.first + p * a.column_step + row + r, (depth - 1 - p) * a.column_step + rows - - r),": _LIMIT,
    "kernels/layers/gemm_tiles.h: height - r);  ->  height + r);": _ROOM,
    "kernels/layers/gemm_tiles.h: height - r);  ->  height );": _ROOM,
    "kernels/layers/gemm_tiles.h: for (; b.columns > GF_LANES; b.columns -= GF_PANEL_COLUMNS, b.whole += "
    "b.panel_step, out += GF_PANEL_COLUMNS) {  ->  "
    "for (; b.columns >= GF_LANES; b.columns -= GF_PANEL_COLUMNS, b.whole += b.panel_step, out += "
    "GF_PANEL_COLUMNS) {": _SLOWER,
    "kernels/layers/gemm_tiles.h: if (b.columns > 0) gf_tile(rows, 1, adds, a, depth, b.last, "
    "GF_PANEL_COLUMNS, out, out_step, b.columns);  ->  "
    "if (b.columns >= 0) gf_tile(rows, 1, adds, a, depth, b.last, GF_PANEL_COLUMNS, out, out_step, b.columns);": _SLOWER,
    "kernels/layers/gemm_tiles.h: for (; b.columns <= GF_LANES && rows >= 2 * GF_TILE_ROWS; rows -= 2 * "
    "GF_TILE_ROWS) {  ->  "
    "for (; b.columns < GF_LANES && rows >= 2 * GF_TILE_ROWS; rows -= 2 * GF_TILE_ROWS) {": _SLOWER,
    "kernels/layers/gemm_tiles.h: for (; b.columns <= GF_LANES && rows >= 2 * GF_TILE_ROWS; rows -= 2 * "
    "GF_TILE_ROWS) {  ->  "
    "for (; b.columns <= GF_LANES && rows > 2 * GF_TILE_ROWS; rows -= 2 * GF_TILE_ROWS) {": _SLOWER,
    "kernels/layers/gemm_tiles.h: for (; b.columns <= GF_LANES && rows >= 2 * GF_TILE_ROWS; rows -= 2 * "
    "GF_TILE_ROWS) {  ->  "
    "for (; b.columns <= GF_LANES && rows >= 3 * GF_TILE_ROWS; rows -= 2 * GF_TILE_ROWS) {": _SLOWER,
    "kernels/layers/gemm_vectors.h: GF_INLINE gf_index gf_padded(gf_index count) { return (count + GF_LANES - "
    "1) / GF_LANES * GF_LANES; }  ->  "
    "GF_INLINE gf_index gf_padded(gf_index count) { return (count - GF_LANES - 1) / GF_LANES * GF_LANES; }": _SLOWER,
    "kernels/layers/gemm_vectors.h: GF_INLINE gf_index gf_padded(gf_index count) { return (count + GF_LANES - "
    "1) / GF_LANES * GF_LANES; }  ->  "
    "GF_INLINE gf_index gf_padded(gf_index count) { return (count - 1) / GF_LANES * GF_LANES; }": _SLOWER,
    "kernels/layers/gemm_vectors.h: GF_INLINE gf_index gf_padded(gf_index count) { return (count + GF_LANES - "
    "1) / GF_LANES * GF_LANES; }  ->  "
    "GF_INLINE gf_index gf_padded(gf_index count) { return ( GF_LANES - 1) / GF_LANES * GF_LANES; }": _SLOWER,
    "kernels/layers/gemm_vectors.h: GF_INLINE gf_index gf_padded(gf_index count) { return (count + GF_LANES - "
    "1) / GF_LANES * GF_LANES; }  ->  "
    "GF_INLINE gf_index gf_padded(gf_index count) { return (count + - 1) / GF_LANES * GF_LANES; }": _SLOWER,
    "kernels/layers/gemm_vectors.h: GF_INLINE gf_index gf_padded(gf_index count) { return (count + GF_LANES - "
    "1) / GF_LANES * GF_LANES; }  ->  "
    "GF_INLINE gf_index gf_padded(gf_index count) { return 1 / GF_LANES * GF_LANES; }": _SLOWER,
    "kernels/layers/gemm_vectors.h: GF_INLINE gf_index gf_padded(gf_index count) { return (count + GF_LANES - "
    "1) / GF_LANES * GF_LANES; }  ->  "
    "GF_INLINE gf_index gf_padded(gf_index count) { return (count + GF_LANES - 1) / GF_LANES / GF_LANES; }": _SLOWER,
    "kernels/layers/gemm_vectors.h: GF_INLINE gf_index gf_padded(gf_index count) { return (count + GF_LANES - "
    "1) / GF_LANES * GF_LANES; }  ->  "
    "GF_INLINE gf_index gf_padded(gf_index count) { return (count + GF_LANES - 1) / GF_LANES ; }": _SLOWER,
    "kernels/layers/gemm_vectors.h: GF_INLINE gf_index gf_padded(gf_index count) { return (count + GF_LANES - "
    "1) / GF_LANES * GF_LANES; }  ->  "
    "GF_INLINE gf_index gf_padded(gf_index count) { return (count + GF_LANES - 1) / GF_LANES; }": _SLOWER,
    "kernels/layers/gemm_vectors.h: GF_UNROLL for (int lane = 0; lane < GF_LANES; lane++) lanes[lane] = lane;"
    "  ->  "
    "GF_UNROLL for (int lane = 1; lane < GF_LANES; lane++) lanes[lane] = lane;": _UNSET,
    "kernels/layers/gemm_tiles.h: const int is_packed = a.row_step == 1 && GF_COPIED_ROWS_PAY(b.columns, "
    "a.column_step);  ->  "
    "const int is_packed = a.row_step != 1 && GF_COPIED_ROWS_PAY(b.columns, a.column_step);": _SLOWER,
    "kernels/layers/gemm_tiles.h: const int is_packed = a.row_step == 1 && GF_COPIED_ROWS_PAY(b.columns, "
    "a.column_step);  ->  "
    "const int is_packed = a.row_step == 2 && GF_COPIED_ROWS_PAY(b.columns, a.column_step);": _SLOWER,
    "kernels/layers/gemm_tiles.h: const int is_packed = a.row_step == 1 && GF_COPIED_ROWS_PAY(b.columns, "
    "a.column_step);  ->  "
    "const int is_packed = a.row_step == 0 && GF_COPIED_ROWS_PAY(b.columns, a.column_step);": _SLOWER,
    "kernels/layers/gemm_tiles.h: const int is_packed = a.row_step == 1 && GF_COPIED_ROWS_PAY(b.columns, "
    "a.column_step);  ->  "
    "const int is_packed = a.row_step == 1 || GF_COPIED_ROWS_PAY(b.columns, a.column_step);": _SLOWER,
    "kernels/layers/gemm_narrow.h: if (left < gf_padded(left) || depth < padded) {  ->  "
    "if (left > gf_padded(left) || depth < padded) {": _OUTSIDE,
    "kernels/layers/gemm_narrow.h: if (left < gf_padded(left) || depth < padded) {  ->  "
    "if (left < (left) || depth < padded) {": _OUTSIDE,
    "kernels/layers/gemm_narrow.h: for (gf_index p = 0; p < depth; p += GF_LANES)  ->  "
    "for (gf_index p = 0; p <= depth; p += GF_LANES)": _OUTSIDE,
    "kernels/layers/gemm_tiles.h: if (is_packed) gf_pack_rows(a, depth, rows, packed);  ->  "
    "if (1) gf_pack_rows(a, depth, rows, packed);": _SLOWER,
    "kernels/layers/gemm_tiles.h: const gf_part tile = is_packed ? (gf_part){packed + row * depth, 1, height} "
    ": gf_from(a, row, 0);  ->  "
    "const gf_part tile = 0 ? (gf_part){packed + row * depth, 1, height} : gf_from(a, row, 0);": _SLOWER,
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
    "kernels/training/gather.cu: if (row_weight) GF_PREFETCH_ROW(row_weight + source[i], 1);  ->  "
    "if (1) GF_PREFETCH_ROW(row_weight + source[i], 1);": _PREFETCH,
    "kernels/training/gather.cu: if (row_weight) GF_PREFETCH_ROW(row_weight + source[i], 1);  ->  "
    "if (0) GF_PREFETCH_ROW(row_weight + source[i], 1);": _PREFETCH,
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
