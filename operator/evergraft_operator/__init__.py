"""The Kubernetes operator. Imports no torch and opens no store."""
