/* Custom operators of onnxruntime around the kernels: domain "vit_edge.kernels", version 1. */
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "kernels.h"
#include "ort_abi.h"

namespace {

const OrtApi *ort;

struct Failure {
  std::string message;
};

void need(OrtStatus *status) {
  if (status) { ort->ReleaseStatus(status); throw Failure{"onnxruntime refused a call of vit-edge's kernels"}; }
}

struct Tensor {
  void *data = nullptr;
  std::vector<int64_t> shape;
  int type = 0;
  size_t count() const {
    size_t total = 1;
    for (const int64_t size : shape) total *= static_cast<size_t>(size);
    return total;
  }
  size_t last() const { return shape.empty() ? 1 : static_cast<size_t>(shape.back()); }
  template <class T> const T *as() const { return static_cast<const T *>(data); }
};

Tensor tensor_of(const OrtValue *value) {
  Tensor made;
  if (!value) return made;
  OrtTensorTypeAndShapeInfo *info;
  size_t rank;
  need(ort->GetTensorTypeAndShape(value, &info));
  need(ort->GetDimensionsCount(info, &rank));
  made.shape.resize(rank);
  need(ort->GetDimensions(info, made.shape.data(), rank));
  need(ort->GetTensorElementType(info, &made.type));
  ort->ReleaseTensorTypeAndShapeInfo(info);
  need(ort->GetTensorMutableData(const_cast<OrtValue *>(value), &made.data));
  return made;
}

struct Context {
  OrtKernelContext *context;
  size_t inputs() const { size_t count; need(ort->KernelContext_GetInputCount(context, &count)); return count; }
  Tensor input(size_t index) const {
    if (index >= inputs()) return {};
    const OrtValue *value;
    need(ort->KernelContext_GetInput(context, index, &value));
    return tensor_of(value);
  }
  void *output(size_t index, const std::vector<int64_t> &shape) const {
    OrtValue *value;
    void *data;
    need(ort->KernelContext_GetOutput(context, index, shape.data(), shape.size(), &value));
    need(ort->GetTensorMutableData(value, &data));
    return data;
  }
  Workers workers() const {
    return {context, [](const void *c, void (*each)(void *, size_t), size_t count, void *state) {
              if (count == 1) each(state, 0);
              else need(ort->KernelContext_ParallelFor(static_cast<const OrtKernelContext *>(c), each, count, 0, state));
            }};
  }
};

struct Info {
  const OrtKernelInfo *info;
  float real(const char *name) const {
    float x = 0;
    if (missing(ort->KernelInfoGetAttribute_float(info, name, &x))) throw Failure{std::string(name) + " is missing"};
    return x;
  }
  float real(const char *name, float otherwise) const {
    float x = 0;
    return missing(ort->KernelInfoGetAttribute_float(info, name, &x)) ? otherwise : x;
  }
  int64_t whole(const char *name, int64_t otherwise = 0) const {
    int64_t x = 0;
    return missing(ort->KernelInfoGetAttribute_int64(info, name, &x)) ? otherwise : x;
  }
  static bool missing(OrtStatus *status) {
    if (status) ort->ReleaseStatus(status);
    return status != nullptr;
  }
  Tensor constant(size_t index) const {
    int constant = 0;
    const OrtValue *value = nullptr;
    need(ort->KernelInfoGetConstantInput_tensor(info, index, &constant, &value));
    if (!constant) throw Failure{"a weight of vit-edge's kernels must be a constant"};
    return tensor_of(value);
  }
  size_t size(const char *name) const {
    const int64_t x = whole(name);
    if (x < 0 || x > (1 << 24)) throw Failure{std::string(name) + " is out of range"};
    return static_cast<size_t>(x);
  }
  Output output(bool coded) const { return !coded ? Output::kFloat : whole("by_row") ? Output::kRowCodes : Output::kCodes; }
  Steps steps(const char *scale, const char *zero) const { return {1.0f / real(scale, 1.0f), static_cast<int32_t>(whole(zero))}; }
  RowSteps row_steps() const { return {steps("scale", "zero_point"), real("floor", 1.0f), whole("one_sided") != 0}; }
};

/* Chosen when the model is loaded: weights are packed for it. */
struct OnCpu {
  const Kernels *const cpu = kernels_for_this_cpu();
};

template <class T> std::vector<T> padded(const T *from, size_t count, size_t step, T fill) {
  std::vector<T> made((count + step - 1) / step * step + 16, fill);
  if (from) std::copy(from, from + count, made.begin());
  return made;
}

/* x (…, K) uint8, row scales (rows) or none, residual (…, N) or none, weight (K, N) int8, scale (N), start (N) int32, bias (N) or none;
   of codes, a scale and a zero point of each column, or none */
struct LinearOp : OnCpu {
  static constexpr const char *kName = "Linear";
  static constexpr int kInputs[] = {kUInt8, kFloat, kFloat, kInt8, kFloat, kInt32, kFloat, kFloat, kUInt8};
  static constexpr bool kOptionals[] = {false, true, true, false, false, false, true, true, true};
  static constexpr size_t kOutputs = 2;
  Linear linear;
  Packed packed;
  std::vector<float> scale, bias, inverse;
  std::vector<int32_t> start, zero_point;
  LinearOp(const Info &info, bool coded) {
    const Tensor weight = info.constant(3), scales = info.constant(4), starts = info.constant(5);
    if (weight.shape.size() != 2) throw Failure{"a weight must have two axes"};
    const size_t depth = static_cast<size_t>(weight.shape[0]), columns = static_cast<size_t>(weight.shape[1]);
    if (!depth || depth > 32768) throw Failure{"a product must be 1 to 32768 deep, so that no sum overflows"};
    if (scales.count() != columns || starts.count() != columns) throw Failure{"a scale and a start per column"};
    packed = cpu->pack(weight.as<int8_t>(), depth, columns);
    scale = padded(scales.as<float>(), columns, cpu->panel, 0.0f);
    start = padded(starts.as<int32_t>(), columns, cpu->panel, int32_t{0});
    const int64_t zero = info.whole("input_zero_point");
    const float step = info.real("input_scale");
    for (size_t i = 0; i < columns; ++i) start[i] -= static_cast<int32_t>(zero) * packed.sums[i], scale[i] *= step;
    linear.weight = &packed, linear.scale = scale.data(), linear.start = start.data();
    if (info.whole("biased")) bias = padded(info.constant(6).as<float>(), columns, cpu->panel, 0.0f), linear.bias = bias.data();
    linear.activation = static_cast<Activation>(info.whole("activation"));
    linear.alpha = info.real("alpha", 1.0f);
    linear.output = info.output(coded);
    linear.row_steps = info.row_steps();
    inverse.assign(scale.size(), linear.row_steps.unit.inverse), zero_point.assign(scale.size(), linear.row_steps.unit.zero_point);
    if (info.whole("by_column")) {
      const Tensor each = info.constant(7), zeros = info.constant(8);
      if (each.count() != columns || zeros.count() != columns) throw Failure{"a scale and a zero point of codes per column"};
      for (size_t i = 0; i < columns; ++i) inverse[i] = 1.0f / each.as<float>()[i], zero_point[i] = zeros.as<uint8_t>()[i];
    }
    linear.inverse = inverse.data(), linear.zero_point = zero_point.data();
  }
  ~LinearOp() { release(packed); }
  void compute(const Context &context) {
    const Tensor x = context.input(0), scales = context.input(1), residual = context.input(2);
    std::vector<int64_t> shape = x.shape;
    if (x.last() != packed.depth) throw Failure{"a row has another length than the weight's depth"};
    const size_t rows = x.count() / packed.depth;
    if (scales.data && scales.count() != rows) throw Failure{"row scales of another number of rows"};
    shape.back() = static_cast<int64_t>(packed.columns);
    if (residual.data && residual.count() != rows * packed.columns) throw Failure{"a residual of another shape"};
    void *y = context.output(0, shape);
    shape.back() = 1;
    float *y_scales = linear.output == Output::kRowCodes ? static_cast<float *>(context.output(1, shape)) : nullptr;
    cpu->linear(linear, x.as<uint8_t>(), scales.as<float>(), residual.as<float>(), y, y_scales, rows, context.workers());
  }
};

/* q (images * queries, …), k and v (images * keys, …) codes: columns from an offset on, heads side by side */
struct AttentionOp : OnCpu {
  static constexpr const char *kName = "Attention";
  static constexpr int kInputs[] = {kUInt8, kUInt8, kUInt8};
  static constexpr bool kOptionals[] = {false, false, false};
  static constexpr size_t kOutputs = 1;
  Attention attention;
  size_t offsets[3];
  AttentionOp(const Info &info, bool coded) {
    attention.heads = info.size("heads"), attention.width = info.size("width");
    attention.queries = info.size("queries"), attention.keys = info.size("keys");
    offsets[0] = info.size("query_offset"), offsets[1] = info.size("key_offset"), offsets[2] = info.size("value_offset");
    if (!attention.width || attention.width > 512) throw Failure{"heads must be 1 to 512 columns wide"};
    if (!attention.heads || !attention.queries || !attention.keys) throw Failure{"an attention without heads, queries or keys"};
    const float q = info.real("query_scale"), k = info.real("key_scale"), v = info.real("value_scale"), p = info.real("probability_scale", 0.0f);
    attention.query_zero_point = static_cast<int32_t>(info.whole("query_zero_point"));
    attention.score_scale = q * k;
    attention.probability_inverse = p > 0 ? 1 / p : 0;
    attention.mix_scale = v * (p > 0 ? p : 1.0f / 255);
    attention.output = coded ? Output::kCodes : Output::kFloat;
    attention.steps = info.steps("scale", "zero_point");
  }
  void compute(const Context &context) {
    const size_t columns = attention.heads * attention.width;
    Rows rows[3];
    size_t images = 0;
    for (size_t i = 0; i < 3; ++i) {
      const Tensor x = context.input(i);
      const size_t each = i ? attention.keys : attention.queries, count = x.last() ? x.count() / x.last() : 0;
      if (x.last() < offsets[i] + columns || count % each || (i && count / each != images)) throw Failure{"operands of attention do not fit together"};
      images = count / each, rows[i] = {x.as<uint8_t>() + offsets[i], x.last()};
    }
    void *y = context.output(0, {static_cast<int64_t>(images * attention.queries), static_cast<int64_t>(columns)});
    cpu->attention(attention, rows[0], rows[1], rows[2], y, images, context.workers());
  }
};

/* x (…, D) float, scale (D), bias (D) */
struct NormOp : OnCpu {
  static constexpr const char *kName = "Norm";
  static constexpr int kInputs[] = {kFloat, kFloat, kFloat};
  static constexpr bool kOptionals[] = {false, false, false};
  static constexpr size_t kOutputs = 2;
  Norm norm;
  std::vector<float> scale, bias;
  NormOp(const Info &info, bool coded) {
    const Tensor scales = info.constant(1), biases = info.constant(2);
    scale = padded(scales.as<float>(), scales.count(), cpu->panel, 0.0f), bias = padded(biases.as<float>(), biases.count(), cpu->panel, 0.0f);
    norm = {scale.data(), bias.data(), info.real("epsilon"), info.output(coded), info.steps("scale", "zero_point"), info.row_steps()};
  }
  void compute(const Context &context) {
    const Tensor x = context.input(0);
    void *y = context.output(0, x.shape);
    std::vector<int64_t> shape = x.shape;
    shape.back() = 1;
    float *y_scales = norm.output == Output::kRowCodes ? static_cast<float *>(context.output(1, shape)) : nullptr;
    cpu->norm(norm, x.as<float>(), y, y_scales, x.count() / x.last(), x.last(), context.workers());
  }
};

/* x (…, D) float: each row by its own range */
struct RowsOp : OnCpu {
  static constexpr const char *kName = "Row";
  static constexpr int kInputs[] = {kFloat};
  static constexpr bool kOptionals[] = {false};
  static constexpr size_t kOutputs = 2;
  RowSteps steps;
  RowsOp(const Info &info, bool) : steps(info.row_steps()) {}
  void compute(const Context &context) {
    const Tensor x = context.input(0);
    std::vector<int64_t> shape = x.shape;
    uint8_t *y = static_cast<uint8_t *>(context.output(0, shape));
    shape.back() = 1;
    float *scales = static_cast<float *>(context.output(1, shape));
    cpu->code_rows(steps, x.as<float>(), y, scales, x.count() / x.last(), x.last());
  }
};

template <class Do> OrtStatus *guarded(Do &&act) {
  try {
    act();
    return nullptr;
  } catch (const Failure &failure) {
    return ort->CreateStatus(kOrtFail, failure.message.c_str());
  } catch (const std::exception &error) {
    return ort->CreateStatus(kOrtFail, error.what());
  }
}

template <class Op, int First> struct Custom : OrtCustomOp { /* First: the type of the first output */
  Custom() : OrtCustomOp{} {
    version = kOrtApiVersion;
    GetName = [](const OrtCustomOp *) -> const char * { return First == kFloat ? Op::kName : coded_name(); };
    GetExecutionProviderType = [](const OrtCustomOp *) -> const char * { return "CPUExecutionProvider"; };
    GetInputType = [](const OrtCustomOp *, size_t index) -> int { return Op::kInputs[index]; };
    GetInputTypeCount = [](const OrtCustomOp *) -> size_t { return sizeof(Op::kInputs) / sizeof(int); };
    GetOutputType = [](const OrtCustomOp *, size_t index) -> int { return index ? kFloat : First; };
    GetOutputTypeCount = [](const OrtCustomOp *) -> size_t { return Op::kOutputs; };
    GetInputCharacteristic = [](const OrtCustomOp *, size_t index) -> int { return Op::kOptionals[index] ? kOptional : kRequired; };
    GetOutputCharacteristic = [](const OrtCustomOp *, size_t index) -> int { return index ? kOptional : kRequired; };
    GetInputMemoryType = [](const OrtCustomOp *, size_t) -> int { return 0; };
    GetVariadicInputMinArity = GetVariadicOutputMinArity = [](const OrtCustomOp *) -> int { return 0; };
    GetVariadicInputHomogeneity = GetVariadicOutputHomogeneity = [](const OrtCustomOp *) -> int { return 0; };
    GetStartVersion = [](const OrtCustomOp *) -> int { return 1; };
    GetEndVersion = [](const OrtCustomOp *) -> int { return 1; };
    CreateKernelV2 = [](const OrtCustomOp *, const OrtApi *, const OrtKernelInfo *info, void **kernel) {
      return guarded([&] { *kernel = new Op(Info{info}, First == kUInt8); });
    };
    KernelComputeV2 = [](void *kernel, OrtKernelContext *context) {
      return guarded([&] { static_cast<Op *>(kernel)->compute(Context{context}); });
    };
    KernelDestroy = [](void *kernel) { delete static_cast<Op *>(kernel); };
  }
  static const char *coded_name() {
    static const std::string name = std::string(Op::kName) + "Codes";
    return name.c_str();
  }
};

}  // namespace

