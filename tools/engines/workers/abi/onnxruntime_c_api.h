/* The part of onnxruntime's C API that our C programs call, for machines without its header.

   The table of functions only ever grows at its end, so a place holds for every release since version 5 of the API
   (1.5). The programs name the header of a release, and take that where a compiler finds it; tests run them with
   this one against libonnxruntime. */
#pragma once
#include <stddef.h>
#include <stdint.h>

typedef struct OrtStatus OrtStatus;
typedef struct OrtEnv OrtEnv;
typedef struct OrtSession OrtSession;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtRunOptions OrtRunOptions;
typedef struct OrtMemoryInfo OrtMemoryInfo;
typedef struct OrtValue OrtValue;
typedef struct OrtTensorTypeAndShapeInfo OrtTensorTypeAndShapeInfo;

enum { ORT_LOGGING_LEVEL_ERROR = 3, OrtArenaAllocator = 1, OrtMemTypeDefault = 0 };
enum { ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT = 1, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 = 2 };

typedef struct OrtApi {
  void *at_0[2];
  const char *(*GetErrorMessage)(const OrtStatus *); /* 2 */
  OrtStatus *(*CreateEnv)(int level, const char *name, OrtEnv **made); /* 3 */
  void *at_4[4];
  OrtStatus *(*CreateSessionFromArray)(const OrtEnv *, const void *data, size_t size, const OrtSessionOptions *, OrtSession **made); /* 8 */
  OrtStatus *(*Run)(OrtSession *, const OrtRunOptions *, const char *const *inputs, const OrtValue *const *given, size_t,
                    const char *const *outputs, size_t, OrtValue **made); /* 9 */
  OrtStatus *(*CreateSessionOptions)(OrtSessionOptions **made); /* 10 */
  void *at_11[13];
  OrtStatus *(*SetIntraOpNumThreads)(OrtSessionOptions *, int); /* 24 */
  void *at_25[24];
  OrtStatus *(*CreateTensorWithDataAsOrtValue)(const OrtMemoryInfo *, void *data, size_t size, const int64_t *shape,
                                               size_t rank, int type, OrtValue **made); /* 49 */
  void *at_50[1];
  OrtStatus *(*GetTensorMutableData)(OrtValue *, void **data); /* 51 */
  void *at_52[12];
  OrtStatus *(*GetTensorShapeElementCount)(const OrtTensorTypeAndShapeInfo *, size_t *count); /* 64 */
  OrtStatus *(*GetTensorTypeAndShape)(const OrtValue *, OrtTensorTypeAndShapeInfo **made); /* 65 */
  void *at_66[3];
  OrtStatus *(*CreateCpuMemoryInfo)(int allocator, int memory, OrtMemoryInfo **made); /* 69 */
  void *at_70[22];
  void (*ReleaseEnv)(OrtEnv *); /* 92 */
  void (*ReleaseStatus)(OrtStatus *); /* 93 */
  void (*ReleaseMemoryInfo)(OrtMemoryInfo *); /* 94 */
  void (*ReleaseSession)(OrtSession *); /* 95 */
  void (*ReleaseValue)(OrtValue *); /* 96 */
  void *at_97[2];
  void (*ReleaseTensorTypeAndShapeInfo)(OrtTensorTypeAndShapeInfo *); /* 99 */
  void (*ReleaseSessionOptions)(OrtSessionOptions *); /* 100 */
  void *at_101[29];
  OrtStatus *(*AddSessionConfigEntry)(OrtSessionOptions *, const char *key, const char *value); /* 130 */
} OrtApi;

typedef struct OrtApiBase {
  const OrtApi *(*GetApi)(uint32_t version);
  const char *(*GetVersionString)(void);
} OrtApiBase;

const OrtApiBase *OrtGetApiBase(void);
