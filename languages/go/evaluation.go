package lossd

import (
	"context"

	"google.golang.org/protobuf/proto"

	pb "lossd/lossdv1"
)

// Evaluation is a loss with its tensors and options, ready to be computed: by Client.Evaluate, or many by Client.Map.
type Evaluation struct {
	rpc     string
	request request
	err     *Error // a tensor that was made wrong
}

// request is what the requests of all losses have.
type request interface {
	proto.Message
	GetInput() *pb.Tensor
	GetGradients() []pb.Gradient
	GetReduction() pb.Reduction
	GetGradOutput() *pb.Tensor
}

// fault is what is wrong with the evaluation before anything is sent.
func (e Evaluation) fault() error {
	if e.request == nil {
		return wrong("MISSING_FIELD", "an Evaluation is what CrossEntropy, Entropy, … make; this one is empty").at("request")
	}
	if e.err != nil {
		return e.err
	}
	return nil
}

// operands collects what is wrong with the tensors of a request.
type operands struct{ err *Error }

func (o *operands) wire(field string, t *Tensor) *pb.Tensor {
	if t == nil {
		return nil
	}
	if t.err != nil && o.err == nil {
		o.err = t.err.on(field)
	}
	return t.wire
}

// or is what is there, or otherwise; without that, the zero value.
func or[T any](given *T, otherwise ...T) *T {
	if given != nil {
		return given
	}
	return &append(otherwise, *new(T))[0]
}

// CrossEntropy of logits x with class indices, or distributions: -ln softmax(x)[y], or -Σ t ln softmax(x), of each row.
func CrossEntropy(input, target *Tensor, options *CrossEntropyOptions) Evaluation {
	o, t := or(options), operands{}
	r := &pb.CrossEntropyRequest{
		Input: t.wire("input", input), Target: t.wire("target", target),
		Weight: t.wire("weight", o.Weight), RowWeight: t.wire("row_weight", o.RowWeight),
		Reduction: o.Reduction, Gradients: named[pb.Gradient](o.Gradients),
		GradOutput: t.wire("grad_output", o.GradOutput), Normalizer: o.Normalizer, EmptyMean: o.EmptyMean,
		Outputs: named[pb.Output](o.Outputs), Kind: o.Kind, TargetKind: o.TargetKind, Base: o.Base,
		IgnoreIndex: int64Ptr(o.IgnoreIndex), LabelSmoothing: o.LabelSmoothing, ZLoss: o.ZLoss, Softcap: o.Softcap,
	}
	return Evaluation{"CrossEntropy", r, t.err}
}

// Entropy of probabilities (or logits, or counts): -Σ p ln p of each row.
func Entropy(input *Tensor, options *EntropyOptions) Evaluation {
	o, t := or(options), operands{}
	r := &pb.EntropyRequest{
		Input: t.wire("input", input), RowWeight: t.wire("row_weight", o.RowWeight),
		Reduction: o.Reduction, Gradients: named[pb.Gradient](o.Gradients),
		GradOutput: t.wire("grad_output", o.GradOutput), Normalizer: o.Normalizer, EmptyMean: o.EmptyMean,
		Kind: o.Kind, Base: o.Base, Dim: int64Ptr(o.Dim),
	}
	return Evaluation{"Entropy", r, t.err}
}

// BCE of probabilities p: -[t ln p + (1-t) ln(1-p)] of each element.
func BCE(input, target *Tensor, options *BCEOptions) Evaluation {
	o, t := or(options), operands{}
	r := &pb.BCERequest{
		Input: t.wire("input", input), Target: t.wire("target", target), Weight: t.wire("weight", o.Weight),
		Reduction: o.Reduction, Gradients: named[pb.Gradient](o.Gradients),
		GradOutput: t.wire("grad_output", o.GradOutput), Normalizer: o.Normalizer, EmptyMean: o.EmptyMean,
	}
	return Evaluation{"BCE", r, t.err}
}

