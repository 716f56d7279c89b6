"""Cross-entropy for Triton's Python backend: what its documentation recommends for a model made of torch.

Triton's dynamic batcher hands over requests of one shape, (1, N, C) logits and (1, N) labels each. They are stacked,
evaluated by one call of torch, and answered by their own mean losses (1,) and, where the model's config says so, the
gradients of those by the logits (1, N, C). The config's parameter `threads` is how many threads torch may use; without
it, one a core.
"""

from __future__ import annotations

import json
from typing import Any

import torch
import torch.nn.functional as F
import triton_python_backend_utils as triton


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        self._gradient = "gradient" in {output["name"] for output in config["output"]}
        if "threads" in config["parameters"]:
            torch.set_num_threads(int(config["parameters"]["threads"]["string_value"]))

    def execute(self, requests: list[Any]) -> list[Any]:
        logits = [torch.from_numpy(triton.get_input_tensor_by_name(r, "logits").as_numpy()) for r in requests]
        labels = [torch.from_numpy(triton.get_input_tensor_by_name(r, "labels").as_numpy()) for r in requests]
        input = logits[0] if len(logits) == 1 else torch.cat(logits)
        target = labels[0] if len(labels) == 1 else torch.cat(labels)
        count, rows, classes = input.shape
        with torch.set_grad_enabled(self._gradient):
            input.requires_grad_(self._gradient)
            each = F.cross_entropy(input.reshape(-1, classes), target.reshape(-1), reduction="none")
            losses = each.reshape(count, rows).mean(1)
        found = [triton.Tensor("loss", loss) for loss in losses.detach().reshape(count, 1, 1).numpy()]
        if not self._gradient:
            return [triton.InferenceResponse([loss]) for loss in found]
        (gradient,) = torch.autograd.grad(losses.sum(), input)
        return [
            triton.InferenceResponse([loss, triton.Tensor("gradient", gradient[i : i + 1].numpy())])
            for i, loss in enumerate(found)
        ]
