/* exp, expm1, log1p, tanh, cos(2 pi t) and sin(2 pi t) in float32 for the C compiler: straight-line code, which it can
   vectorize, unlike calls of the library. CUDA has its own.

   The polynomials are minimax fits, each with a relative error below 0.08 of half an ulp; with the rounding of
   each step, the results are within 2 ulp for exp and log1p, 3 ulp for expm1 and tanh, 3.1 ulp for cos and sin, whose
   largest error, 3.09, is without fused multiply-adds (tests/kernels/test_vector_math.py tries all floats).
   NaN stays NaN, overflow gives infinity, underflow goes through the denormals to 0. */

typedef union {
  float number;
  int bits;
} gf_float_bits;

GF_FUNCTION float gf_power_of_two(int exponent) {
  const gf_float_bits power = {.bits = (int)((unsigned)(exponent + 127) << 23)}; /* for NaN, the exponent may not fit */
  return power.number;
}

/* exp(x) = 2^n exp(r) with n = round(x / log 2), |r| <= log(2) / 2, and exp(r) = 1 + r + r^2 Q(r). */
GF_FUNCTION float gf_exp_float(float x) {
  const float rounder = 12582912.0f; /* 1.5 * 2^23: adding it leaves the integer in the low bits */
  x = x < -104.0f ? -104.0f : x;
  const gf_float_bits shifted = {.number = x * 1.44269504f + rounder}, origin = {.number = rounder};
  const float n = shifted.number - rounder;
  const float r = (x - n * 0.693359375f) + n * 2.12194442e-4f; /* log 2 in two parts, the first exact in n */
  const float q = 0.499999940f + r * (0.166665196f + r * (0.0416683927f + r * (0.00836878084f + r * 0.00138144672f)));
  const int exponent = shifted.bits - origin.bits, half = exponent / 2;
  const float power = (1.0f + (r + r * r * q)) * gf_power_of_two(half) * gf_power_of_two(exponent - half);
  /* Explicit, since the last multiplication might not overflow if fused with a following addition. */
  return x > 88.7228317f ? 1.0f / 0.0f : power;
}

/* Near 0 a polynomial x + x^2 Q(x); elsewhere exp(x) - 1 loses at most two bits. */
GF_FUNCTION float gf_expm1_float(float x) {
  const float q = 0.500000060f + x * (0.166666642f + x * (0.0416653603f + x * (0.00833357871f +
                  x * (0.00139961764f + x * 0.000198498106f))));
  const float near_zero = x + x * x * q, elsewhere = gf_exp_float(x) - 1.0f;
  return fabsf(x) < 0.5f ? near_zero : elsewhere;
}

/* Near 0 an odd polynomial; elsewhere 1 - 2 / (exp(2 |x|) + 1), with the sign of x. */
GF_FUNCTION float gf_tanh_float(float x) {
  const float size = fabsf(x), u = x * x;
  const float p = -0.333332807f + u * (0.133314416f + u * (-0.0537397154f + u * (0.0206390861f - u * 0.00570498686f)));
  const float near_zero = x + x * u * p, elsewhere = 1.0f - 2.0f / (gf_exp_float(2.0f * size) + 1.0f);
  return size < 0.625f ? near_zero : x < 0.0f ? -elsewhere : elsewhere;
}

/* 1 + x = 2^n (1 + f) with f from sqrt(1/2) - 1 to sqrt(2) - 1, and log(1 + f) = f - f^2 / 2 + f^3 P(f). The
   rounding error of 1 + x is added at the end, divided by the sum. */
GF_FUNCTION float gf_log1p_float(float x) {
  const gf_float_bits sum = {.number = 1.0f + x};
  const float lost = x > 1.0f ? 1.0f - (sum.number - x) : x - (sum.number - 1.0f);
  const int exponent = (int)((unsigned)sum.bits - 0x3f3504f3u) >> 23; /* of sum / sqrt(1/2), rounded down */
  const gf_float_bits significand = {.bits = (int)((unsigned)sum.bits - ((unsigned)exponent << 23))};
  const float f = significand.number - 1.0f, n = (float)exponent;
  const float p = 0.333333311f + f * (-0.249999966f + f * (0.200007305f + f * (-0.16667851f + f * (0.142485513f +
                  f * (-0.124240377f + f * (0.116890711f + f * (-0.114945466f + f * 0.069807020f)))))));
  const float small = n * 2.12194442e-4f; /* log 2 in two parts, as in exp, with the second negative */
  const float of_sum = n * 0.693359375f + (f + (f * f * (f * p - 0.5f) + (lost / sum.number - small)));
  const float above = x <= 3.4028235e38f ? of_sum : x, elsewhere = x == -1.0f ? -1.0f / 0.0f : 0.0f / 0.0f;
  return x > -1.0f ? above : elsewhere;
}

/* t - round(t), without error, for the size of a number of turns; NaN for infinity. From 2^23 on, all floats are whole. */
GF_FUNCTION float gf_turn_rest_float(float size) {
  const float rounder = 8388608.0f; /* 2^23: adding it rounds to a whole number */
  return size - (size < rounder ? (size + rounder) - rounder : size);
}

/* sin(2 pi s) for |s| <= 1/4, an odd polynomial; 2 pi in two parts. */
GF_FUNCTION float gf_quarter_sine_float(float s) {
  const float u = s * s;
  const float p = -41.3417015f + u * (81.605125f + u * (-76.6993103f + u * (41.9143410f - u * 13.7652073f)));
  return s * 6.28318548f + s * (u * p - 1.74845553e-7f);
}

/* cos(2 pi t) = sin(2 pi (1/4 - r)) with r = |t - round(t)|: nothing is lost in r, nor in 1/4 - r where it is small. */
GF_FUNCTION float gf_cos_turns_float(float t) {
  return gf_quarter_sine_float(0.25f - fabsf(gf_turn_rest_float(fabsf(t))));
}

/* sin(2 pi t), folded into the quarter turns next to 0: sin(2 pi r) = sin(2 pi (1/2 - r)). */
GF_FUNCTION float gf_sin_turns_float(float t) {
  const float rest = gf_turn_rest_float(fabsf(t)), size = fabsf(rest);
  const float sine = gf_quarter_sine_float(size > 0.25f ? 0.5f - size : size);
  return (rest < 0.0f) != (t < 0.0f) ? -sine : sine;
}