// BCEWithLogits is BCE of p = 1 / (1 + exp(-x)).
func BCEWithLogits(input, target *Tensor, options *BCEWithLogitsOptions) Evaluation {
	o, t := or(options), operands{}
	r := &pb.BCEWithLogitsRequest{
		Input: t.wire("input", input), Target: t.wire("target", target),
		Weight: t.wire("weight", o.Weight), PosWeight: t.wire("pos_weight", o.PosWeight),
		Reduction: o.Reduction, Gradients: named[pb.Gradient](o.Gradients),
		GradOutput: t.wire("grad_output", o.GradOutput), Normalizer: o.Normalizer, EmptyMean: o.EmptyMean,
	}
	return Evaluation{"BCEWithLogits", r, t.err}
}

// KLDivergence of the target p from the input's q (as log-probabilities): p (ln p - ln q) of each element.
func KLDivergence(input, target *Tensor, options *KLDivergenceOptions) Evaluation {
	o, t := or(options), operands{}
	r := &pb.KLDivergenceRequest{
		Input: t.wire("input", input), Target: t.wire("target", target),
		Reduction: o.Reduction, Gradients: named[pb.Gradient](o.Gradients),
		GradOutput: t.wire("grad_output", o.GradOutput), Normalizer: o.Normalizer, EmptyMean: o.EmptyMean,
		Kind: o.Kind, TargetKind: o.TargetKind, Base: o.Base,
	}
	return Evaluation{"KLDivergence", r, t.err}
}

// NLL of log-probabilities u with class indices: -u[y] of each row.
func NLL(input, target *Tensor, options *NLLOptions) Evaluation {
	o, t := or(options), operands{}
	r := &pb.NLLRequest{
		Input: t.wire("input", input), Target: t.wire("target", target), Weight: t.wire("weight", o.Weight),
		Reduction: o.Reduction, Gradients: named[pb.Gradient](o.Gradients),
		GradOutput: t.wire("grad_output", o.GradOutput), Normalizer: o.Normalizer, EmptyMean: o.EmptyMean,
		IgnoreIndex: int64Ptr(o.IgnoreIndex),
	}
	return Evaluation{"NLL", r, t.err}
}

// SelfInformation of probabilities: -ln p of each element.
func SelfInformation(input *Tensor, options *SelfInformationOptions) Evaluation {
	o, t := or(options), operands{}
	r := &pb.SelfInformationRequest{
		Input: t.wire("input", input), Reduction: o.Reduction, Gradients: named[pb.Gradient](o.Gradients),
		GradOutput: t.wire("grad_output", o.GradOutput), Normalizer: o.Normalizer, EmptyMean: o.EmptyMean, Base: o.Base,
	}
	return Evaluation{"SelfInformation", r, t.err}
}

// The values of an activation are its Result's Loss, of the input's shape and dtype.

func Softmax(input *Tensor, options *SoftmaxOptions) Evaluation {
	return softmax(input, options, pb.ActivationFunction_ACTIVATION_FUNCTION_SOFTMAX)
}

func LogSoftmax(input *Tensor, options *SoftmaxOptions) Evaluation {
	return softmax(input, options, pb.ActivationFunction_ACTIVATION_FUNCTION_LOG_SOFTMAX)
}

func Sigmoid(input *Tensor, options *SigmoidOptions) Evaluation {
	o := or(options)
	return softmax(input, &SoftmaxOptions{Gradients: o.Gradients, GradOutput: o.GradOutput}, pb.ActivationFunction_ACTIVATION_FUNCTION_SIGMOID)
}

func LogSigmoid(input *Tensor, options *SigmoidOptions) Evaluation {
	o := or(options)
	return softmax(input, &SoftmaxOptions{Gradients: o.Gradients, GradOutput: o.GradOutput}, pb.ActivationFunction_ACTIVATION_FUNCTION_LOG_SIGMOID)
}

