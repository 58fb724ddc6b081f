/* The products of a ViT's block by these kernels and by oneDNN, one thread, the fastest of many runs in turn.

   c++ -std=c++17 -O2 -I INCLUDE bench/onednn.cpp src/choose.cpp OBJECTS -L LIB -ldnnl, where INCLUDE and LIB come with the
   packages onednn-devel-cpu-gomp and onednn-cpu-gomp, and OBJECTS are avx512.o, avxvnni.o and avx2.o, compiled with the
   flags that setup.py names. Run with OMP_NUM_THREADS=1. Both pack the weights beforehand. */
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <unordered_map>
#include <vector>

#include <dnnl.hpp>

#include "../src/kernels.h"

using namespace dnnl;

static const Workers kOne{nullptr, [](const void *, void (*each)(void *, size_t), size_t count, void *state) {
                            for (size_t i = 0; i < count; ++i) each(state, i);
                          }};

struct Case {
  const char *name;
  size_t rows, depth, columns;
  bool gelu; /* and codes; else floats added to a residual */
};

/* A matmul of oneDNN: uint8 rows, int8 weight in its own layout, a scale per column. */
struct Theirs {
  engine cpu{engine::kind::cpu, 0};
  stream order{cpu};
  matmul run;
  std::unordered_map<int, memory> given;
  explicit Theirs(const Case &c) {
    const memory::dim m = static_cast<memory::dim>(c.rows), k = static_cast<memory::dim>(c.depth), n = static_cast<memory::dim>(c.columns);
    using tag = memory::format_tag;
    using type = memory::data_type;
    const memory::desc x({m, k}, type::u8, tag::ab), any({k, n}, type::s8, tag::any), y({m, n}, c.gelu ? type::u8 : type::f32, tag::ab);
    const memory::desc bias({1, n}, type::f32, tag::ab), scales({n}, type::f32, tag::a), one({1}, type::f32, tag::a);
    primitive_attr how;
    how.set_scales_mask(DNNL_ARG_WEIGHTS, 2), how.set_scales_mask(DNNL_ARG_SRC, 0);
    if (c.gelu) how.set_scales_mask(DNNL_ARG_DST, 0);
    post_ops after;
    if (c.gelu) after.append_eltwise(algorithm::eltwise_gelu_erf, 0, 0);
    else after.append_sum(1.0f);
    how.set_post_ops(after);
    const matmul::primitive_desc made(cpu, x, any, bias, y, how);
    run = matmul(made);
    memory weight(made.weights_desc(), cpu);
    std::fill_n(static_cast<int8_t *>(weight.get_data_handle()), made.weights_desc().get_size(), int8_t{1});
    given = {{DNNL_ARG_SRC, memory(x, cpu)}, {DNNL_ARG_WEIGHTS, weight}, {DNNL_ARG_BIAS, memory(bias, cpu)}, {DNNL_ARG_DST, memory(y, cpu)}};
    for (int place : {DNNL_ARG_WEIGHTS, DNNL_ARG_SRC, DNNL_ARG_DST}) {
      memory each(place == DNNL_ARG_WEIGHTS ? scales : one, cpu);
      std::fill_n(static_cast<float *>(each.get_data_handle()), place == DNNL_ARG_WEIGHTS ? c.columns : 1, 0.01f);
      if (place != DNNL_ARG_DST || c.gelu) given.emplace(DNNL_ARG_ATTR_SCALES | place, each);
    }
  }
  void operator()() {
    run.execute(order, given);
    order.wait();
  }
};

struct Ours {
  Packed packed;
  Linear linear;
  std::vector<uint8_t> x;
  std::vector<float> floats, residual, y;
  std::vector<int32_t> whole;
  size_t rows;
  const Kernels *kernels = kernels_for_this_cpu();
  explicit Ours(const Case &c)
      : x(c.rows * c.depth, 3), floats(c.columns + 64, 0.01f), residual(c.rows * c.columns), y(c.rows * c.columns), whole(c.columns + 64), rows(c.rows) {
    const std::vector<int8_t> weight(c.depth * c.columns, 1);
    packed = kernels->pack(weight.data(), c.depth, c.columns);
    linear.weight = &packed, linear.scale = floats.data(), linear.bias = floats.data(), linear.start = whole.data();
    linear.inverse = floats.data(), linear.zero_point = whole.data();
    if (c.gelu) linear.activation = Activation::kGelu, linear.output = Output::kCodes;
  }
  void operator()() {
    kernels->linear(linear, x.data(), nullptr, linear.output == Output::kFloat ? residual.data() : nullptr, y.data(), nullptr, rows, kOne);
  }
};

template <class Run> static double once(Run &run) {
  run(); /* its weights are in the caches then */
  const auto begin = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
}

int main() {
  const Case cases[] = {{"ViT-Tiny qkv", 197, 192, 576, false}, {"ViT-Tiny proj", 197, 192, 192, false},
                        {"ViT-Tiny fc1", 197, 192, 768, true},  {"ViT-Tiny fc2", 197, 768, 192, false},
                        {"ViT-Base qkv", 197, 768, 2304, false}, {"ViT-Base fc1", 197, 768, 3072, true},
                        {"ViT-Base fc2", 197, 3072, 768, false}};
  std::printf("%s\n", kernels_for_this_cpu()->name);
  for (const Case &c : cases) {
    Ours ours(c);
    Theirs theirs(c);
    double best[2] = {1e9, 1e9};
    for (int i = 0; i < 300; ++i) best[0] = std::min(best[0], once(ours)), best[1] = std::min(best[1], once(theirs));
    const double work = static_cast<double>(c.rows * c.depth * c.columns) / 1e6;
    std::printf("%-14s ours %.4f ms (%.0f GMAC/s), oneDNN %.4f ms (%.0f GMAC/s), ratio %.2f\n", c.name, best[0], work / best[0], best[1],
                work / best[1], best[0] / best[1]);
  }
}
