package lossd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"

	"strings"
	"testing"
	"time"

	rpccode "google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	pb "lossd/lossdv1"
)

// vectors is a file of tests/vectors, whose README says what is in it.
type vectors struct {
	RPC   string
	Cases []struct {
		Name    string
		Request json.RawMessage
		Stream  *struct {
			Tensors    []string
			BlockItems int64
		}
		Response *struct {
			Loss, InputGradient, TargetGradient, WeightGradient *wanted
			Outputs                                             map[string]*wanted
			Summary                                             *struct {
				LossSum, WeightSum *wanted
				Count              int64
			}
		}
		Error *struct{ Code, Reason, Field string }
	}
}

type wanted struct {
	DType      string
	Shape      []json.Number
	Values     []number
	Atol, Rtol float64
}

var snake = regexp.MustCompile("[A-Z]")

type number float64

func (n *number) UnmarshalJSON(text []byte) error {
	switch string(text) {
	case `"NaN"`:
		*n = number(math.NaN())
	case `"Infinity"`:
		*n = number(math.Inf(1))
	case `"-Infinity"`:
		*n = number(math.Inf(-1))
	default:
		return json.Unmarshal(text, (*float64)(n))
	}
	return nil
}

// server is the client of the live server at LOSSD_TEST_ADDRESS; without one the test is left out.
func server(t testing.TB) *Client {
	address := os.Getenv("LOSSD_TEST_ADDRESS")
	if address == "" {
		t.Skip("LOSSD_TEST_ADDRESS names no server")
	}
	c, err := Dial(address, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := c.ServerInfo(context.Background()); err != nil {
		t.Fatal(err)
	}
	return c
}

// Every vector gets its answer, or its error, from a live server: in one message, in blocks and from Map.
func TestVectors(t *testing.T) {
	c := server(t)
	files, _ := filepath.Glob(filepath.Join(os.Getenv("LOSSD_TEST_VECTORS"), "*.json"))
	if len(files) == 0 {
		t.Fatal("LOSSD_TEST_VECTORS has no vectors")
	}
	spoken := 0
	for _, path := range files {
		var file vectors
		text, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(text, &file)
		}
		if err != nil {
			t.Fatal(path, err)
		}
		for _, one := range file.Cases {
			one := one
			e, inWords := evaluationOf(t, file.RPC, one.Request)
			if inWords {
				spoken++
			}
			judge := func(t *testing.T, r *Result, err error) {
				if one.Error != nil {
					refused(t, err, one.Error.Code, one.Error.Reason, one.Error.Field)
				} else if err != nil {
					t.Fatal(err)
				} else {
					w, s := one.Response, one.Response.Summary
					compare(t, "loss", r.Loss, w.Loss)
					compare(t, "input gradient", r.Gradients.Input, w.InputGradient)
					compare(t, "target gradient", r.Gradients.Target, w.TargetGradient)
					compare(t, "weight gradient", r.Gradients.Weight, w.WeightGradient)
					compare(t, "lse", r.Outputs.LSE, w.Outputs["lse"])
					compare(t, "entropy", r.Outputs.Entropy, w.Outputs["entropy"])
					compare(t, "argmax", r.Outputs.Argmax, w.Outputs["argmax"])
					compare(t, "correct", r.Outputs.Correct, w.Outputs["correct"])
					if s != nil {
						compare(t, "loss_sum", Float64([]float64{r.Summary.LossSum}), s.LossSum)
						compare(t, "weight_sum", Float64([]float64{r.Summary.WeightSum}), s.WeightSum)
						if r.Summary.Count != s.Count {
							t.Errorf("count %d, not %d", r.Summary.Count, s.Count)
						}
					}
				}
			}
			name := strings.ReplaceAll(one.Name, "/", "÷")
			t.Run(file.RPC+"/"+name+"/unary", func(t *testing.T) {
				r, err := c.Evaluate(context.Background(), e)
				judge(t, r, err)
			})
			if inWords { // what is not may ask for blocks that would not come
				t.Run(file.RPC+"/"+name+"/map", func(t *testing.T) {
					err := c.Map(context.Background(), Slice([]Evaluation{e}), func(_ int, r *Result, err error) error {
						judge(t, r, err)
						return nil
					})
					if err != nil {
						t.Error(err)
					}
				})
			}
			if one.Stream != nil {
				t.Run(file.RPC+"/"+name+"/blocks", func(t *testing.T) {
					p := &plan{e.request.GetInput().Shape[0], one.Stream.BlockItems, map[string]*pb.Tensor{}}
					for _, field := range one.Stream.Tensors {
						field = snake.ReplaceAllStringFunc(field, func(s string) string { return "_" + strings.ToLower(s) })
						p.cut[field] = e.tensors()[field]
					}
					r, err := c.evaluateInBlocks(context.Background(), e, p, time.Now())
					judge(t, r, err)
				})
			}
		}
	}
	t.Log(spoken, "requests went through the options")
	if spoken < 400 {
		t.Errorf("only %d requests went through the options", spoken)
	}
}

func refused(t *testing.T, err error, code, reason, field string) {
	t.Helper()
	var failure *Error
	if !errors.As(err, &failure) {
		t.Fatalf("%v, not the error %s %s of %q", err, code, reason, field)
	}
	if got := rpccode.Code(failure.Code).String(); got != code || failure.Reason != reason || failure.Field != field {
		t.Errorf("%s %s of %q, not %s %s of %q: %v", got, failure.Reason, failure.Field, code, reason, field, failure)
	}
}

