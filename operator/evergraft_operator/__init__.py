"""The Kubernetes operator. Imports no torch and opens no store.

``kopf run -m evergraft_operator`` loads this module and nothing else, so its handlers come along then, and only then.
"""

import sys

if "kopf.cli" in sys.modules:
    from evergraft_operator import handlers as handlers
