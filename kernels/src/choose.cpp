/* Which kernels this CPU runs. */
#include <cpuid.h>

#include <cstdlib>
#include <cstring>

#include "kernels.h"

extern const Kernels kAvx512, kAvxVnni, kAvx2;

void release(Packed &packed) {
  std::free(packed.data), std::free(packed.sums);
  packed = Packed{};
}

/* Leaf 7.1, EAX bit 4; the compiler's own test is younger than the instructions. */
static bool has_avx_vnni() {
  unsigned a, b, c, d;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 16);
}

const Kernels *kernels_for_this_cpu() {
  const char *asked = std::getenv("VIT_EDGE_KERNELS");
  const auto wanted = [asked](const Kernels &kernels) { return !asked || !*asked || !std::strcmp(asked, kernels.name); };
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (wanted(kAvx512) && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw")) return &kAvx512;
  if (wanted(kAvxVnni) && avx2 && has_avx_vnni()) return &kAvxVnni;
  if (wanted(kAvx2) && avx2) return &kAvx2;
  return nullptr;
}