func compare(t *testing.T, what string, got *Tensor, want *wanted) {
	t.Helper()
	if got == nil || want == nil {
		if got != nil || want != nil {
			t.Errorf("%s: %v, not %v", what, got, want)
		}
		return
	}
	if got.DType().String() != want.DType || fmt.Sprint(got.Shape()) != fmt.Sprint(want.Shape) {
		t.Fatalf("%s: %v %v, not %s %v", what, got.DType(), got.Shape(), want.DType, want.Shape)
	}
	for i, v := range got.Floats() {
		w := float64(want.Values[i])
		if v != w && !(math.IsNaN(v) && math.IsNaN(w)) && !(math.Abs(v-w) <= want.Atol+want.Rtol*math.Abs(w)) {
			t.Fatalf("%s[%d]: %v, not %v", what, i, v, w)
		}
	}
}

// evaluationOf makes the request of the options that say the same. false: there are none, and the message itself is sent.
func evaluationOf(t *testing.T, rpc string, text []byte) (Evaluation, bool) {
	message := map[string]request{
		"Entropy": new(pb.EntropyRequest), "CrossEntropy": new(pb.CrossEntropyRequest), "BCE": new(pb.BCERequest),
		"BCEWithLogits": new(pb.BCEWithLogitsRequest), "KLDivergence": new(pb.KLDivergenceRequest), "NLL": new(pb.NLLRequest),
		"SelfInformation": new(pb.SelfInformationRequest), "Activation": new(pb.ActivationRequest),
	}[rpc]
	if err := protojson.Unmarshal(text, message); err != nil {
		t.Fatal(err)
	}
	for _, one := range (Evaluation{request: message}).tensors() {
		if one.GetStreamed() != nil || one.GetSharedMemory() != nil {
			return Evaluation{rpc: rpc, request: message}, false
		}
	}
	e := spoken(message)
	if e.request == nil || !(e.err != nil || proto.Equal(e.request, message)) {
		return Evaluation{rpc: rpc, request: message}, false
	}
	return e, true
}

func given(t *pb.Tensor) *Tensor {
	if t == nil {
		return nil
	}
	shape := make([]int, len(t.Shape))
	for i, length := range t.Shape {
		shape[i] = int(length)
	}
	return Raw(t.Dtype, t.GetData(), shape...)
}

func bits[T ~int32](values []T) (set uint) {
	for _, v := range values {
		set |= 1 << v
	}
	return set
}

func intPtr(v *int64) *int {
	if v == nil {
		return nil
	}
	return Ptr(int(*v))
}

func spoken(message request) Evaluation {
	g := Gradients(bits(message.GetGradients()))
	up := given(message.GetGradOutput())
	switch r := message.(type) {
	case *pb.EntropyRequest:
		return Entropy(given(r.Input), &EntropyOptions{r.Reduction, g, up, r.Normalizer, r.EmptyMean, given(r.RowWeight), r.Kind, r.Base, intPtr(r.Dim)})
	case *pb.CrossEntropyRequest:
		return CrossEntropy(given(r.Input), given(r.Target), &CrossEntropyOptions{
			r.Reduction, g, up, r.Normalizer, r.EmptyMean, given(r.Weight), given(r.RowWeight), Outputs(bits(r.Outputs)),
			r.Kind, r.TargetKind, r.Base, intPtr(r.IgnoreIndex), r.LabelSmoothing, r.ZLoss, r.Softcap})
	case *pb.BCERequest:
		return BCE(given(r.Input), given(r.Target), &BCEOptions{r.Reduction, g, up, r.Normalizer, r.EmptyMean, given(r.Weight)})
	case *pb.BCEWithLogitsRequest:
		return BCEWithLogits(given(r.Input), given(r.Target), &BCEWithLogitsOptions{r.Reduction, g, up, r.Normalizer, r.EmptyMean, given(r.Weight), given(r.PosWeight)})
	case *pb.KLDivergenceRequest:
		return KLDivergence(given(r.Input), given(r.Target), &KLDivergenceOptions{r.Reduction, g, up, r.Normalizer, r.EmptyMean, r.Kind, r.TargetKind, r.Base})
	case *pb.NLLRequest:
		return NLL(given(r.Input), given(r.Target), &NLLOptions{r.Reduction, g, up, r.Normalizer, r.EmptyMean, given(r.Weight), intPtr(r.IgnoreIndex)})
	case *pb.SelfInformationRequest:
		return SelfInformation(given(r.Input), &SelfInformationOptions{r.Reduction, g, up, r.Normalizer, r.EmptyMean, r.Base})
	case *pb.ActivationRequest:
		switch r.Function {
		case pb.ActivationFunction_ACTIVATION_FUNCTION_SOFTMAX:
			return Softmax(given(r.Input), &SoftmaxOptions{g, up, intPtr(r.Dim)})
		case pb.ActivationFunction_ACTIVATION_FUNCTION_LOG_SOFTMAX:
			return LogSoftmax(given(r.Input), &SoftmaxOptions{g, up, intPtr(r.Dim)})
		case pb.ActivationFunction_ACTIVATION_FUNCTION_SIGMOID:
			return Sigmoid(given(r.Input), &SigmoidOptions{g, up})
		case pb.ActivationFunction_ACTIVATION_FUNCTION_LOG_SIGMOID:
			return LogSigmoid(given(r.Input), &SigmoidOptions{g, up})
		}
	}
	return Evaluation{}
}
