/* The logistic function, 1 / (1 + exp(-x)). exp(-x) overflows to infinity for very negative x, where the
   quotient is 0: the true value is below the smallest normal number there. */
GF_FUNCTION real gf_sigmoid(real x) { return 1 / (1 + gf_exp(-x)); }

/* sigmoid(x) and 1 - sigmoid(x), each with all its digits, from one exponential. */
typedef struct {
  real value, rest;
} gf_logistic;

GF_FUNCTION gf_logistic gf_make_logistic(real x) {
  const real small = gf_exp(-gf_fabs(x)), sum = 1 + small;
  gf_logistic logistic;
  logistic.value = (x < 0 ? small : 1) / sum;
  logistic.rest = (x < 0 ? 1 : small) / sum;
  return logistic;
}
