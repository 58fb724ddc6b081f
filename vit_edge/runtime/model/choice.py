"""Which model of a bundle is meant."""

from vit_edge.bundle import EMBEDDER_ROLES, MODEL_ROLES, Bundle, Role
from vit_edge.errors import BundleError


def chosen_name(bundle: Bundle, role: Role | str | None) -> str:
    """The path of a model inside a bundle.

    Args:
        bundle: whose files are recorded.
        role: a role, or a path inside the bundle; None: the one that runs by default.

    Raises:
        BundleError: not exactly one model of that role, or a path that is no model.
        IntegrityError: the file is not the one that the manifest records.
    """
    known = next((each for each in MODEL_ROLES + EMBEDDER_ROLES if role in (each, each.value)), None)
    models = bundle.models() + bundle.embedders()
    if known is None:
        name = bundle.manifest.default_model if role is None else str(role)
    else:
        names = bundle.with_role(known)
        if len(names) != 1:
            raise BundleError(
                f"{bundle.path} has {len(names)} models of role {known.value}; name one of {models}"
            )
        name = names[0]
    if name not in models:
        bundle.read(name)  # a file that is missing or altered is named as such
        raise BundleError(f"{bundle.path / name} is no model; models are {models}")
    return name
