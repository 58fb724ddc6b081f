/* Holds the models of a bundle to its golden cases: `check BUNDLE [exact|saturating]`, from within any folder.
   cc -std=c11 -I ONNXRUNTIME/include check.c -o check -L ONNXRUNTIME/lib -lonnxruntime -lm    See docs/golden.md. */
#include <math.h>
#include <onnxruntime_c_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const OrtApi *ort;

static void need(OrtStatus *status) { /* ends the program where onnxruntime refuses */
  if (status) { fprintf(stderr, "%s\n", ort->GetErrorMessage(status)); exit(2); }
}

static void *bytes(const char *bundle, const char *name, size_t *size) { /* a whole file; ends where there is none */
  char path[4096]; snprintf(path, sizeof path, "%s/%s", bundle, name);
  FILE *file = fopen(path, "rb");
  if (!file) { perror(path); exit(2); }
  fseek(file, 0, SEEK_END); *size = (size_t)ftell(file); rewind(file);
  char *data = malloc(*size + 1);
  if (!data || fread(data, 1, *size, file) != *size) { fprintf(stderr, "%s cannot be read\n", path); exit(2); }
  data[*size] = 0; fclose(file); return data;
}

int main(int count, char **words) {
  if (count < 2) { fprintf(stderr, "usage: check BUNDLE [exact|saturating]\n"); return 2; }
  const char *bundle = words[1], *arithmetic = count > 2 ? words[2] : "exact";
  OrtEnv *env; OrtMemoryInfo *memory; int bad = 0, checked = 0; size_t size;
  ort = OrtGetApiBase()->GetApi(14);
  need(ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "check", &env));
  need(ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
  for (char *line = strtok(bytes(bundle, "golden/cases.json", &size), "\n"); line; line = strtok(NULL, "\n")) {
    char model[200], kind[20], in[100], type[20], input[200], out[100], output[200], key[100], value[100], *more;
    int64_t shape[4], classes; double allowed; size_t bytes_in, bytes_out;
    if (sscanf(line, "{\"model\": \"%199[^\"]\", \"arithmetic\": \"%19[^\"]\", \"input\": \"%99[^\"]\", "
        "\"input_type\": \"%19[^\"]\", \"input_shape\": [%ld, %ld, %ld, %ld], \"input_file\": \"%199[^\"]\", "
        "\"output\": \"%99[^\"]\", \"output_type\": \"float32\", \"output_shape\": [1, %ld], "
        "\"output_file\": \"%199[^\"]\", \"tolerance\": %lf", model, kind, in, type, &shape[0], &shape[1],
        &shape[2], &shape[3], input, out, &classes, output, &allowed) != 13) continue;
    if (strcmp(kind, "any") && strcmp(kind, arithmetic)) continue;
    OrtSessionOptions *options; OrtSession *session; OrtValue *given, *made = NULL; float *found;
    need(ort->CreateSessionOptions(&options));
    for (more = strstr(line, "\"session_options\": {") + 20; /* "key": "value", ... */
         sscanf(more, " \"%99[^\"]\": \"%99[^\"]\"", key, value) == 2; more += strlen(key) + strlen(value) + 8)
      need(ort->AddSessionConfigEntry(options, key, value));
    void *file = bytes(bundle, model, &size), *pixels = bytes(bundle, input, &bytes_in);
    float *expected = bytes(bundle, output, &bytes_out), most = 0;
    need(ort->CreateSessionFromArray(env, file, size, options, &session));
    need(ort->CreateTensorWithDataAsOrtValue(memory, pixels, bytes_in, shape, 4, strcmp(type, "uint8")
         ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT : ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, &given));
    need(ort->Run(session, NULL, (const char *[]){in}, (const OrtValue *const *)&given, 1,
                  (const char *[]){out}, 1, &made));
    need(ort->GetTensorMutableData(made, (void **)&found));
    OrtTensorTypeAndShapeInfo *info; size_t values;
    need(ort->GetTensorTypeAndShape(made, &info)); need(ort->GetTensorShapeElementCount(info, &values));
    int good = values == (size_t)classes && bytes_out == values * sizeof(float);
    for (size_t i = 0; good && i < values; i++) {
      most = fmaxf(most, fabsf(found[i] - expected[i]));
      good = fabsf(found[i] - expected[i]) <= allowed; /* false for NaN, too */
    }
    printf("%s %s %s %.3g %.3g\n", good ? "ok  " : "FAIL", model, out, most, allowed);
    bad |= !good; checked++;
  }
  return checked ? bad : 1;
}
