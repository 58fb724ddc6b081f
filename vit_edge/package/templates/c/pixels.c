#include "pixels.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BITS = 22, LARGEST = 32767 }; /* bits of fixed-point weights, as in Pillow's Resample.c; of a side */
static const double PI = 3.14159265358979323846;
static const double REACH[] = {0, 0.5, 1, 1, 2, 3}; /* of each filter */

static double sinc(double x) { return x == 0 ? 1 : sin(x * PI) / (x * PI); }

static double weight(enum filter filter, double x) {
  double a = fabs(x);
  switch (filter) {
    case BOX: return x > -0.5 && x <= 0.5 ? 1 : 0;
    case BILINEAR: return a < 1 ? 1 - a : 0;
    case HAMMING: return a >= 1 ? 0 : a == 0 ? 1 : sin(a * PI) / (a * PI) * (0.54 + 0.46 * cos(a * PI));
    case BICUBIC: return a < 1 ? (1.5 * a - 2.5) * a * a + 1 : a < 2 ? (((a - 5) * a + 8) * a - 4) * -0.5 : 0;
    case LANCZOS: return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0;
    default: return 0;
  }
}

static double half_even(double x) { /* as Python rounds */
  double low = floor(x), apart = x - low;
  return apart < 0.5 || (apart == 0.5 && fmod(low, 2) == 0) ? low : low + 1;
}

/* One axis resized from `in` pixels to `made`: across each of `lines` rows, or down each of `lines` columns. NULL where
   memory is short. */
