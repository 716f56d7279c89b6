package lossd

import pb "lossd/lossdv1"

// Reduction is how the losses of rows or elements become one number. The zero value is Mean (SelfInformation: None).
type Reduction = pb.Reduction

const (
	None      = pb.Reduction_REDUCTION_NONE // they do not
	Mean      = pb.Reduction_REDUCTION_MEAN
	Sum       = pb.Reduction_REDUCTION_SUM
	BatchMean = pb.Reduction_REDUCTION_BATCHMEAN // over the size of dimension 0; KLDivergence only
)

// Kind is what the numbers of an input or a target are. The zero value is the default of each loss.
type Kind = pb.Kind

const (
	Logits           = pb.Kind_KIND_LOGITS
	LogProbabilities = pb.Kind_KIND_LOG_PROBABILITIES
	Probabilities    = pb.Kind_KIND_PROBABILITIES
	Counts           = pb.Kind_KIND_COUNTS
	Indices          = pb.Kind_KIND_INDICES
)

// EmptyMean is the mean of no losses. The zero value is NaN.
type EmptyMean = pb.EmptyMean

const (
	EmptyMeanNaN  = pb.EmptyMean_EMPTY_MEAN_NAN
	EmptyMeanZero = pb.EmptyMean_EMPTY_MEAN_ZERO
)

// Gradients are the tensors by which the loss is differentiated: Input | Target.
type Gradients uint

const (
	Input  Gradients = 1 << pb.Gradient_GRADIENT_INPUT
	Target Gradients = 1 << pb.Gradient_GRADIENT_TARGET
	Weight Gradients = 1 << pb.Gradient_GRADIENT_WEIGHT
)

// Outputs are what comes from the same pass over the logits, with an entry for each row: OutputLSE | OutputArgmax.
type Outputs uint

const (
	OutputLSE     Outputs = 1 << pb.Output_OUTPUT_LSE     // ln Σ exp x, in nats
	OutputEntropy Outputs = 1 << pb.Output_OUTPUT_ENTROPY // of softmax(x), in nats
	OutputArgmax  Outputs = 1 << pb.Output_OUTPUT_ARGMAX  // the first class with the greatest logit; -1 for a row with NaN
	OutputCorrect Outputs = 1 << pb.Output_OUTPUT_CORRECT // whether it is the target
)

// named are the wire's values of a set of bits.
func named[T ~int32, S ~uint](set S) (found []T) {
	for number := 0; set>>number != 0; number++ {
		if set>>number&1 != 0 {
			found = append(found, T(number))
		}
	}
	return found
}

// Ptr makes an option of a number: IgnoreIndex: lossd.Ptr(0). nil is PyTorch's default.
func Ptr[T any](v T) *T { return &v }

func int64Ptr(v *int) *int64 {
	if v == nil {
		return nil
	}
	return Ptr(int64(*v))
}

// Fields that all losses share: Reduction; Gradients to compute; GradOutput, the upstream gradient, of the loss's shape;
// Normalizer, which replaces the denominator of the mean; EmptyMean. nil options are the defaults.

type CrossEntropyOptions struct {
	Reduction   Reduction
	Gradients   Gradients // Input; for distributions also Target and Weight
	GradOutput  *Tensor
	Normalizer  *float64
	EmptyMean   EmptyMean
	Weight      *Tensor // of classes: float, (C)
	RowWeight   *Tensor // float, of the rows' shape
	Outputs     Outputs
	Kind        Kind     // Logits
	TargetKind  Kind     // Indices for integers, Probabilities for floats; or Counts
	Base        *float64 // of the logarithm: e
	IgnoreIndex *int     // -100

	LabelSmoothing float64
	ZLoss          float64  // κ: adds κ·(ln Σ exp x)²
	Softcap        *float64 // k: x becomes k·tanh(x/k)
}

type EntropyOptions struct {
	Reduction  Reduction
	Gradients  Gradients // Input
	GradOutput *Tensor
	Normalizer *float64
	EmptyMean  EmptyMean
	RowWeight  *Tensor  // float, of the rows' shape
	Kind       Kind     // Probabilities; or Logits, Counts
	Base       *float64 // of the logarithm: e
	Dim        *int     // the class dimension
}

type BCEOptions struct {
	Reduction  Reduction
	Gradients  Gradients // Input, Target
	GradOutput *Tensor
	Normalizer *float64
	EmptyMean  EmptyMean
	Weight     *Tensor // float, broadcasts to the input
}

type BCEWithLogitsOptions struct {
	Reduction  Reduction
	Gradients  Gradients // Input, Target
	GradOutput *Tensor
	Normalizer *float64
	EmptyMean  EmptyMean
	Weight     *Tensor // float, broadcasts to the input
	PosWeight  *Tensor // float, broadcasts to the input
}

type KLDivergenceOptions struct {
	Reduction  Reduction
	Gradients  Gradients // Input, Target
	GradOutput *Tensor
	Normalizer *float64
	EmptyMean  EmptyMean
	Kind       Kind     // LogProbabilities
	TargetKind Kind     // Probabilities
	Base       *float64 // of the logarithm: e
}

type NLLOptions struct {
	Reduction   Reduction
	Gradients   Gradients // Input
	GradOutput  *Tensor
	Normalizer  *float64
	EmptyMean   EmptyMean
	Weight      *Tensor // of classes: float, (C)
	IgnoreIndex *int    // -100
}

type SelfInformationOptions struct {
	Reduction  Reduction // None
	Gradients  Gradients // Input
	GradOutput *Tensor
	Normalizer *float64
	EmptyMean  EmptyMean
	Base       *float64 // of the logarithm: e
}

type SoftmaxOptions struct {
	Gradients  Gradients // Input
	GradOutput *Tensor
	Dim        *int // the class dimension
}

type SigmoidOptions struct {
	Gradients  Gradients // Input
	GradOutput *Tensor
}
