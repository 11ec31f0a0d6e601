"""The trainer's test kit, shipped: what our own tests and those of extensions are made with."""
