/* For CPUs with AVX-VNNI, which have no AVX512. */
#include "kernels.inc"
extern const Kernels kAvxVnni;
const Kernels kAvxVnni = {"avx-vnni", WIDTH, pack, linear, attention, norm, code_rows};
