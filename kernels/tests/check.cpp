/* The kernels against plain loops, on drawn sizes, in buffers of exactly the size they need: for the sanitizers.

   Usage: check [ROUNDS]     exit status 0: all as expected, for every instruction set of this CPU */
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "../src/kernels.h"

extern const Kernels kAvx512, kAvxVnni, kAvx2;

static std::mt19937 engine(7);
static size_t drawn(size_t low, size_t high) { return low + engine() % (high - low + 1); }
static double unit() { return static_cast<double>(engine()) / 4294967296.0; }

template <class T> static std::unique_ptr<T[]> many(size_t count, double low, double high) {
  auto made = std::make_unique<T[]>(count);
  for (size_t i = 0; i < count; ++i) made[i] = static_cast<T>(low + (high - low) * unit());
  return made;
}

static const Workers kOne{nullptr, [](const void *, void (*each)(void *, size_t), size_t count, void *state) {
                            for (size_t i = 0; i < count; ++i) each(state, i);
                          }};

static int wrong = 0;

static void expect(bool holds, const char *what, const Kernels &kernels, size_t a, size_t b, size_t c) {
  if (holds) return;
  ++wrong;
  std::printf("%s: %s, sizes %zu %zu %zu\n", kernels.name, what, a, b, c);
}

static double activated(Activation kind, double x) {
  switch (kind) {
    case Activation::kGelu: return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case Activation::kGeluTanh: return 0.5 * x * (1 + std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
    case Activation::kSwish: return x / (1 + std::exp(-1.702 * x));
    case Activation::kRelu: return std::max(x, 0.0);
    default: return x;
  }
}

/* What begins at a multiple of the panel is padded by the callers of kernels. */
template <class T> static std::vector<T> padded(const T *from, size_t count, size_t panel) {
  std::vector<T> made((count + panel - 1) / panel * panel + 16, T{});
  std::copy(from, from + count, made.begin());
  return made;
}

static void check_linear(const Kernels &kernels) {
  const size_t rows = drawn(1, 30), depth = drawn(1, 90), columns = drawn(1, 140);
  auto x = many<uint8_t>(rows * depth, 0, 256);
  auto weight = many<int8_t>(depth * columns, -63, 63);
  auto scale = many<float>(columns, 1e-4, 2e-3), bias = many<float>(columns, -1, 1), residual = many<float>(rows * columns, -1, 1);
  auto row_scales = many<float>(rows, 0.1, 3);
  auto start = many<int32_t>(columns, -300, 300);
  Packed packed = kernels.pack(weight.get(), depth, columns);
  const auto scales = padded(scale.get(), columns, kernels.panel), biases = padded(bias.get(), columns, kernels.panel);
  const auto starts = padded(start.get(), columns, kernels.panel);
  Linear linear;
  linear.weight = &packed, linear.start = starts.data(), linear.scale = scales.data(), linear.bias = biases.data();
  linear.activation = static_cast<Activation>(drawn(0, 4)), linear.alpha = 1.702f;
  linear.output = static_cast<Output>(drawn(0, 2));
  const std::vector<float> inverses(scales.size(), 20.0f);
  const std::vector<int32_t> zeros(scales.size(), 100);
  linear.inverse = inverses.data(), linear.zero_point = zeros.data();
  linear.row_steps = {{127, 128}, 0.5f, drawn(0, 1) == 1};
  auto reals = std::make_unique<float[]>(linear.output == Output::kFloat ? rows * columns : 0);
  auto codes = std::make_unique<uint8_t[]>(linear.output == Output::kFloat ? 0 : rows * columns);
  auto divisors = std::make_unique<float[]>(rows);
  void *y = linear.output == Output::kFloat ? static_cast<void *>(reals.get()) : codes.get();
  kernels.linear(linear, x.get(), row_scales.get(), residual.get(), y, divisors.get(), rows, kOne);
  for (size_t r = 0; r < rows; ++r) {
    std::vector<double> values(columns);
    double reach = linear.row_steps.floor;
    for (size_t c = 0; c < columns; ++c) {
      double sum = start[c];
      for (size_t k = 0; k < depth; ++k) sum += x[r * depth + k] * weight[k * columns + c];
      values[c] = activated(linear.activation, sum * scale[c] * row_scales[r] + bias[c]) + residual[r * columns + c];
      reach = std::max(reach, linear.row_steps.one_sided ? values[c] : std::fabs(values[c]));
    }
    for (size_t c = 0; c < columns; ++c) {
      const size_t at = r * columns + c;
      if (linear.output == Output::kFloat) {
        expect(std::fabs(reals[at] - values[c]) < 2e-5 * (1 + std::fabs(values[c])), "linear", kernels, rows, depth, columns);
        continue;
      }
      const bool by_row = linear.output == Output::kRowCodes;
      const double steps = by_row ? values[c] / reach * 127 + 128 : values[c] * 20 + 100;
      expect(std::fabs(codes[at] - std::clamp(steps, 0.0, 255.0)) < 0.502, "codes of a linear", kernels, rows, depth, columns);
    }
  }
  release(packed);
}

static void check_attention(const Kernels &kernels) {
  Attention t{};
  t.heads = drawn(1, 3), t.width = drawn(1, 70), t.queries = drawn(1, 20), t.keys = drawn(1, 70);
  const size_t images = drawn(1, 2), columns = t.heads * t.width;
  t.query_zero_point = 120;
  t.score_scale = 1.0f / (40 * 50), t.probability_inverse = drawn(0, 1) ? 255.0f : 0.0f, t.mix_scale = 1.0f / (60 * 255);
  t.output = static_cast<Output>(drawn(0, 1)), t.steps = {50, 128};
  auto q = many<uint8_t>(images * t.queries * columns, 0, 256), k = many<uint8_t>(images * t.keys * columns, 0, 256);
  auto v = many<uint8_t>(images * t.keys * columns, 0, 256);
  auto reals = std::make_unique<float[]>(t.output == Output::kFloat ? images * t.queries * columns : 0);
  auto codes = std::make_unique<uint8_t[]>(t.output == Output::kFloat ? 0 : images * t.queries * columns);
  void *y = t.output == Output::kFloat ? static_cast<void *>(reals.get()) : codes.get();
  kernels.attention(t, {q.get(), columns}, {k.get(), columns}, {v.get(), columns}, y, images, kOne);
  for (size_t n = 0; n < images; ++n)
    for (size_t h = 0; h < t.heads; ++h)
      for (size_t r = 0; r < t.queries; ++r) {
        std::vector<double> scores(t.keys);
        double top = -1e30, total = 0;
        for (size_t m = 0; m < t.keys; ++m) {
          int sum = 0;
          for (size_t c = 0; c < t.width; ++c)
            sum += (q[(n * t.queries + r) * columns + h * t.width + c] - 120) * (k[(n * t.keys + m) * columns + h * t.width + c] - 128);
          scores[m] = sum * t.score_scale, top = std::max(top, scores[m]);
        }
        for (double &score : scores) score = std::exp(score - top), total += score;
        const bool by_row = t.probability_inverse == 0;
        for (size_t c = 0; c < t.width; ++c) {
          double mixed = 0, doubt = 0; /* of weights that lie in the middle of two steps */
          for (size_t m = 0; m < t.keys; ++m) {
            const double exact = scores[m] / (by_row ? 1 : total) * 255, steps = std::nearbyint(exact);
            const int value = v[(n * t.keys + m) * columns + h * t.width + c] - 128;
            mixed += steps * value;
            if (std::fabs(std::fabs(exact - std::floor(exact)) - 0.5) < 1e-3) doubt += std::abs(value);
          }
          const double divisor = by_row ? total : 1, expected = mixed * t.mix_scale / divisor;
          const double slack = 1e-4 + doubt * t.mix_scale / divisor;
          const size_t at = (n * t.queries + r) * columns + h * t.width + c;
          const double found = t.output == Output::kFloat ? reals[at] : (codes[at] - 128.0) / 50;
          const double step = t.output == Output::kFloat ? 0 : 0.0101;
          expect(std::fabs(found - std::clamp(expected, -2.56, 2.54)) < slack + step || t.output == Output::kFloat,
                 "codes of an attention", kernels, t.queries, t.keys, t.width);
          expect(t.output != Output::kFloat || std::fabs(found - expected) < slack, "attention", kernels, t.queries, t.keys, t.width);
        }
      }
}

static void check_norm(const Kernels &kernels) {
  const size_t rows = drawn(1, 20), columns = drawn(2, 130);
  auto x = many<float>(rows * columns, -3, 5), scale = many<float>(columns, -1, 1), bias = many<float>(columns, -1, 1);
  const auto scales = padded(scale.get(), columns, kernels.panel), biases = padded(bias.get(), columns, kernels.panel);
  const bool by_row = drawn(0, 1);
  const Norm norm{scales.data(), biases.data(), 1e-6f, by_row ? Output::kRowCodes : Output::kCodes, {40, 128}, {{127, 128}, 1e-6f, false}};
  auto codes = std::make_unique<uint8_t[]>(rows * columns);
  auto divisors = std::make_unique<float[]>(rows);
  kernels.norm(norm, x.get(), codes.get(), divisors.get(), rows, columns, kOne);
  for (size_t r = 0; r < rows; ++r) {
    double mean = 0, variance = 0, reach = 1e-6;
    for (size_t c = 0; c < columns; ++c) mean += x[r * columns + c] / static_cast<double>(columns);
    for (size_t c = 0; c < columns; ++c) variance += std::pow(x[r * columns + c] - mean, 2) / static_cast<double>(columns);
    const auto value = [&](size_t c) { return (x[r * columns + c] - mean) / std::sqrt(variance + 1e-6) * scale[c] + bias[c]; };
    for (size_t c = 0; c < columns; ++c) reach = std::max(reach, std::fabs(value(c)));
    for (size_t c = 0; c < columns; ++c) {
      const double steps = by_row ? value(c) / reach * 127 + 128 : value(c) * 40 + 128;
      expect(std::fabs(codes[r * columns + c] - std::clamp(steps, 0.0, 255.0)) < 0.502, "codes of a norm", kernels, rows, columns, 0);
    }
  }
}

int main(int count, char **words) {
  const int rounds = count > 1 ? std::atoi(words[1]) : 200;
  int sets = 0;
  for (const Kernels *kernels : {&kAvx512, &kAvxVnni, &kAvx2}) {
    setenv("VIT_EDGE_KERNELS", kernels->name, 1);
    if (kernels_for_this_cpu() != kernels) continue;
    ++sets;
    for (int i = 0; i < rounds; ++i) check_linear(*kernels), check_attention(*kernels), check_norm(*kernels);
    std::printf("%s: %d rounds\n", kernels->name, rounds);
  }
  return wrong || !sets;
}
