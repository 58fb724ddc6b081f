"""True boxes and masks of images, read and held against what a model gives."""
