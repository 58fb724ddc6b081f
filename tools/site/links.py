"""Links of a page as the site has them: pages stay links, files of the repository are named by their path."""

import posixpath
import re

# Pages of the repository's root that the site has, too.
ROOT_PAGES = {
    "README.md": "overview.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}

_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def relinked(text: str, folder: str) -> str:
    """A page's Markdown with links that hold within the site.

    Args:
        text: Markdown.
        folder: of the page in the repository: `docs`, or empty for the root.
    """

    def new(found: re.Match[str]) -> str:
        image, said, target = found.groups()
        if re.match(r"[a-z]+:|#", target):
            return found[0]
        path, hash_, anchor = target.partition("#")
        place = posixpath.normpath(posixpath.join(folder, path))
        if image:
            return f"![{said}]({posixpath.relpath(place, 'docs')})"
        if place in ROOT_PAGES:
            return f"[{said}]({ROOT_PAGES[place]}{hash_}{anchor})"
        if posixpath.dirname(place) == "docs" and place.endswith(".md"):
            return f"[{said}]({posixpath.basename(place)}{hash_}{anchor})"
        return f"{said} (`{place}`)" if said.strip("`") not in place else f"`{place}`"

    return _LINK.sub(new, text)
