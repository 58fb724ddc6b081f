/* The part of onnxruntime's C API that custom operators call, for machines without its header.

   The table of functions only ever grows at its end, so a place holds for every release since version 17 of the
   API (1.17), the first with shape inference for custom operators and with `KernelContext_ParallelFor`. */
#pragma once
#include <cstddef>
#include <cstdint>

extern "C" {
struct OrtStatus;
struct OrtSessionOptions;
struct OrtValue;
struct OrtTensorTypeAndShapeInfo;
struct OrtCustomOpDomain;
struct OrtKernelInfo;
struct OrtKernelContext;
struct OrtShapeInferContext;
struct OrtCustomOp;

enum { kOrtApiVersion = 17 };
enum OrtErrorCode { kOrtFail = 1, kOrtInvalidArgument = 2 };
enum ElementType { kUndefined = 0, kFloat = 1, kUInt8 = 2, kInt8 = 3, kInt32 = 6 };
enum Characteristic { kRequired = 0, kOptional = 1 };

struct OrtApi {
  OrtStatus *(*CreateStatus)(int code, const char *message); /* 0 */
  void *at_1[25];
  OrtStatus *(*CreateCustomOpDomain)(const char *name, OrtCustomOpDomain **made);         /* 26 */
  OrtStatus *(*CustomOpDomain_Add)(OrtCustomOpDomain *, const OrtCustomOp *);             /* 27 */
  OrtStatus *(*AddCustomOpDomain)(OrtSessionOptions *, OrtCustomOpDomain *);              /* 28 */
  void *at_29[22];
  OrtStatus *(*GetTensorMutableData)(OrtValue *, void **data);                            /* 51 */
  void *at_52[5];
  OrtStatus *(*CreateTensorTypeAndShapeInfo)(OrtTensorTypeAndShapeInfo **made);           /* 57 */
  OrtStatus *(*SetTensorElementType)(OrtTensorTypeAndShapeInfo *, int type);              /* 58 */
  OrtStatus *(*SetDimensions)(OrtTensorTypeAndShapeInfo *, const int64_t *, size_t rank); /* 59 */
  OrtStatus *(*GetTensorElementType)(const OrtTensorTypeAndShapeInfo *, int *type);       /* 60 */
  OrtStatus *(*GetDimensionsCount)(const OrtTensorTypeAndShapeInfo *, size_t *rank);      /* 61 */
  OrtStatus *(*GetDimensions)(const OrtTensorTypeAndShapeInfo *, int64_t *, size_t rank); /* 62 */
  void *at_63[2];
  OrtStatus *(*GetTensorTypeAndShape)(const OrtValue *, OrtTensorTypeAndShapeInfo **made); /* 65 */
  void *at_66[19];
  OrtStatus *(*KernelInfoGetAttribute_float)(const OrtKernelInfo *, const char *name, float *);     /* 85 */
  OrtStatus *(*KernelInfoGetAttribute_int64)(const OrtKernelInfo *, const char *name, int64_t *);   /* 86 */
  void *at_87[1];
  OrtStatus *(*KernelContext_GetInputCount)(const OrtKernelContext *, size_t *);                    /* 88 */
  OrtStatus *(*KernelContext_GetOutputCount)(const OrtKernelContext *, size_t *);                   /* 89 */
  OrtStatus *(*KernelContext_GetInput)(const OrtKernelContext *, size_t index, const OrtValue **);  /* 90 */
  OrtStatus *(*KernelContext_GetOutput)(OrtKernelContext *, size_t index, const int64_t *, size_t rank,
                                        OrtValue **made);                                           /* 91 */
  void *at_92[1];
  void (*ReleaseStatus)(OrtStatus *); /* 93 */
  void *at_94[5];
  void (*ReleaseTensorTypeAndShapeInfo)(OrtTensorTypeAndShapeInfo *); /* 99 */
  void *at_100[149];
  OrtStatus *(*KernelInfoGetConstantInput_tensor)(const OrtKernelInfo *, size_t index, int *constant,
                                                  const OrtValue **); /* 249 */
  void *at_250[24];
  OrtStatus *(*KernelContext_ParallelFor)(const OrtKernelContext *, void (*each)(void *, size_t), size_t total,
                                          size_t batches, void *state); /* 274 */
};

struct OrtApiBase {
  const OrtApi *(*GetApi)(uint32_t version);
  const char *(*GetVersionString)(void);
};

struct OrtCustomOp {
  uint32_t version;
  void *(*CreateKernel)(const OrtCustomOp *, const OrtApi *, const OrtKernelInfo *);
  const char *(*GetName)(const OrtCustomOp *);
  const char *(*GetExecutionProviderType)(const OrtCustomOp *);
  int (*GetInputType)(const OrtCustomOp *, size_t index);
  size_t (*GetInputTypeCount)(const OrtCustomOp *);
  int (*GetOutputType)(const OrtCustomOp *, size_t index);
  size_t (*GetOutputTypeCount)(const OrtCustomOp *);
  void (*KernelCompute)(void *kernel, OrtKernelContext *);
  void (*KernelDestroy)(void *kernel);
  int (*GetInputCharacteristic)(const OrtCustomOp *, size_t index);
  int (*GetOutputCharacteristic)(const OrtCustomOp *, size_t index);
  int (*GetInputMemoryType)(const OrtCustomOp *, size_t index);
  int (*GetVariadicInputMinArity)(const OrtCustomOp *);
  int (*GetVariadicInputHomogeneity)(const OrtCustomOp *);
  int (*GetVariadicOutputMinArity)(const OrtCustomOp *);
  int (*GetVariadicOutputHomogeneity)(const OrtCustomOp *);
  OrtStatus *(*CreateKernelV2)(const OrtCustomOp *, const OrtApi *, const OrtKernelInfo *, void **kernel);
  OrtStatus *(*KernelComputeV2)(void *kernel, OrtKernelContext *);
  OrtStatus *(*InferOutputShapeFn)(const OrtCustomOp *, OrtShapeInferContext *);
  int (*GetStartVersion)(const OrtCustomOp *);
  int (*GetEndVersion)(const OrtCustomOp *);
};
}
