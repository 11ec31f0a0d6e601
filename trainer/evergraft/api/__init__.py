"""The API: what a person writes (Task, ModuleGraph) and what it resolves to.

One source for validation, defaults, messages and documentation. pydantic stays at this edge: ``api.resolved``,
``api.reading``, ``api.ladders`` and ``api.splits`` are plain standard library, so that workers start fast.
"""
