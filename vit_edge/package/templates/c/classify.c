/* What is on an image: `classify PHOTO.ppm [float|int8]`; `classify --check` holds this machine to recorded answers.
   Runs in the folder of the package. An image is a binary PPM (P6); a camera's RGB bytes need only `answer`. */
#define _POSIX_C_SOURCE 200112L
#include <math.h>
#include <onnxruntime_c_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "model.h"

static const OrtApi *ort;
static OrtEnv *env;
static OrtMemoryInfo *memory;

static void need(OrtStatus *status) { /* ends the program where onnxruntime refuses */
  if (status) { fprintf(stderr, "%s\n", ort->GetErrorMessage(status)); exit(2); }
}

static void *bytes(const char *path, size_t *size) { /* a whole file, zero-terminated; ends where there is none */
  FILE *file = fopen(path, "rb");
  if (!file) { perror(path); exit(2); }
  if (fseek(file, 0, SEEK_END)) { perror(path); exit(2); }
  long length = ftell(file); rewind(file);
  char *data = length < 0 ? NULL : malloc((size_t)length + 1);
  if (!data || fread(data, 1, (size_t)length, file) != (size_t)length) { fprintf(stderr, "%s cannot be read\n", path); exit(2); }
  data[length] = 0; fclose(file); *size = (size_t)length;
  return data;
}

struct opened { const struct model *model; OrtSession *session; void *data; };

static struct opened open_model(const struct model *model) {
  struct opened made = {model, NULL, NULL}; OrtSessionOptions *options; size_t size;
  need(ort->CreateSessionOptions(&options));
  for (int i = 0; model->options[i]; i += 2) need(ort->AddSessionConfigEntry(options, model->options[i], model->options[i + 1]));
  made.data = bytes(model->file, &size);
  need(ort->CreateSessionFromArray(env, made.data, size, options, &made.session));
  ort->ReleaseSessionOptions(options);
  return made;
}

static void close_model(struct opened *opened) { ort->ReleaseSession(opened->session); free(opened->data); }

static float *run(struct opened *opened, void *input, size_t size) { /* CLASSES numbers, to be freed */
  static const int64_t hwc[] = {1, HEIGHT, WIDTH, 3}, chw[] = {1, 3, HEIGHT, WIDTH};
  const struct model *m = opened->model; OrtValue *given, *got = NULL; OrtTensorTypeAndShapeInfo *info; float *values; size_t count;
  need(ort->CreateTensorWithDataAsOrtValue(memory, input, size, m->takes_bytes ? hwc : chw, 4, m->takes_bytes
       ? ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &given));
  need(ort->Run(opened->session, NULL, &m->input, (const OrtValue *const *)&given, 1, &m->output, 1, &got));
  need(ort->GetTensorMutableData(got, (void **)&values));
  need(ort->GetTensorTypeAndShape(got, &info)); need(ort->GetTensorShapeElementCount(info, &count));
  float *made = malloc(sizeof(float) * CLASSES);
  if (count != CLASSES || !made) { fprintf(stderr, "%s does not give %d numbers\n", m->file, CLASSES); exit(2); }
  memcpy(made, values, sizeof(float) * CLASSES);
  ort->ReleaseTensorTypeAndShapeInfo(info); ort->ReleaseValue(got); ort->ReleaseValue(given);
  return made;
}

static float *answer(struct opened *opened, const uint8_t *rgb, int width, int height) { /* the model's numbers */
  static float numbers[3 * HEIGHT * WIDTH];
  uint8_t *pixels = preprocessed(rgb, width, height, &RECIPE);
  if (!pixels) { fprintf(stderr, "an image of %d x %d pixels cannot be resized\n", width, height); exit(2); }
  normalized(pixels, &RECIPE, numbers);
  float *found = opened->model->takes_bytes ? run(opened, pixels, sizeof numbers / 4) : run(opened, numbers, sizeof numbers);
  free(pixels);
  return found;
}

static double sigmoid(double z) { return 1 / (1 + exp(-z)); }

static int scores(const float *values, double *made) { /* by what the numbers mean; how many labels there are */
  double most = values[0], sum = 0;
  for (int i = 0; i < CLASSES; i++) most = fmax(most, values[i]);
  for (int i = 0; i < CLASSES; i++) sum += made[i] = KIND == SOFTMAX ? exp(values[i] - most) : KIND == SIGMOID ? sigmoid(values[i]) : values[i];
  for (int i = 0; KIND == SOFTMAX && i < CLASSES; i++) made[i] /= sum;
  if (KIND != BINARY_LOGIT && KIND != BINARY_PROBABILITY) return CLASSES;
  made[1] = KIND == BINARY_LOGIT ? sigmoid(values[0]) : values[0]; made[0] = 1 - made[1];
  return 2;
}

