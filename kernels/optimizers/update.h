/* Code shared by all optimizers. `hyper` is the vector of hyper-parameters on the device; its first entries are the
   same for every optimizer, an optimizer's own begin at GF_OWN. The first n_decayed parameters are the weights:
   penalties and decay apply to them, and not to biases. */

#define GF_LEARNING_RATE 0
#define GF_WEIGHT_DECAY 1
#define GF_L2 2
#define GF_L1 3
#define GF_CLIP_VALUE 4 /* infinity if gradients are not clipped by value */
#define GF_FACTORS 5    /* where the table of factors begins, if there is one; otherwise 0 */
#define GF_OWN 6

/* Learning rate and weight decay of a parameter; `kept` is what one step of decay leaves of it. */
typedef struct {
  real rate, decay, kept;
} gf_rates;

typedef struct {
  gf_rates rates; /* in C, those of the whole range */
  const double *hyper;
  real l2, l1, clip_value, scale;
  int is_regularized, is_clipped, has_factors; /* most networks have none: each loop is also compiled without them */
} gf_update;

/* The table of factors: the number of segments, then three numbers for each: its end, and the factors of learning rate
   and weight decay. */
GF_FUNCTION const double *gf_segment(const double *hyper, gf_index i) {
  const double *table = hyper + (gf_index)hyper[GF_FACTORS];
  gf_index first = 0, last = (gf_index)table[0] - 1;
  while (first < last) {
    const gf_index middle = (first + last) / 2;
    if (i < table[1 + 3 * middle]) last = middle;
    else first = middle + 1;
  }
  return table + 1 + 3 * first;
}

GF_FUNCTION gf_rates gf_rates_at(const double *hyper, gf_index i) {
  double rate = hyper[GF_LEARNING_RATE], decay = hyper[GF_WEIGHT_DECAY];
  if (hyper[GF_FACTORS] != 0) {
    const double *segment = gf_segment(hyper, i);
    rate *= segment[1];
    decay *= segment[2];
  }
  gf_rates rates;
  rates.rate = (real)rate;
  rates.decay = (real)decay;
  rates.kept = (real)(1 - rate * decay);
  return rates;
}

/* In C, all parameters of a range are weights or none is, and all have the same factors: its caller sees to that
   (gradflow.h). So the loop need not compare i: gf_any_weights says it for all of them, gf_is_weight(i) is used only
   where that is true, and gf_rates_of(update, i) is the same for each. */
#ifdef __CUDACC__
#define gf_any_weights 1
#define gf_is_weight(i) ((i) < n_decayed)
#define gf_range_begin 0
GF_FUNCTION gf_rates gf_rates_of(gf_update update, gf_index i) {
  return update.has_factors ? gf_rates_at(update.hyper, i) : update.rates;
}
#else
#define gf_any_weights (begin < n_decayed)
#define gf_is_weight(i) 1
#define gf_range_begin begin
#define gf_rates_of(update, i) ((void)(i), (update).rates)
/* The end of the range from `begin` whose parameters are all weights or all not, and have the same factors. */
GF_FUNCTION gf_index gf_range_end(const double *hyper, gf_index n_decayed, gf_index begin, gf_index end) {
  if (begin < n_decayed && n_decayed < end) end = n_decayed;
  if (hyper[GF_FACTORS] != 0) {
    const double segment_end = gf_segment(hyper, begin)[0];
    if (begin < segment_end && segment_end < end) end = (gf_index)segment_end;
  }
  return end;
}
#endif

GF_FUNCTION gf_update gf_make_update(const double *hyper, real scale, int any_weights, gf_index begin) {
  gf_update update;
  update.rates = gf_rates_at(hyper, begin);
  update.hyper = hyper;
  update.l2 = (real)hyper[GF_L2];
  update.l1 = (real)hyper[GF_L1];
  update.clip_value = (real)hyper[GF_CLIP_VALUE];
  update.scale = scale;
  update.is_regularized = any_weights & ((update.l2 != 0) | (update.l1 != 0));
  update.is_clipped = update.clip_value - update.clip_value == 0;
  update.has_factors = hyper[GF_FACTORS] != 0;
  return update;
}

#define GF_UPDATE gf_make_update(hyper, gradient_scale[0], gf_any_weights, gf_range_begin)

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
