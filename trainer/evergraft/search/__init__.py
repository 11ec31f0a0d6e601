"""Search: plan a generation, score its results, finish: pure functions, and the engine that acts on them."""
