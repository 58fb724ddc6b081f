"""Other quantizers beside ours, for `tools.compare_peers`."""
