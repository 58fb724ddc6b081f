/* pixels.c for Kotlin and Java: from RGB bytes to what the model takes. */
#include <jni.h>
#include <stdlib.h>
#include "model.h"

static uint8_t *made(JNIEnv *env, jbyteArray rgb, jint width, jint height) { /* NULL where that is no image */
  if (width < 1 || height < 1 || (*env)->GetArrayLength(env, rgb) / 3 / width < height) return NULL;
  jbyte *given = (*env)->GetByteArrayElements(env, rgb, NULL);
  if (!given) return NULL;
  uint8_t *found = preprocessed((const uint8_t *)given, width, height, &RECIPE);
  (*env)->ReleaseByteArrayElements(env, rgb, given, JNI_ABORT);
  return found;
}

/* uint8 (HEIGHT, WIDTH, 3); null where memory is short or a side is less than 1 or more than 32767. */
JNIEXPORT jbyteArray JNICALL Java_vitedge_Pixels_bytes(JNIEnv *env, jobject self, jbyteArray rgb, jint width, jint height) {
  (void)self;
  uint8_t *pixels = made(env, rgb, width, height);
  if (!pixels) return NULL;
  jbyteArray found = (*env)->NewByteArray(env, 3 * HEIGHT * WIDTH);
  if (found) (*env)->SetByteArrayRegion(env, found, 0, 3 * HEIGHT * WIDTH, (const jbyte *)pixels);
  free(pixels);
  return found;
}

/* float32 (3, HEIGHT, WIDTH), normalised; null as above. */
JNIEXPORT jfloatArray JNICALL Java_vitedge_Pixels_numbers(JNIEnv *env, jobject self, jbyteArray rgb, jint width, jint height) {
  (void)self;
  uint8_t *pixels = made(env, rgb, width, height);
  float *numbers = pixels ? malloc(sizeof(float) * 3 * HEIGHT * WIDTH) : NULL;
  jfloatArray found = NULL;
  if (numbers) {
    normalized(pixels, &RECIPE, numbers);
    found = (*env)->NewFloatArray(env, 3 * HEIGHT * WIDTH);
    if (found) (*env)->SetFloatArrayRegion(env, found, 0, 3 * HEIGHT * WIDTH, numbers);
  }
  free(numbers); free(pixels);
  return found;
}
