/* Code shared by all optimizers. `hyper` is the vector of hyper-parameters on the device; its first entries are the
   same for every optimizer, an optimizer's own begin at GF_OWN. The first n_decayed parameters are the weights:
   penalties and decay apply to them, and not to biases. */

#define GF_LEARNING_RATE 0
#define GF_L2 1
#define GF_L1 2
#define GF_CLIP_VALUE 3 /* infinity if gradients are not clipped by value */
#define GF_OWN 4

typedef struct {
  real rate, l2, l1, clip_value, scale;
  int is_regularized, is_clipped; /* most networks have neither: each loop is also compiled without them */
} gf_update;

/* In C, all parameters of a range are weights or none is: its caller sees to that (gradflow.h). So the loop need not
   compare i: gf_any_weights says it for all of them, and gf_is_weight(i) is used only where that is true. */
#ifdef __CUDACC__
#define gf_any_weights 1
#define gf_is_weight(i) ((i) < n_decayed)
#else
#define gf_any_weights (begin < n_decayed)
#define gf_is_weight(i) 1
#endif

GF_FUNCTION gf_update gf_make_update(const double *hyper, real scale, int any_weights) {
  gf_update update;
  update.rate = (real)hyper[GF_LEARNING_RATE];
  update.l2 = (real)hyper[GF_L2];
  update.l1 = (real)hyper[GF_L1];
  update.clip_value = (real)hyper[GF_CLIP_VALUE];
  update.scale = scale;
  update.is_regularized = any_weights & ((update.l2 != 0) | (update.l1 != 0));
  update.is_clipped = update.clip_value - update.clip_value == 0;
  return update;
}

GF_FUNCTION real gf_sign(real x) { return x > 0 ? 1 : x < 0 ? -1 : x; }

/* d/dw (L + l2/2 w^2 + l1 |w|) = dL/dw + l2 w + l1 sign(w) */
GF_FUNCTION real gf_regularized(gf_update update, real gradient, real parameter, int is_weight) {
  if (!update.is_regularized) return gradient;
  const real penalty = update.l2 * parameter + update.l1 * gf_sign(parameter);
  return is_weight ? gradient + penalty : gradient;
}

/* The gradient that the update rule uses: regularized, then scaled (clip.cu), then clipped to +-clip_value. */
GF_FUNCTION real gf_gradient(gf_update update, real gradient, real parameter, int is_weight) {
  const real scaled = update.scale * gf_regularized(update, gradient, parameter, is_weight);
  return update.is_clipped ? gf_clamp(scaled, update.clip_value) : scaled;
}
