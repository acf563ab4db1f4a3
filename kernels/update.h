/* What all optimizers share. `hyper` is the device-resident vector of hyper-parameters; its first two
   entries are the same for every optimizer. The first n_decayed parameters are the weights: penalties
   and decay reach these and leave biases alone. */

#define GF_LEARNING_RATE 0
#define GF_L2 1

/* d/dw (L + l2/2 w^2) = dL/dw + l2 w */
GF_FUNCTION real gf_penalised(real gradient, real parameter, real l2, gf_index i, gf_index n_decayed) {
  return i < n_decayed ? gradient + l2 * parameter : gradient;
}
