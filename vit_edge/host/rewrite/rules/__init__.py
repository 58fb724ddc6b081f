"""The rewrite rules, one file each; their order is in `vit_edge.host.rewrite.order`."""
