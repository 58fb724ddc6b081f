"""Device classes as data: one TOML file each, beside this one."""

from vit_edge.targets.loader import SUFFIX, find_target, list_targets, load_target

__all__ = ["SUFFIX", "find_target", "list_targets", "load_target"]
