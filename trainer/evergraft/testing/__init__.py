"""A shipped test kit for graphs and stores."""
