/* pixels.c and what it must know of the model, for Swift. */
#include "model.h"
