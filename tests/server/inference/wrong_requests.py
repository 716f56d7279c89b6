"""Inference requests that are wrong in what the protocol adds to the losses' own: (name, change of a good one, code,
reason, field, a part of the sentence)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.losses.requests import cross_entropy
from tests.server.inference.inferring import inferred


def wrong(change: Callable[[Any], object], model: str = "cross_entropy") -> Any:
    message = inferred(cross_entropy())
    message.model_name = model
    del message.outputs[:]
    change(message)
    return message


def parameter(name: str, **value: Any) -> Callable[[Any], object]:
    def change(message: Any) -> None:
        message.parameters[name].CopyFrom(type(message.parameters[name])(**value))

    return change


def extra_input(name: str = "", **fields: Any) -> Callable[[Any], object]:
    def change(message: Any) -> None:
        message.inputs.add(name=name, **fields)
        message.raw_input_contents.append(b"")

    return change


def of_input(message: Any) -> Any:
    return message.inputs[0]


INVALID = "INVALID_ARGUMENT"
PROTOCOL: list[tuple[str, Callable[[Any], object], str, str, str, str]] = [
    (
        "no model",
        lambda m: m.ClearField("model_name"),
        "NOT_FOUND",
        "UNKNOWN_MODEL",
        "model_name",
        "there is no model ''",
    ),
    (
        "a model's name misspelt",
        lambda m: setattr(m, "model_name", "cross_entopy"),
        "NOT_FOUND",
        "UNKNOWN_MODEL",
        "model_name",
        "'cross_entopy'; the models are entropy, cross_entropy, bce",
    ),
    ("a long name", lambda m: setattr(m, "model_name", "n" * 3000), "NOT_FOUND", "UNKNOWN_MODEL", "model_name", "…"),
    (
        "a version",
        lambda m: setattr(m, "model_version", "2"),
        "NOT_FOUND",
        "UNKNOWN_VERSION",
        "model_version",
        "no version '2': its one version is '1'",
    ),
    (
        "a long id",
        lambda m: setattr(m, "id", "i" * 1025),
        INVALID,
        "OPTION_OUT_OF_RANGE",
        "id",
        "id has 1025 characters",
    ),
    (
        "an unknown input",
        extra_input("logits", datatype="FP32", shape=[0]),
        INVALID,
        "UNKNOWN_INPUT",
        "inputs",
        "cross_entropy has no input 'logits'; it has input, target, weight, row_weight, grad_output",
    ),
    ("an input without a name", extra_input(), INVALID, "UNKNOWN_INPUT", "inputs", "no input ''"),
    ("an input twice", extra_input("input"), INVALID, "DUPLICATE_INPUT", "input", "input is there twice"),
    (
        "no inputs",
        lambda m: (m.ClearField("inputs"), m.ClearField("raw_input_contents")),
        INVALID,
        "MISSING_FIELD",
        "input",
        "input is missing",
    ),
    (
        "one input only",
        lambda m: (m.inputs.pop(), m.raw_input_contents.pop()),
        INVALID,
        "MISSING_FIELD",
        "target",
        "target is missing",
    ),
    *(
        (
            f"datatype {name!r}",
            lambda m, name=name: setattr(of_input(m), "datatype", name),
            INVALID,
            "DTYPE_NOT_TAKEN",
            "input",
            f"input has datatype {name!r}, which is not one of BOOL, UINT8, INT8, INT16, INT32, INT64, FP16, BF16",
        )
        for name in ("UINT16", "UINT32", "UINT64", "BYTES", "fp32", "", "FP8")
    ),
    (
        "too few raw contents",
        lambda m: m.raw_input_contents.pop(),
        INVALID,
        "CONTENTS_MISMATCH",
        "raw_input_contents",
        "there are 1 raw_input_contents for 2 inputs",
    ),
    (
        "too many raw contents",
        lambda m: m.raw_input_contents.append(b"1234"),
        INVALID,
        "CONTENTS_MISMATCH",
        "raw_input_contents",
        "there are 3 raw_input_contents for 2 inputs",
    ),
    (
        "raw and typed contents",
        lambda m: of_input(m).contents.fp32_contents.append(1.0),
        INVALID,
        "MIXED_CONTENTS",
        "input",
        "input has contents, and there are raw_input_contents",
    ),
    (
        "no contents at all",
        lambda m: m.ClearField("raw_input_contents"),
        INVALID,
        "LENGTH_MISMATCH",
        "input",
        "input has 0 bytes",
    ),
    *(
        (f"a dimension of {size}", lambda m, size=size: of_input(m).shape.append(size), INVALID, *outside)
        for size in (2**63 - 1, -(2**63))
        for outside in [("INVALID_SHAPE", "input", "is outside")]
    ),
    (
        "900 dimensions",
        lambda m: of_input(m).shape.extend([1] * 900),
        INVALID,
        "RANK_TOO_LARGE",
        "input",
        "902 dimensions",
    ),
    (
        "a million dimensions",
        lambda m: of_input(m).shape.extend([1] * 10**6),
        INVALID,
        "TOO_MANY_FIELDS",
        "shape",
        "shape",
    ),
    (
        "a huge id",
        lambda m: setattr(m, "id", "i" * 10**6),
        INVALID,
        "REQUEST_TOO_LONG",
        "",
        "bytes beside the contents",
    ),
    (
        "100,000 inputs",
        lambda m: [m.inputs.add(name="input") for _ in range(100_000)],
        INVALID,
        "TOO_MANY_FIELDS",
        "",
        "more than 1024 fields",
    ),
    *(
        (f"100,000 {what}", change, INVALID, "TOO_MANY_FIELDS", "", "more than 1024 fields")
        for what, change in (
            ("outputs", lambda m: [m.outputs.add(name="loss") for _ in range(100_000)]),
            ("parameters", lambda m: [parameter(str(n), bool_param=True)(m) for n in range(100_000)]),
        )
    ),
    (
        "100,000 raw contents",
        lambda m: m.raw_input_contents.extend([b""] * 100_000),
        INVALID,
        "TOO_MANY_FIELDS",
        "raw_input_contents",
        "more than 1024 fields",
    ),
    (
        "an output",
        lambda m: m.outputs.add(name="gradient"),
        INVALID,
        "UNKNOWN_OUTPUT",
        "outputs",
        "has no output 'gradient'; it has loss, loss_sum, weight_sum, count, input_gradient, target_gradient",
    ),
    (
        "an output twice",
        lambda m: [m.outputs.add(name="loss") for _ in "12"],
        INVALID,
        "DUPLICATE_OUTPUT",
        "outputs",
        "output loss is asked for twice",
    ),
    (
        "shared memory of an input",
        lambda m: setattr(of_input(m).parameters["shared_memory_region"], "string_param", "r"),
        "UNIMPLEMENTED",
        "NOT_SERVED",
        "input",
        "shared memory of this protocol is not offered",
    ),
    (
        "shared memory of an output",
        lambda m: setattr(m.outputs.add(name="loss").parameters["shared_memory_region"], "string_param", "r"),
        "UNIMPLEMENTED",
        "NOT_SERVED",
        "loss",
        "shared memory of this protocol is not offered",
    ),
    (
        "classification",
        lambda m: setattr(m.outputs.add(name="loss").parameters["classification"], "int64_param", 3),
        "UNIMPLEMENTED",
        "NOT_SERVED",
        "loss",
        "classification is not offered",
    ),
    (
        "a parameter of an input",
        lambda m: setattr(of_input(m).parameters["scale"], "int64_param", 3),
        INVALID,
        "UNKNOWN_PARAMETER",
        "input",
        "input has the parameter 'scale': inputs and outputs have none",
    ),
    (
        "a parameter misspelt",
        parameter("label_smothing", double_param=0.1),
        INVALID,
        "UNKNOWN_PARAMETER",
        "parameters",
        "cross_entropy has no parameter 'label_smothing'; it has reduction, normalizer,",
    ),
    *(
        (f"{name} for a parameter", parameter(name, string_param="1"), INVALID, "UNKNOWN_PARAMETER", "parameters", name)
        for name in ("gradients", "outputs", "placements", "function", "input", "dim", "log_target")
    ),
    *(
        (
            f"parameter {name}",
            parameter(name, int64_param=1),
            INVALID,
            "OPTION_NOT_TAKEN",
            "parameters",
            f"{name} is not",
        )
        for name in ("priority", "sequence_id", "sequence_start", "sequence_end")
    ),
    ("a parameter without a value", parameter("base"), INVALID, "WRONG_TYPE", "base", "base has no value"),
    *(
        (f"{name} = {value}", parameter(name, **value), INVALID, reason, name, sentence)
        for name, value, reason, sentence in (
            ("base", {"bool_param": True}, "WRONG_TYPE", "base must be a number, not True"),
            ("base", {"string_param": "two"}, "WRONG_TYPE", "base must be a number, not 'two'"),
            ("base", {"string_param": "nan"}, "WRONG_TYPE", "base must be a number, not 'nan'"),
            ("base", {"string_param": " 2"}, "WRONG_TYPE", "base must be a number, not ' 2'"),
            ("base", {"string_param": "1_0"}, "WRONG_TYPE", "base must be a number, not '1_0'"),
            ("base", {"string_param": "9" * 10**4}, "WRONG_TYPE", "base must be a number, not '99"),
            ("base", {"string_param": "1e99999"}, "OPTION_OUT_OF_RANGE", "base = inf is outside"),
            ("base", {"double_param": float("nan")}, "OPTION_OUT_OF_RANGE", "base = nan is outside"),
            ("ignore_index", {"double_param": 1.0}, "WRONG_TYPE", "ignore_index must be an integer, not 1.0"),
            ("ignore_index", {"bool_param": True}, "WRONG_TYPE", "ignore_index must be an integer, not True"),
            ("ignore_index", {"string_param": "1.0"}, "WRONG_TYPE", "ignore_index must be an integer, not '1.0'"),
            ("ignore_index", {"string_param": "١"}, "WRONG_TYPE", "ignore_index must be an integer"),
            ("ignore_index", {"uint64_param": 2**63}, "OPTION_OUT_OF_RANGE", "does not fit 64 bits"),
            ("ignore_index", {"string_param": "9" * 30}, "OPTION_OUT_OF_RANGE", "does not fit 64 bits"),
            ("reduction", {"int64_param": 1}, "WRONG_TYPE", "reduction must be one of none, mean, sum, batchmean"),
            ("reduction", {"string_param": "men"}, "UNKNOWN_ENUM", "reduction = 'men' is not one of none, mean"),
            ("reduction", {"string_param": "MEAN"}, "UNKNOWN_ENUM", "reduction = 'MEAN' is not one of none, mean"),
            ("reduction", {"string_param": "batchmean"}, "OPTION_NOT_TAKEN", "batchmean is not taken by CrossEntropy"),
            ("timeout", {"int64_param": 0}, "OPTION_OUT_OF_RANGE", "timeout = 0 is outside"),
            ("timeout", {"double_param": 1.0}, "WRONG_TYPE", "timeout must be an integer"),
            ("triton_enable_empty_final_response", {"int64_param": 1}, "WRONG_TYPE", "must be true or false"),
        )
    ),
]
