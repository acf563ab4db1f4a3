/* The normal distribution: its cumulative distribution function P(x), accurate in both tails, and its density.

   For a >= 0: P(-a) = exp(-a^2 / 2) Q(t) / (a + c) with t = (a - c) / (a + c), a map of [0, infinity) onto
   [-1, 1), after Shepherd & Laframboise (1981). Q is a polynomial that interpolates at Chebyshev points: relative
   error below 2e-9 in float32 (c = 3) and 4e-17 in float64 (c = 5), until exp(-a^2 / 2) is zero. P(a) is
   1 - P(-a). */

typedef struct {
  real probability, density;
} gf_normal;

GF_FUNCTION float gf_normal_tail_float(float a) {
  const float inverse = 1 / (a + 3), t = (a - 3) * inverse;
  const float q =
      0.729083691f + t * (-0.50933199f + t * (0.230017678f + t * (-0.0472627453f + t * (-0.0104622938f +
      t * (0.00696981313f + t * (0.00102413571f + t * (-0.00103422206f + t * (-0.000244582666f + t *
      (0.000133125909f + t * 5.53559663e-5f)))))))));
  return q * inverse;
}

GF_FUNCTION double gf_normal_tail_double(double a) {
  const double inverse = 1 / (a + 5), t = (a - 5) * inverse;
  const double q =
      0.76919304975006297 + t * (-0.66538250289005679 + t * (0.49530561596997414 + t *
      (-0.31353315667129711 + t * (0.16502036617050069 + t * (-0.069118638706479819 + t *
      (0.020795066797569856 + t * (-0.0029933767690944728 + t * (-0.00079786937489119333 + t *
      (0.00054489906269585206 + t * (-5.9375866167360709e-5 + t * (-4.9762853165030136e-5 + t *
      (1.6681703609772679e-5 + t * (3.9811827415325775e-6 + t * (-2.7703209441469523e-6 + t *
      (-3.3749652035246319e-7 + t * (4.3443907263764585e-7 + t * (4.3758415982855749e-8 + t *
      (-6.6675293392275716e-8 + t * (-1.0618274174239376e-8 + t * (7.6304104178731823e-9 + t *
      2.2249387677164433e-9))))))))))))))))))));
  return q * inverse;
}

GF_FUNCTION gf_normal gf_make_normal(real x) {
  const int is_float = sizeof(real) == sizeof(float);
  const real a = gf_fabs(gf_clamp(x, GF_SATURATED));
  /* a^2 = first^2 + rest, with first^2 exact, since the exponential magnifies a relative rounding error by a^2. */
  const real rounder = is_float ? (real)98304 : (real)6442450944; /* 1.5 * 2^16: multiples of 2^-7; and of 2^-20 */
  const real first = (a + rounder) - rounder, rest = (a - first) * (a + first);
  const real bell = gf_exp(first * first / -2) * gf_exp(rest / -2);
  const real tail = bell * (is_float ? (real)gf_normal_tail_float((float)a) : (real)gf_normal_tail_double(a));
  gf_normal normal;
  normal.probability = x < 0 ? tail : 1 - tail;
  normal.density = bell * (real)0.39894228040143267794;
  return normal;
}