extern "C" __attribute__((visibility("default"))) OrtStatus *RegisterCustomOps(OrtSessionOptions *options, const OrtApiBase *base) {
  static const Custom<LinearOp, kFloat> linear;
  static const Custom<LinearOp, kUInt8> linear_codes;
  static const Custom<AttentionOp, kFloat> attention;
  static const Custom<AttentionOp, kUInt8> attention_codes;
  static const Custom<NormOp, kUInt8> norm_codes;
  static const Custom<RowsOp, kUInt8> rows;
  ort = base->GetApi(kOrtApiVersion);
  if (!kernels_for_this_cpu()) return ort->CreateStatus(kOrtFail, "vit-edge's kernels need a CPU with AVX2 and FMA; run the portable file");
  return guarded([&] {
    OrtCustomOpDomain *domain;
    need(ort->CreateCustomOpDomain("vit_edge.kernels", &domain));
    const OrtCustomOp *const all[] = {&linear, &linear_codes, &attention, &attention_codes, &norm_codes, &rows};
    for (const OrtCustomOp *op : all) need(ort->CustomOpDomain_Add(domain, op));
    need(ort->AddCustomOpDomain(options, domain));
  });
}

/* What the kernels use on this CPU, or null where it runs none of them. */
extern "C" __attribute__((visibility("default"))) const char *vit_edge_kernels_instructions() {
  const Kernels *found = kernels_for_this_cpu();
  return found ? found->name : nullptr;
}
