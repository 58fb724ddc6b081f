"""Packages run in their homes beside Python: `python -m tools.check_package`; tests use its parts."""
