/* From RGB bytes of any size to the model's input, to the grey level what Pillow makes of them. */
#pragma once
#include <stdint.h>

enum filter { NEAREST, BOX, BILINEAR, HAMMING, BICUBIC, LANCZOS };
enum resize_mode { RESIZE_NONE, SHORT_SIDE, EXACT, COVER };
enum crop_rule { TORCHVISION, TRANSFORMERS, TRANSFORMERS_FAST };

struct recipe {
  int height, width; /* of what the model sees */
  enum resize_mode mode;
  int rows, columns; /* of the resize */
  enum filter filter;
  enum crop_rule crop;
  float mean[3], std[3]; /* of values in 0 to 255 */
};

/* uint8 (height, width, 3) of rows of RGB, to be freed by the caller; NULL where memory is short, or where a side is
   less than 1 or more than 32767, before or after the resize. */
uint8_t *preprocessed(const uint8_t *rgb, int width, int height, const struct recipe *recipe);

/* float32 (3, height, width) of such bytes into `made`: (byte - mean) / std. */
void normalized(const uint8_t *bytes, const struct recipe *recipe, float *made);
