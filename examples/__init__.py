"""Examples: the demo's stream of tasks and the small root it starts from.

A package only so that the preparation scripts can share code; nothing here is installed.
"""
