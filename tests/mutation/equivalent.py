"""The faults that change no result, each with the reason why."""

from __future__ import annotations

_ZERO = "the other branch gives 0 at 0 too"
_SAME = "both branches give the same where the two sides are equal"
_ORDER = "a row's columns are walked in order, so that a later one is never the first"
_ROOM = "an array has room to spare"
_SLOWER = "the other branch gives the same, more slowly"
_OUTSIDE = "what lies outside of an array is not used; AddressSanitizer, in make check-long, finds that it is touched"

EQUIVALENT: dict[str, str] = {
    "kernels/gemm.c: gf_vector sum[GF_TILE_ROWS][2];  ->  gf_vector sum[GF_TILE_ROWS][3];": _ROOM,
    "kernels/gemm.c: gf_vector whole[GF_TILE_ROWS][2];  ->  gf_vector whole[GF_TILE_ROWS][3];": _ROOM,
    "kernels/gemm.c: if (columns == vectors * GF_LANES) {  ->  if (0) {": _SLOWER,
    "kernels/gemm.c: if (columns == vectors * GF_LANES) {  ->  if (columns == vectors / GF_LANES) {": _SLOWER,
    "kernels/gemm.c: if (columns == vectors * GF_LANES) {  ->  if (columns == GF_LANES) {": _SLOWER,
    "kernels/vector_math.h: x = x < -104.0f ? -104.0f : x;  ->  x = x <= -104.0f ? -104.0f : x;": _SAME,
    "kernels/clip.cu: const gf_index first = row * chunk, length = n - first < chunk ? n - first : chunk;  ->  "
    "const gf_index first = row * chunk, length = n - first <= chunk ? n - first : chunk;": _SAME,
    "kernels/clip.cu: GF_ONCE_PER_ROW gradient_scale[row] = norm > clip_norm ? (real)(clip_norm / norm) : 1;  ->  "
    "GF_ONCE_PER_ROW gradient_scale[row] = norm >= clip_norm ? (real)(clip_norm / norm) : 1;": _SAME,
    "kernels/sum.cu: const gf_index first = row * chunk, length = n - first < chunk ? n - first : chunk;  ->  "
    "const gf_index first = row * chunk, length = n - first <= chunk ? n - first : chunk;": _SAME,
    "kernels/elu.cu: GF_FUNCTION real elu(real x, real alpha) { return x <= 0 ? alpha * gf_expm1(x) : x; }  ->  "
    "GF_FUNCTION real elu(real x, real alpha) { return x < 0 ? alpha * gf_expm1(x) : x; }": _ZERO,
    "kernels/leaky_relu.cu: GF_FUNCTION real leaky_relu(real x, real slope) { return x <= 0 ? slope * x : x; }  ->  "
    "GF_FUNCTION real leaky_relu(real x, real slope) { return x < 0 ? slope * x : x; }": _ZERO,
    "kernels/relu.cu: GF_FUNCTION real relu(real x) { return x <= 0 ? 0 : x; }  ->  "
    "GF_FUNCTION real relu(real x) { return x < 0 ? 0 : x; }": _ZERO,
    "kernels/softmax_cross_entropy.cu: if (z[j] == largest && j < first_largest) first_largest = j;  ->  "
    "if (z[j] == largest && j <= first_largest) first_largest = j;": _ORDER,
    "kernels/softmax_cross_entropy.cu: if (t[j] == largest_target && j < label) label = j;  ->  "
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
    "gradflow/layers/sigmoid.py: y[...] = np.where(x >= 0, 1, small) / (1 + small)  ->  "
    "y[...] = np.where(((x) > (0)), 1, small) / (1 + small)": _SAME,
    "gradflow/backends/numpy_forms/activations.py: if d_x is not d_y:  ->  if True:": "copies an array onto itself",
    "gradflow/backends/numpy_forms/activations.py: if y is not x:  ->  if True:": "copies an array onto itself",
    "gradflow/backends/numpy_forms/dropout.py: return words.reshape(-1)[:n]  ->  "
    "return words.reshape(-2)[:n]": "NumPy finds a length for any negative number",
}
