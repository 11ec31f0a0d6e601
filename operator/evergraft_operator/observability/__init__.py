"""What watches an installation: the page of metrics, alert rules, dashboards. Values that are written to files.

``python -m evergraft_operator.observability`` writes them all, as `make manifests` does; nothing here runs in a
cluster.
"""
