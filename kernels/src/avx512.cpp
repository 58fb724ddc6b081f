/* For CPUs with AVX512-VNNI. */
#include "kernels.inc"
extern const Kernels kAvx512;
const Kernels kAvx512 = {"avx512-vnni", WIDTH, pack, linear, attention, norm, code_rows};
