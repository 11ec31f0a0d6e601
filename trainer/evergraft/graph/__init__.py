"""The module graph as values: modules, routes, commits, and the fold that makes a graph of them. No I/O."""