func softmax(input *Tensor, options *SoftmaxOptions, function pb.ActivationFunction) Evaluation {
	o, t := or(options), operands{}
	r := &pb.ActivationRequest{
		Input: t.wire("input", input), Gradients: named[pb.Gradient](o.Gradients),
		GradOutput: t.wire("grad_output", o.GradOutput), Function: function, Dim: int64Ptr(o.Dim),
	}
	return Evaluation{"Activation", r, t.err}
}

// open is the evaluation as a message of a stream.
func (e Evaluation) open(id uint64) *pb.Open {
	o := &pb.Open{EvaluationId: id}
	switch r := e.request.(type) {
	case *pb.EntropyRequest:
		o.Request = &pb.Open_Entropy{Entropy: r}
	case *pb.CrossEntropyRequest:
		o.Request = &pb.Open_CrossEntropy{CrossEntropy: r}
	case *pb.BCERequest:
		o.Request = &pb.Open_Bce{Bce: r}
	case *pb.BCEWithLogitsRequest:
		o.Request = &pb.Open_BceWithLogits{BceWithLogits: r}
	case *pb.KLDivergenceRequest:
		o.Request = &pb.Open_KlDivergence{KlDivergence: r}
	case *pb.NLLRequest:
		o.Request = &pb.Open_Nll{Nll: r}
	case *pb.SelfInformationRequest:
		o.Request = &pb.Open_SelfInformation{SelfInformation: r}
	case *pb.ActivationRequest:
		o.Request = &pb.Open_Activation{Activation: r}
	}
	return o
}

// These compute the loss whose function has the same name, as Evaluate does. Errors are *Error.

func (c *Client) CrossEntropy(ctx context.Context, input, target *Tensor, options *CrossEntropyOptions) (*Result, error) {
	return c.Evaluate(ctx, CrossEntropy(input, target, options))
}

func (c *Client) Entropy(ctx context.Context, input *Tensor, options *EntropyOptions) (*Result, error) {
	return c.Evaluate(ctx, Entropy(input, options))
}

func (c *Client) BCE(ctx context.Context, input, target *Tensor, options *BCEOptions) (*Result, error) {
	return c.Evaluate(ctx, BCE(input, target, options))
}

func (c *Client) BCEWithLogits(ctx context.Context, input, target *Tensor, options *BCEWithLogitsOptions) (*Result, error) {
	return c.Evaluate(ctx, BCEWithLogits(input, target, options))
}

func (c *Client) KLDivergence(ctx context.Context, input, target *Tensor, options *KLDivergenceOptions) (*Result, error) {
	return c.Evaluate(ctx, KLDivergence(input, target, options))
}

func (c *Client) NLL(ctx context.Context, input, target *Tensor, options *NLLOptions) (*Result, error) {
	return c.Evaluate(ctx, NLL(input, target, options))
}

func (c *Client) SelfInformation(ctx context.Context, input *Tensor, options *SelfInformationOptions) (*Result, error) {
	return c.Evaluate(ctx, SelfInformation(input, options))
}

func (c *Client) Softmax(ctx context.Context, input *Tensor, options *SoftmaxOptions) (*Result, error) {
	return c.Evaluate(ctx, Softmax(input, options))
}

func (c *Client) LogSoftmax(ctx context.Context, input *Tensor, options *SoftmaxOptions) (*Result, error) {
	return c.Evaluate(ctx, LogSoftmax(input, options))
}

func (c *Client) Sigmoid(ctx context.Context, input *Tensor, options *SigmoidOptions) (*Result, error) {
	return c.Evaluate(ctx, Sigmoid(input, options))
}

func (c *Client) LogSigmoid(ctx context.Context, input *Tensor, options *SigmoidOptions) (*Result, error) {
	return c.Evaluate(ctx, LogSigmoid(input, options))
}
