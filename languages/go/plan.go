package lossd

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "lossd/lossdv1"
)

const (
	smallBytes  = 1 << 20 // up to here one message goes without asking for the server's limits
	streamBytes = 8 << 20 // from here on blocks are as fast as one message, whose memory is that of all of it
	blockBytes  = 5 << 18 // of the larger of a block and its answer
	wholeBytes  = 1 << 20 // tensors up to this size are sent once, with the Open, even where they could be cut
	headerBytes = 2048    // at most what a message has beside the elements of its tensors
)

// plan is how an evaluation falls into blocks of step items. cut: the tensors whose items are in the blocks.
type plan struct {
	items, step int64
	cut         map[string]*pb.Tensor
}

// tensors are those of the request, by field.
func (e Evaluation) tensors() map[string]*pb.Tensor {
	found := map[string]*pb.Tensor{}
	e.request.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		if field.Message() != nil && !field.IsList() {
			found[string(field.Name())] = value.Message().Interface().(*pb.Tensor)
		}
		return true
	})
	return found
}

func (e Evaluation) asksFor(g pb.Gradient) bool {
	for _, one := range e.request.GetGradients() {
		if one == g {
			return true
		}
	}
	return false
}

// isReduced says whether the loss is one number.
func (e Evaluation) isReduced() bool {
	byDefault := e.rpc != "SelfInformation" && e.rpc != "Activation"
	reduction := e.request.GetReduction()
	return reduction != None && (byDefault || reduction != 0)
}

// rowAxis is the dimension along which a row lies; false where every element is computed for itself.
func (e Evaluation) rowAxis() (int64, bool) {
	rank, rows, dim := int64(len(e.request.GetInput().GetShape())), true, (*int64)(nil)
	switch r := e.request.(type) {
	case *pb.BCERequest, *pb.BCEWithLogitsRequest, *pb.SelfInformationRequest:
		rows = false
	case *pb.KLDivergenceRequest:
		rows = r.Kind == Logits || r.Kind == Counts || r.TargetKind == Logits || r.TargetKind == Counts
	case *pb.ActivationRequest:
		dim, rows = r.Dim, r.Function < pb.ActivationFunction_ACTIVATION_FUNCTION_SIGMOID
	case *pb.EntropyRequest:
		dim = r.Dim
	}
	if dim != nil && rank > 0 {
		return (*dim%rank + rank) % rank, rows
	}
	return min(1, rank-1), rows
}

// answerBytes is at most the size of the answer.
func (e Evaluation) answerBytes() int64 {
	input := e.request.GetInput()
	count, _ := elements(input.GetShape())
	losses, perElement, perLoss := count, int64(0), int64(0)
	if axis, rows := e.rowAxis(); rows && e.rpc != "KLDivergence" && e.rpc != "Activation" && len(input.GetShape()) > 0 {
		losses = count / max(1, input.Shape[axis])
	}
	for _, gradient := range e.request.GetGradients() {
		perElement += 8
		if gradient == pb.Gradient_GRADIENT_INPUT && input.GetDtype() != Float64Type {
			perElement -= 4
		}
	}
	if !e.isReduced() {
		perLoss = 8
	}
	if r, ok := e.request.(*pb.CrossEntropyRequest); ok {
		perLoss += 8 * int64(len(r.Outputs))
	}
	return count*perElement + losses*perLoss + headerBytes
}

// route is the plan of an evaluation that is to be streamed; nil of one that goes in one message.
func (c *Client) route(ctx context.Context, e Evaluation) (*plan, error) {
	if err := e.fault(); err != nil {
		return nil, err
	}
	asked, request := c.options.Transport, int64(proto.Size(e.request))
	if asked != Stream && request <= smallBytes && e.answerBytes() <= min(smallBytes, int64(c.options.MaxResponseBytes)) {
		return nil, nil
	}
	info := c.info.Load()
	if info == nil {
		var err error
		if info, err = c.ServerInfo(ctx); err != nil {
			return nil, err
		}
	}
	most := info.GetLimits().GetMaxMessageBytes()
	if asked == Unary {
		return nil, tooLarge(request, most, "Transport is Unary")
	}
	mostAnswer := min(most, int64(c.options.MaxResponseBytes))
	blocks, whyNot := e.plan(info, mostAnswer)
	isLarge := request >= min(streamBytes, most) || e.answerBytes() >= min(streamBytes, mostAnswer)
	switch {
	case asked == Stream && blocks == nil:
		return nil, wrong("TRANSPORT_NOT_POSSIBLE", "the call cannot be streamed: "+whyNot).at("transport")
	case asked == Stream || blocks != nil && isLarge:
		return blocks, nil
	}
	return nil, tooLarge(request, most, whyNot)
}

// tooLarge is nil for a request that one message takes. Of its answer, the server knows before it computes.
func tooLarge(request, most int64, whyNot string) error {
	if request <= most || most == 0 {
		return nil
	}
	e := wrong("MESSAGE_TOO_LARGE", fmt.Sprintf("the request has %d bytes, the server takes %d in one message, and it cannot be streamed: %s", request, most, whyNot),
		"request_bytes", request, "max_message_bytes", most)
	e.Code = codes.ResourceExhausted
	return e.at("max_message_bytes")
}

// plan is how the evaluation can be streamed, or why it cannot. most: bytes of a message, either way.
func (e Evaluation) plan(info *pb.GetServerInfoResponse, most int64) (*plan, string) {
	input, mostItem := e.request.GetInput(), info.GetLimits().GetMaxItemBytes()
	axis, rows := e.rowAxis()
	switch {
	case mostItem == 0:
		return nil, "this server has no Stream"
	case len(input.GetData()) == 0:
		return nil, "the input is missing or empty"
	case axis < 0 || rows && axis == 0:
		return nil, "the input is one row, and only whole rows are sent"
	}
	p := &plan{items: input.Shape[0], cut: map[string]*pb.Tensor{}}
	count, _ := elements(input.Shape)
	grain, item := int64(1), int64(0)
	if inner := count / p.items; !rows {
		grain = max(1, (info.GetElementwiseGranularity()+inner-1)/inner)
	}
	for field, one := range e.tensors() {
		if field == "input" || e.isCut(field, one, min(wholeBytes, most/8)) {
			p.cut[field] = one
			item += int64(len(one.GetData())) / p.items
		}
	}
	if least := min(grain, p.items); least*item > mostItem {
		return nil, fmt.Sprintf("%d items (indices of dimension 0) have %d bytes, and the server's max_item_bytes is %d", least, least*item, mostItem)
	}
	step := min(blockBytes, most-headerBytes) / max(1, max(item, (e.answerBytes()-headerBytes)/p.items))
	p.step = max(grain, step/grain*grain)
	return p, ""
}

// isCut says whether a tensor beside the input goes in blocks: it has the input's items, and is large or has a gradient.
func (e Evaluation) isCut(field string, one *pb.Tensor, mostWhole int64) bool {
	shape := e.request.GetInput().Shape
	if len(one.Shape) == 0 || one.Shape[0] != shape[0] {
		return false
	}
	switch _, rows := e.rowAxis(); field {
	case "weight", "pos_weight":
		if rows || len(one.Shape) != len(shape) {
			return false
		}
	case "grad_output":
		if e.isReduced() {
			return false
		}
	}
	return int64(len(one.GetData())) > mostWhole || field == "target" && e.asksFor(pb.Gradient_GRADIENT_TARGET)
}

func min(a, b int64) int64 {
	if a < b {
		return a
	}
	return b
}

func max(a, b int64) int64 {
	if a > b {
		return a
	}
	return b
}
