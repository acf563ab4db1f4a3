/* What the kernels of waves share (periodic.cu): the turns of a number in wave u of all columns, and dL/dturns. */

#define GF_TURNS(number, u) (frequencies[u] * (number) + (phases ? turns_per_phase * phases[u] : (real)0))

GF_FUNCTION real gf_wave_slope(real turns, real d_cosine, real d_sine) {
  return GF_TURN * (gf_cos_turns(turns) * d_sine - gf_sin_turns(turns) * d_cosine);
}
