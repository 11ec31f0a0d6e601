"""The operator's test kit: Kubernetes documents, and a small cluster in memory."""
