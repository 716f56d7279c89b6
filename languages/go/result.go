package lossd

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	pb "lossd/lossdv1"
)

// Result is a loss, and what was asked for beside it; a nil Tensor was not.
type Result struct {
	// Loss is a scalar for Mean, Sum and BatchMean: Loss.Value(). Else it has the loss's own shape.
	Loss *Tensor
	// Gradients have their tensors' shapes and dtypes, float32 for 8-bit floats.
	Gradients struct{ Input, Target, Weight *Tensor }
	Outputs   struct{ LSE, Entropy, Argmax, Correct *Tensor }
	Summary   Summary
	Timing    Timing
}

// Summary is what a reduced loss is made of, whatever the reduction.
type Summary struct {
	LossSum   float64 // before any division
	WeightSum float64 // the denominator of the mean
	Count     int64   // rows that are not ignored; elements for elementwise losses
}

// Timing is where the time went: on the server, and in all.
type Timing struct {
	Queue, Compute           time.Duration
	BatchRequests, BatchRows int64
	Total                    time.Duration
}

// response is what the responses of all losses have.
type response interface {
	proto.Message
	GetLoss() *pb.Tensor
	GetInputGradient() *pb.Tensor
	GetTargetGradient() *pb.Tensor
	GetWeightGradient() *pb.Tensor
	GetOutputs() *pb.Outputs
	GetSummary() *pb.Summary
	GetTiming() *pb.Timing
}

// newResponse is an empty response to the evaluation, whose loss is r.
func (e Evaluation) newResponse() response {
	switch e.request.(type) {
	case *pb.EntropyRequest:
		return new(pb.EntropyResponse)
	case *pb.CrossEntropyRequest:
		return new(pb.CrossEntropyResponse)
	case *pb.BCERequest:
		return new(pb.BCEResponse)
	case *pb.BCEWithLogitsRequest:
		return new(pb.BCEWithLogitsResponse)
	case *pb.KLDivergenceRequest:
		return new(pb.KLDivergenceResponse)
	case *pb.NLLRequest:
		return new(pb.NLLResponse)
	case *pb.SelfInformationRequest:
		return new(pb.SelfInformationResponse)
	}
	return new(pb.ActivationResponse)
}

// responseOf is the response in a result of a stream; nil where there is none that is known.
func responseOf(r *pb.EvaluationResult) response {
	switch one := r.GetResponse().(type) {
	case *pb.EvaluationResult_Entropy:
		return one.Entropy
	case *pb.EvaluationResult_CrossEntropy:
		return one.CrossEntropy
	case *pb.EvaluationResult_Bce:
		return one.Bce
	case *pb.EvaluationResult_BceWithLogits:
		return one.BceWithLogits
	case *pb.EvaluationResult_KlDivergence:
		return one.KlDivergence
	case *pb.EvaluationResult_Nll:
		return one.Nll
	case *pb.EvaluationResult_SelfInformation:
		return one.SelfInformation
	case *pb.EvaluationResult_Activation:
		return one.Activation
	}
	return nil
}

// result reads an answer. blocks: tensors that came before it, by field.
func result(r response, blocks map[string]*pb.Tensor, start time.Time) (*Result, error) {
	got := &Result{}
	outputs := r.GetOutputs()
	for _, part := range []struct {
		field string
		sent  *pb.Tensor
		to    **Tensor
	}{
		{"loss", r.GetLoss(), &got.Loss},
		{"input_gradient", r.GetInputGradient(), &got.Gradients.Input},
		{"target_gradient", r.GetTargetGradient(), &got.Gradients.Target},
		{"weight_gradient", r.GetWeightGradient(), &got.Gradients.Weight},
		{"lse", outputs.GetLse(), &got.Outputs.LSE},
		{"entropy", outputs.GetEntropy(), &got.Outputs.Entropy},
		{"argmax", outputs.GetArgmax(), &got.Outputs.Argmax},
		{"correct", outputs.GetCorrect(), &got.Outputs.Correct},
	} {
		if whole := blocks[part.field]; whole != nil {
			part.sent = whole
		}
		if part.sent == nil {
			continue
		}
		if err := check(part.sent); err != nil {
			return nil, malformed(err.on(part.field).Message)
		}
		*part.to = &Tensor{wire: part.sent}
	}
	if got.Loss == nil {
		return nil, malformed("no loss")
	}
	s, t := r.GetSummary(), r.GetTiming()
	got.Summary = Summary{s.GetLossSum(), s.GetWeightSum(), s.GetCount()}
	got.Timing = Timing{time.Duration(t.GetQueueNs()), time.Duration(t.GetComputeNs()), t.GetBatchRequests(), t.GetBatchRows(), time.Since(start)}
	return got, nil
}

// String shows the loss and the shapes of what there is beside it.
func (r *Result) String() string {
	text := fmt.Sprintf("loss of shape %v", r.Loss.wire.Shape)
	if len(r.Loss.wire.Shape) == 0 {
		text = fmt.Sprintf("loss %.8g", r.Loss.Value())
	}
	return fmt.Sprintf("%s over %d", text, r.Summary.Count)
}
