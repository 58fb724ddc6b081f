"""The rules, one file each; their order is in `vit_edge.host.kernels.order`."""
