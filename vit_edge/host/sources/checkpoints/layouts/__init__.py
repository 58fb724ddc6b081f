"""The layouts of checkpoints, a file for each library; `known.py` beside this folder lists them."""
