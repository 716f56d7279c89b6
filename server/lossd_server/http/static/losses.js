// The losses that the playground offers: their tensors and options by the names of the API, and examples.

const KINDS = ["logits", "log_probabilities", "probabilities", "counts"];
const BASE = { name: "base", kind: "number", hint: "of the logarithm; e where empty" };
const IGNORE = { name: "ignore_index", kind: "whole", hint: "-100 where empty" };
const WEIGHT = { name: "weight", kind: "tensor", hint: "of each class" };

/** An option with names for its values. byDefault: what the server takes where nothing is said. */
const choice = (name, byDefault, choices, hint) => ({ name, kind: "choice", byDefault, choices, hint });
const reduction = (byDefault, ...more) => choice("reduction", byDefault, ["mean", "sum", "none", ...more]);

/** tensors beside the input: required. options: fields of the form. rows: whether a row has one loss, else an element. */
export const LOSSES = {
  cross_entropy: {
    title: "Cross-entropy",
    input: "logits",
    target: "class indices, or a probability for each class",
    rows: true,
    options: [
      reduction("mean"),
      { name: "label_smoothing", kind: "number", hint: "0 where empty" },
      IGNORE,
      WEIGHT,
      { name: "row_weight", kind: "tensor", hint: "of each row" },
      choice("kind", "logits", KINDS, "what the input is"),
      choice("target_kind", "as it looks", ["indices", "probabilities", "counts"], "what the target is"),
      BASE,
      { name: "z_loss", kind: "number", hint: "0 where empty" },
      { name: "softcap", kind: "number", hint: "none where empty" },
    ],
  },
  nll: {
    title: "Negative log-likelihood",
    input: "log-probabilities",
    target: "class indices",
    rows: true,
    options: [reduction("mean"), IGNORE, WEIGHT],
  },
  bce_with_logits: {
    title: "Binary cross-entropy with logits",
    input: "logits",
    target: "as many numbers from 0 to 1",
    rows: false,
    options: [
      reduction("mean"),
      { ...WEIGHT, hint: "broadcasts to the input" },
      { name: "pos_weight", kind: "tensor", hint: "broadcasts to the input" },
    ],
  },
  bce: {
    title: "Binary cross-entropy",
    input: "probabilities",
    target: "as many numbers from 0 to 1",
    rows: false,
    options: [reduction("mean"), { ...WEIGHT, hint: "broadcasts to the input" }],
  },
  kl_divergence: {
    title: "Kullback-Leibler divergence",
    input: "log-probabilities",
    target: "as many probabilities",
    rows: true,
    options: [
      reduction("mean", "batchmean"),
      choice("kind", "log_probabilities", KINDS, "what the input is"),
      choice("target_kind", "probabilities", KINDS, "what the target is"),
      BASE,
    ],
  },
  entropy: {
    title: "Entropy",
    input: "probabilities",
    rows: true,
    options: [
      reduction("mean"),
      choice("kind", "probabilities", KINDS.filter((one) => one !== "log_probabilities"), "what the input is"),
      { name: "row_weight", kind: "tensor", hint: "of each row" },
      BASE,
    ],
  },
  self_information: {
    title: "Self-information",
    input: "probabilities",
    rows: false,
    options: [reduction("none"), BASE],
  },
};

/** By loss: a name, and what is put into the form. */
export const EXAMPLES = {
  cross_entropy: [
    ["Two rows of three classes", { input: "[[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]]", target: "[0, 2]" }],
    ["Sure, and wrong", { input: "[[30.0, -10.0, 0.0]]", target: "[1]", label_smoothing: "0.1" }],
    ["A row that is ignored", { input: "[[1.0, 2.0], [3.0, 1.0], [0.0, 0.5]]", target: "[1, -100, 0]" }],
    ["Soft targets", { input: "[[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]]", target: "[[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]]" }],
    ["A class that cannot be", { input: '[["-Infinity", 1.0, 2.0]]', target: "[2]" }],
  ],
  nll: [["Two rows of three classes", { input: "[[-0.36, -1.36, -2.26], [-2.2, -0.2, -2.4]]", target: "[0, 2]" }]],
  bce_with_logits: [
    ["Four labels", { input: "[[1.5, -2.0, 0.3, 4.0]]", target: "[[1.0, 0.0, 1.0, 0.0]]" }],
    ["Rare positives", { input: "[1.5, -2.0, 0.3]", target: "[1.0, 0.0, 1.0]", pos_weight: "[5.0]" }],
    ["Far out, where exp overflows", { input: "[1000.0, -1000.0]", target: "[0.0, 0.0]" }],
  ],
  bce: [
    ["Four probabilities", { input: "[0.9, 0.2, 0.6, 0.99]", target: "[1.0, 0.0, 1.0, 0.0]" }],
    ["Exactly 0 and 1", { input: "[0.0, 1.0, 0.5]", target: "[0.0, 0.0, 1.0]" }],
  ],
  kl_divergence: [
    ["Two distributions", { input: "[[-0.7, -1.6, -1.2]]", target: "[[0.5, 0.3, 0.2]]", reduction: "batchmean" }],
    ["From logits", { input: "[[2.0, 1.0, 0.1]]", target: "[[0.5, 0.3, 0.2]]", kind: "logits", reduction: "batchmean" }],
  ],
  entropy: [
    ["Bits of three distributions", { input: "[[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.2, 0.3, 0.5]]", base: "2", reduction: "none" }],
    ["From logits", { input: "[[2.0, 1.0, 0.1]]", kind: "logits" }],
  ],
  self_information: [["Bits of outcomes", { input: "[0.5, 0.25, 1.0]", base: "2" }]],
};