static uint8_t *pass(const uint8_t *data, int in, int made, int lines, int across, enum filter filter) {
  double scale = (double)in / made, wide = scale < 1 ? 1 : scale, support = REACH[filter] * wide;
  int most = (int)ceil(support) * 2 + 1;
  double *row = malloc(sizeof(double) * (size_t)most);
  int32_t *fixed = malloc(sizeof(int32_t) * (size_t)most);
  uint8_t *out = malloc((size_t)3 * (size_t)made * (size_t)lines);
  size_t step = across ? 3 : (size_t)3 * (size_t)lines; /* from one value to the next along the axis */
  for (int i = 0; row && fixed && out && i < made; i++) {
    double centre = (i + 0.5) * scale, sum = 0;
    int start = (int)(centre - support + 0.5), end = (int)(centre + support + 0.5);
    start = start < 0 ? 0 : start; end = end > in ? in : end;
    for (int k = start; k < end; k++) sum += row[k - start] = weight(filter, (k - centre + 0.5) * (1 / wide));
    for (int k = 0; k < end - start; k++) {
      double value = (sum == 0 ? row[k] : row[k] / sum) * (1 << BITS);
      fixed[k] = (int32_t)(value < 0 ? value - 0.5 : value + 0.5);
    }
    for (int line = 0; line < lines; line++) {
      const uint8_t *from = data + (across ? (size_t)line * 3 * (size_t)in : (size_t)line * 3) + step * (size_t)start;
      uint8_t *to = out + (across ? ((size_t)line * (size_t)made + (size_t)i) * 3 : ((size_t)i * (size_t)lines + (size_t)line) * 3);
      for (int c = 0; c < 3; c++) {
        int64_t total = 1 << (BITS - 1);
        for (int k = 0; k < end - start; k++) total += (int64_t)from[(size_t)k * step + (size_t)c] * fixed[k];
        int64_t value = total >= 0 ? total >> BITS : -1;
        to[c] = (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
      }
    }
  }
  int good = row && fixed && out;
  free(row); free(fixed);
  if (good) return out;
  free(out);
  return NULL;
}

static void places(int in, int made, int *found) { /* added up step by step, as Pillow does */
  double step = (double)in / made, at = step * 0.5;
  for (int i = 0; i < made; i++, at += step) found[i] = (int)at < in ? (int)at : in - 1;
}

static uint8_t *nearest(const uint8_t *data, int width, int height, int w, int h) {
  int *columns = malloc(sizeof(int) * (size_t)w), *rows = malloc(sizeof(int) * (size_t)h);
  uint8_t *out = malloc((size_t)3 * (size_t)w * (size_t)h), *to = out;
  if (columns && rows && out) {
    places(width, w, columns); places(height, h, rows);
    for (int y = 0; y < h; y++)
      for (int x = 0; x < w; x++, to += 3)
        memcpy(to, data + ((size_t)rows[y] * (size_t)width + (size_t)columns[x]) * 3, 3);
  } else { free(out); out = NULL; }
  free(columns); free(rows);
  return out;
}

static uint8_t *resized(const uint8_t *data, int width, int height, int w, int h, enum filter filter) {
  if (filter == NEAREST && (w != width || h != height)) return nearest(data, width, height, w, h);
  /* Between the two passes values are rounded, so their order counts; this is Pillow 13's. */
  int down_first = height > h && height - h > 2 * (width - w);
  const uint8_t *now = data;
  for (int turn = 0; turn < 2; turn++) {
    int down = turn ? !down_first : down_first;
    if (down ? h == height : w == width) continue;
    uint8_t *next = down ? pass(now, height, h, width, 0, filter) : pass(now, width, w, height, 1, filter);
    if (now != data) free((void *)now);
    if (!next) return NULL;
    now = next;
    if (down) height = h; else width = w;
  }
  if (now != data) return (uint8_t *)now;
  uint8_t *copy = malloc((size_t)3 * (size_t)width * (size_t)height);
  return copy ? memcpy(copy, data, (size_t)3 * (size_t)width * (size_t)height) : NULL;
}

static int offset(int size, int crop, enum crop_rule rule) {
  if (crop > size) return -(rule == TRANSFORMERS ? (crop - size) - (crop - size) / 2 : (crop - size) / 2);
  return rule == TORCHVISION ? (int)half_even((size - crop) / 2.0) : (size - crop) / 2;
}

uint8_t *preprocessed(const uint8_t *rgb, int width, int height, const struct recipe *r) {
  double w = width, h = height;
  if (width < 1 || height < 1 || width > LARGEST || height > LARGEST) return NULL;
  if (r->mode == EXACT) { w = r->columns; h = r->rows; }
  if (r->mode == SHORT_SIDE && width <= height) { h = floor((double)r->rows * height / width); w = r->rows; }
  else if (r->mode == SHORT_SIDE) { w = floor((double)r->rows * width / height); h = r->rows; }
  if (r->mode == COVER) {
    double ratio = fmin((double)height / r->rows, (double)width / r->columns);
    w = half_even(width / ratio); h = half_even(height / ratio);
  }
  if (w < 1 || h < 1 || w > LARGEST || h > LARGEST) return NULL;
  uint8_t *small = resized(rgb, width, height, (int)w, (int)h, r->filter);
  uint8_t *made = calloc((size_t)3 * (size_t)r->width, (size_t)r->height);
  int left = offset((int)w, r->width, r->crop), top = offset((int)h, r->height, r->crop);
  for (int y = 0; small && made && y < r->height; y++)
    for (int x = 0; x < r->width; x++)
      if (x + left >= 0 && x + left < (int)w && y + top >= 0 && y + top < (int)h)
        memcpy(made + ((size_t)y * (size_t)r->width + (size_t)x) * 3,
               small + ((size_t)(y + top) * (size_t)w + (size_t)(x + left)) * 3, 3);
  if (!small) { free(made); made = NULL; }
  free(small);
  return made;
}

void normalized(const uint8_t *bytes, const struct recipe *r, float *made) {
  size_t area = (size_t)r->width * (size_t)r->height;
  for (size_t i = 0; i < area; i++)
    for (size_t c = 0; c < 3; c++) made[c * area + i] = (bytes[3 * i + c] - r->mean[c]) / r->std[c];
}
