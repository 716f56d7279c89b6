"""Has Serve read its config from the input; prints the applications' import paths. By the interpreter that has Ray."""

from __future__ import annotations

import json
import sys

from ray.serve.schema import ServeDeploySchema

print(*(one.import_path for one in ServeDeploySchema.model_validate(json.load(sys.stdin)).applications))
