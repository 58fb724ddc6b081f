/* A vector of float or int32 lanes and what the kernels do with it, for the instruction set of the compilation. */
#pragma once
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#if defined(__AVX512VNNI__)
#define LANES 16
#define ROWS 6
#define VECTORS 4
using F = __m512;
using I = __m512i;
static inline F load(const float *p) { return _mm512_loadu_ps(p); }
static inline void store(float *p, F x) { _mm512_storeu_ps(p, x); }
static inline I load(const int32_t *p) { return _mm512_loadu_si512(p); }
static inline void store(int32_t *p, I x) { _mm512_storeu_si512(p, x); }
static inline F all(float x) { return _mm512_set1_ps(x); }
static inline I all(int32_t x) { return _mm512_set1_epi32(x); }
static inline F add(F a, F b) { return _mm512_add_ps(a, b); }
static inline F sub(F a, F b) { return _mm512_sub_ps(a, b); }
static inline F mul(F a, F b) { return _mm512_mul_ps(a, b); }
static inline F divide(F a, F b) { return _mm512_div_ps(a, b); }
static inline F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
static inline F fnma(F a, F b, F c) { return _mm512_fnmadd_ps(a, b, c); }
static inline F largest(F a, F b) { return _mm512_max_ps(a, b); }
static inline F smallest(F a, F b) { return _mm512_min_ps(a, b); }
static inline F magnitude(F a) { return _mm512_abs_ps(a); }
static inline F sign_of(F size, F sign) {
  const I top = _mm512_set1_epi32(INT32_MIN);
  return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(top, _mm512_castps_si512(sign), _mm512_castps_si512(size), 0xEA));
}
static inline F rounded(F a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline F power_of_two(F x, F n) { return _mm512_scalef_ps(x, n); }
static inline F real(I a) { return _mm512_cvtepi32_ps(a); }
static inline I whole(F a) { return _mm512_cvtps_epi32(a); }
static inline I cut(F a) { return _mm512_cvttps_epi32(a); }
static inline I add(I a, I b) { return _mm512_add_epi32(a, b); }
static inline I times(I a, int32_t b) { return _mm512_mullo_epi32(a, _mm512_set1_epi32(b)); }
static inline float sum(F a) { return _mm512_reduce_add_ps(a); }
static inline float most(F a) { return _mm512_reduce_max_ps(a); }
static inline I largest(I a, I b) { return _mm512_max_epi32(a, b); }
static inline int32_t most(I a) { return _mm512_reduce_max_epi32(a); }
static inline I either(I mask, I a, I b) { return _mm512_ternarylogic_epi32(mask, a, b, 0xCA); } /* a where mask is -1 */
static inline void store_u8(uint8_t *p, I a) {
  _mm_storeu_si128(reinterpret_cast<__m128i *>(p), _mm512_cvtusepi32_epi8(_mm512_max_epi32(a, _mm512_setzero_si512())));
}
/* Four unsigned bytes times four signed ones, summed into each lane. */
static inline I dot(I sum, I u, I s) { /* not the intrinsic: gcc 12 copies every sum in every round of a loop */
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(u), "v"(s));
  return sum;
}
static inline I dot_exact(I sum, I u, I s) { return dot(sum, u, s); }
#define TABLE 32 /* entries that one look-up chooses from */
struct Table { F low, high; };
static inline Table table(const float *p) { return {_mm512_load_ps(p), _mm512_load_ps(p + 16)}; }
static inline F looked_up(const Table &t, I index) { return _mm512_permutex2var_ps(t.low, index, t.high); }
static inline I bytes(const void *p) { return _mm512_loadu_si512(p); }
static inline I four(const uint8_t *p) { int32_t x; __builtin_memcpy(&x, p, 4); return _mm512_set1_epi32(x); }
#elif defined(__AVX2__)
#define LANES 8
#if defined(__AVXVNNI__)
#define ROWS 6 /* twelve sums hide the four cycles of a product; without it, its helpers need the registers */
#else
#define ROWS 4
#endif
#define VECTORS 2
using F = __m256;
using I = __m256i;
static inline F load(const float *p) { return _mm256_loadu_ps(p); }
static inline void store(float *p, F x) { _mm256_storeu_ps(p, x); }
static inline I load(const int32_t *p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i *>(p)); }
static inline void store(int32_t *p, I x) { _mm256_storeu_si256(reinterpret_cast<__m256i *>(p), x); }
static inline F all(float x) { return _mm256_set1_ps(x); }
static inline I all(int32_t x) { return _mm256_set1_epi32(x); }
static inline F add(F a, F b) { return _mm256_add_ps(a, b); }
static inline F sub(F a, F b) { return _mm256_sub_ps(a, b); }
static inline F mul(F a, F b) { return _mm256_mul_ps(a, b); }
static inline F divide(F a, F b) { return _mm256_div_ps(a, b); }
static inline F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
static inline F fnma(F a, F b, F c) { return _mm256_fnmadd_ps(a, b, c); }
static inline F largest(F a, F b) { return _mm256_max_ps(a, b); }
static inline F smallest(F a, F b) { return _mm256_min_ps(a, b); }
static inline F magnitude(F a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
static inline F sign_of(F size, F sign) { return _mm256_or_ps(size, _mm256_and_ps(_mm256_set1_ps(-0.0f), sign)); }
static inline F rounded(F a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline F power_of_two(F x, F n) { /* n from -126 to 127 */
  const I bits = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  return _mm256_mul_ps(x, _mm256_castsi256_ps(bits));
}
static inline F real(I a) { return _mm256_cvtepi32_ps(a); }
static inline I whole(F a) { return _mm256_cvtps_epi32(a); }
static inline I add(I a, I b) { return _mm256_add_epi32(a, b); }
static inline I times(I a, int32_t b) { return _mm256_mullo_epi32(a, _mm256_set1_epi32(b)); }
static inline float sum(F a) {
  __m128 x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  x = _mm_add_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}
static inline float most(F a) {
  __m128 x = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  x = _mm_max_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}
static inline I largest(I a, I b) { return _mm256_max_epi32(a, b); }
static inline int32_t most(I a) {
  __m128i x = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  x = _mm_max_epi32(x, _mm_shuffle_epi32(x, 0x4E));
  return _mm_cvtsi128_si32(_mm_max_epi32(x, _mm_shuffle_epi32(x, 0xB1)));
}
static inline I either(I mask, I a, I b) { return _mm256_blendv_epi8(b, a, mask); } /* a where mask is -1 */
static inline void store_u8(uint8_t *p, I a) {
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i *>(p), _mm_packus_epi16(words, words));
}
#if defined(__AVXVNNI__)
static inline I dot(I sum, I u, I s) {
  asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(u), "x"(s));
  return sum;
}
static inline I dot_exact(I sum, I u, I s) { return dot(sum, u, s); }
#else
/* Sums of neighbouring products saturate at 16 bits: for weights that were rounded so that none can. */
static inline I dot(I sum, I u, I s) {
  return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(u, s), _mm256_set1_epi16(1)));
}
/* Without saturation, whatever the bytes are: even and odd bytes apart, as 16-bit numbers. */
static inline I dot_exact(I sum, I u, I s) {
  const I even = _mm256_madd_epi16(_mm256_and_si256(u, _mm256_set1_epi16(255)), _mm256_srai_epi16(_mm256_slli_epi16(s, 8), 8));
  const I odd = _mm256_madd_epi16(_mm256_srli_epi16(u, 8), _mm256_srai_epi16(s, 8));
  return _mm256_add_epi32(sum, _mm256_add_epi32(even, odd));
}
#endif
static inline I bytes(const void *p) { return _mm256_loadu_si256(static_cast<const __m256i *>(p)); }
static inline I four(const uint8_t *p) { int32_t x; __builtin_memcpy(&x, p, 4); return _mm256_set1_epi32(x); }
#endif
#define WIDTH (LANES * VECTORS)
static inline void soon(const int8_t *p) { _mm_prefetch(reinterpret_cast<const char *>(p), _MM_HINT_T1); }
