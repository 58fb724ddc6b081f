"""Device classes as data: one TOML file each, beside this one."""

from vit_edge.targets.loader import list_targets, load_target

__all__ = ["list_targets", "load_target"]
