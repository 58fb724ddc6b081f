"""The pages of docs/ as a site (`bash tools/docs`), with tables made from the code."""
