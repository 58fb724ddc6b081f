"""One self-contained HTML page about an INT8 model and its float reference: what it keeps, and why."""
