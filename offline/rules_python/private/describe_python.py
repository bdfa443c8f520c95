"""Prints, as JSON, where this interpreter lies and which version it is."""

import json
import os
import sys

# Inside a virtual environment, the interpreter that it was made from.
base = getattr(sys, "_base_executable", None) or sys.executable
print(json.dumps({"path": os.path.realpath(base), "version": list(sys.version_info[:2])}))
