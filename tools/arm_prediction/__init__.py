"""INT8 against float latency on Arm cores not at hand: executed instructions times the cycles they take."""
