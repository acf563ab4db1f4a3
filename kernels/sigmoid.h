/* The logistic function, 1 / (1 + exp(-x)). exp(-x) overflows to infinity for very negative x, where the
   quotient is 0: the true value is below the smallest normal number there. */
GF_FUNCTION real gf_sigmoid(real x) { return 1 / (1 + gf_exp(-x)); }
