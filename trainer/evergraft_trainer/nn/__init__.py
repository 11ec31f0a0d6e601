"""Modules and routes as networks: kinds of layers, deltas, assembling, roots.

The training loop, serving and export come in through ``assemble``, ``candidate``, ``extract`` and ``backbones``.
"""
