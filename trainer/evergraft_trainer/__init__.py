"""Everything that needs torch: modules and routes as networks, data, training, the worker, local runs."""
