"""Work on chunks of images, in one process, in several, or over a Ray cluster; results in their order."""
