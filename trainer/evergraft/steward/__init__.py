"""Stewards: short errands at a store for whoever may not open it. Called by ``evergraft steward``."""
