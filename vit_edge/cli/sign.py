"""`sign` and `verify`: whose bundle is it, and is it still the one that was signed?"""

import argparse
import os
from pathlib import Path

from vit_edge.cli.parser import Commands
from vit_edge.signing import sign_bundle, verify_signature

PASSWORD = "VIT_EDGE_KEY_PASSWORD"  # noqa: S105  the name of a variable


def add(commands: Commands) -> None:
    """Declare both commands."""
    sign = commands.add_parser("sign", help="sign a bundle with a private key (OpenSSF Model Signing)")
    sign.add_argument("bundle", type=Path, metavar="BUNDLE")
    sign.add_argument(
        "--key",
        type=Path,
        required=True,
        metavar="FILE",
        help=f"private key, PEM, elliptic curve; the password of an encrypted one is taken from {PASSWORD}",
    )
    sign.set_defaults(run=run_sign)

    verify = commands.add_parser("verify", help="is a bundle, to the last file, what was signed?")
    verify.add_argument("bundle", type=Path, metavar="BUNDLE")
    verify.add_argument("--key", type=Path, required=True, metavar="FILE", help="public key, PEM")
    verify.set_defaults(run=run_verify)


def run_sign(args: argparse.Namespace) -> int:
    """`vit-edge sign`."""
    signed = sign_bundle(args.bundle, args.key, os.environ.get(PASSWORD))
    print(f"{args.bundle}: {signed.files} files signed")
    return 0


def run_verify(args: argparse.Namespace) -> int:
    """`vit-edge verify`; whatever is not as it was signed is an error."""
    signed = verify_signature(args.bundle, args.key)
    print(f"{args.bundle}: {signed.files} files as signed by the owner of {args.key}")
    return 0
