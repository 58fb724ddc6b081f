/* For CPUs with AVX2 and FMA. */
#include "kernels.inc"
extern const Kernels kAvx2;
const Kernels kAvx2 = {"avx2", WIDTH, pack, linear, attention, norm, code_rows};
