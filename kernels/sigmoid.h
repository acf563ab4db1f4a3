/* The logistic function, 1 / (1 + exp(-x)). exp(-x) overflows to infinity for very negative x, where the
   quotient is 0: the true value is below the smallest normal number there. */
GF_FUNCTION real gf_sigmoid(real x) { return 1 / (1 + gf_exp(-x)); }

/* sigmoid(x) and 1 - sigmoid(x), both fully accurate, from one exponential. */
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

/* log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)), and its second term. */
GF_FUNCTION real gf_softplus_rest(real x) { return gf_log1p(gf_exp(-gf_fabs(x))); }

GF_FUNCTION real gf_softplus(real x) { return gf_max(x, 0) + gf_softplus_rest(x); }
