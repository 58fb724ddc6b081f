"""From a source to a bundle with its proof: trials at the gate, repair, choice, card.

The command `build` calls this room; everything else of the host is a tool to it.
"""