static void tell(const float *values) {
  static double score[CLASSES + 1];
  int count = scores(values, score);
  for (int turn = 0; turn < (KIND == VALUES ? count : count < 5 ? count : 5); turn++) {
    int best = turn;
    if (KIND != VALUES) for (int i = best = 0; i < count; i++) if (score[i] > score[best]) best = i;
    printf("%.6f %d %s\n", score[best], best, LABELS ? LABELS[best] : "");
    if (KIND != VALUES) score[best] = -INFINITY;
  }
}

static int ppm(const char *path, uint8_t **rgb, int *width, int *height, void **whole) { /* 0 where it is none */
  size_t size; int end = 0, top = 0;
  char *data = *whole = bytes(path, &size);
  if (sscanf(data, "P6 %d %d %d%n", width, height, &top, &end) != 3 || top != 255 || *width < 1 || *height < 1) return 0;
  *rgb = (uint8_t *)data + end + 1; /* one white space behind the header */
  return size > (size_t)end && (size - (size_t)end - 1) / 3 / (size_t)*width >= (size_t)*height;
}

static int judge(const char *what, double difference, double tolerance) { /* NaN fails, too */
  int good = difference <= tolerance;
  printf("%s %s %.3g %.3g\n", good ? "ok  " : "FAIL", what, difference, tolerance);
  return good;
}

static int check(void) { /* 0 where the pixels are Pillow's and the answers those of one of the recorded arithmetics */
  int bad = 0; size_t size, other;
  for (size_t v = 0; v < sizeof VECTORS / sizeof *VECTORS; v++) {
    const struct vector *each = &VECTORS[v]; int most = 0;
    uint8_t *rgb = bytes(each->file, &size), *expected = bytes(each->expected, &other);
    uint8_t *found = size == (size_t)3 * (size_t)each->width * (size_t)each->height ? preprocessed(rgb, each->width, each->height, &RECIPE) : NULL;
    for (size_t i = 0; found && i < other && other == (size_t)3 * HEIGHT * WIDTH; i++) most = abs(found[i] - expected[i]) > most ? abs(found[i] - expected[i]) : most;
    bad |= !judge(each->file, found && other == (size_t)3 * HEIGHT * WIDTH ? (double)most : INFINITY, 1);
    free(rgb); free(expected); free(found);
  }
  for (size_t m = 0; m < sizeof MODELS / sizeof *MODELS; m++) {
    struct opened opened = open_model(&MODELS[m]);
    int holds[ARITHMETICS] = {0}, seen[ARITHMETICS] = {0}, any = 0;
    for (size_t c = 0; c < sizeof CASES / sizeof *CASES; c++) {
      const struct recorded *each = &CASES[c]; double most = 0;
      if (each->model != (int)m) continue;
      void *input = bytes(each->input, &size); float *expected = bytes(each->output, &other), *found = run(&opened, input, size);
      for (int i = 0; i < CLASSES && other == sizeof(float) * CLASSES; i++) {
        double apart = fabs((double)found[i] - expected[i]);
        if (!(apart <= most)) { most = apart; if (isnan(apart)) break; }
      }
      int good = judge(each->input, other == sizeof(float) * CLASSES ? most : INFINITY, each->tolerance);
      holds[each->arithmetic] += good; seen[each->arithmetic]++;
      free(input); free(expected); free(found);
    }
    for (int a = 0; a < ARITHMETICS; a++) any |= seen[a] && holds[a] == seen[a];
    printf("%s %s\n", any ? "ok  " : "FAIL", MODELS[m].file);
    bad |= !any; close_model(&opened);
  }
  return bad;
}

int main(int count, char **words) {
  if (count < 2) { fprintf(stderr, "usage: classify PHOTO.ppm [float|int8], or classify --check\n"); return 2; }
  setenv("ORT_DISABLE_TELEMETRY", "1", 0);
  ort = OrtGetApiBase()->GetApi(14);
  if (!ort) { fprintf(stderr, "this onnxruntime is older than 1.14\n"); return 2; }
  need(ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "classify", &env));
  need(ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
  int status = 0;
  if (!strcmp(words[1], "--check")) status = check();
  else {
    const struct model *chosen = NULL; uint8_t *rgb; int width, height; void *whole;
    for (size_t m = 0; m < sizeof MODELS / sizeof *MODELS; m++)
      if (!strcmp(MODELS[m].name, count > 2 ? words[2] : DEFAULT_MODEL)) chosen = &MODELS[m];
    if (!chosen) { fprintf(stderr, "no model file is called %s\n", words[2]); return 2; }
    if (!ppm(words[1], &rgb, &width, &height, &whole)) { fprintf(stderr, "%s is no whole binary PPM with values to 255\n", words[1]); free(whole); return 2; }
    struct opened opened = open_model(chosen);
    float *values = answer(&opened, rgb, width, height);
    tell(values);
    free(values); free(whole); close_model(&opened);
  }
  ort->ReleaseMemoryInfo(memory); ort->ReleaseEnv(env);
  return status;
}
