/* The kernels: products of uint8 rows with int8 columns, attention, normalization. Rows are contiguous. */
#pragma once
#include <cstddef>
#include <cstdint>

/* Runs `each(state, 0..count-1)`, perhaps on several threads. */
struct Workers {
  const void *context;
  void (*run)(const void *context, void (*each)(void *, size_t), size_t count, void *state);
  template <class Each> void operator()(size_t count, Each each) const {
    run(context, [](void *state, size_t index) { (*static_cast<Each *>(state))(index); }, count, &each);
  }
};

/* A matrix of int8 in the order in which the kernels read it. */
struct Packed {
  size_t depth = 0, columns = 0; /* of the matrix */
  int8_t *data = nullptr;        /* panels of columns; in each, four rows of a column side by side */
  int32_t *sums = nullptr;       /* of each column, (columns, rounded up to a panel) */
};

enum class Activation { kNone, kGelu, kGeluTanh, kSwish, kRelu };
enum class Output { kFloat, kCodes, kRowCodes };

/* real = (code - zero_point) / inverse */
struct Steps {
  float inverse = 1;
  int32_t zero_point = 0;
};

/* How a row is coded by its own range: divided by max(floor, largest), then in steps. */
struct RowSteps {
  Steps unit;
  float floor = 0;
  bool one_sided = false;
};

struct Linear {
  const Packed *weight = nullptr;
  const int32_t *start = nullptr; /* what sums begin with, (columns rounded up to a panel) */
  const float *scale = nullptr;   /* of a sum, likewise */
  const float *bias = nullptr;    /* added behind both scales, likewise, or none */
  Activation activation = Activation::kNone;
  float alpha = 1; /* of kSwish */
  Output output = Output::kFloat;
  const float *inverse = nullptr;      /* of kCodes: 1 / scale of each column, likewise */
  const int32_t *zero_point = nullptr; /* and its zero point */
  RowSteps row_steps;
};

/* Queries are codes with a zero point; keys and values are signed codes stored 128 higher. */
struct Attention {
  size_t heads, width; /* columns of a head */
  size_t queries, keys; /* rows of an image */
  int32_t query_zero_point;
  float score_scale, mix_scale; /* of the two products' sums */
  float probability_inverse; /* of a static range, or 0: coded by row before the division by the sum */
  Output output;
  Steps steps;
};

/* A matrix of codes whose rows are `stride` apart. */
struct Rows {
  const uint8_t *data;
  size_t stride;
};

struct Norm {
  const float *scale, *bias;
  float epsilon;
  Output output;
  Steps steps;
  RowSteps row_steps;
};

struct Kernels {
  const char *name;
  size_t panel; /* columns */
  Packed (*pack)(const int8_t *matrix, size_t depth, size_t columns);
  void (*linear)(const Linear &, const uint8_t *x, const float *row_scales, const float *residual, void *y,
                 float *y_scales, size_t rows, const Workers &);
  void (*attention)(const Attention &, Rows q, Rows k, Rows v, void *y, size_t images, const Workers &);
  void (*norm)(const Norm &, const float *x, void *y, float *y_scales, size_t rows, size_t columns, const Workers &);
  void (*code_rows)(const RowSteps &, const float *x, uint8_t *y, float *scales, size_t rows, size_t columns);
};

void release(Packed &);
/* The fastest that this CPU runs; none where it has neither AVX2 nor more. `VIT_EDGE_KERNELS` names others. */
const Kernels *kernels_for_this_cpu();
