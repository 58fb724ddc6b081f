"""What the device cannot see of a model: its table of positions, its heads and blocks, other forms of it."""
