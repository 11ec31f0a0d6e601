"""Search: plan a generation, score its results, finish. Pure functions of values and a seed, and the engine that acts."""
