// Package live has the tests of package lossd against a live server, by what it exports: LOSSD_TEST_ADDRESS.
package live

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"

	"lossd"
)

var background = context.Background()

// server is a client of the live server; without one the test is left out.
func server(t testing.TB, options *lossd.Options) *lossd.Client {
	address := os.Getenv("LOSSD_TEST_ADDRESS")
	if address == "" {
		t.Skip("LOSSD_TEST_ADDRESS names no server")
	}
	c, err := lossd.Dial(address, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := c.ServerInfo(background); err != nil {
		t.Fatal(err)
	}
	return c
}

// Each method of a client is the function of its name.
func TestVerbs(t *testing.T) {
	c := server(t, nil)
	x, p := lossd.Float32([]float32{2, 1, 0, 3}, 2, 2), lossd.Float32([]float32{.5, .5, .25, .75}, 2, 2)
	y := lossd.Int([]int{0, 1}, 2)
	for name, one := range map[string]struct {
		e    lossd.Evaluation
		verb func() (*lossd.Result, error)
	}{
		"CrossEntropy":    {lossd.CrossEntropy(x, y, nil), func() (*lossd.Result, error) { return c.CrossEntropy(background, x, y, nil) }},
		"Entropy":         {lossd.Entropy(p, nil), func() (*lossd.Result, error) { return c.Entropy(background, p, nil) }},
		"BCE":             {lossd.BCE(p, p, nil), func() (*lossd.Result, error) { return c.BCE(background, p, p, nil) }},
		"BCEWithLogits":   {lossd.BCEWithLogits(x, p, nil), func() (*lossd.Result, error) { return c.BCEWithLogits(background, x, p, nil) }},
		"KLDivergence":    {lossd.KLDivergence(x, p, nil), func() (*lossd.Result, error) { return c.KLDivergence(background, x, p, nil) }},
		"NLL":             {lossd.NLL(x, y, nil), func() (*lossd.Result, error) { return c.NLL(background, x, y, nil) }},
		"SelfInformation": {lossd.SelfInformation(p, nil), func() (*lossd.Result, error) { return c.SelfInformation(background, p, nil) }},
		"Softmax":         {lossd.Softmax(x, nil), func() (*lossd.Result, error) { return c.Softmax(background, x, nil) }},
		"LogSoftmax":      {lossd.LogSoftmax(x, nil), func() (*lossd.Result, error) { return c.LogSoftmax(background, x, nil) }},
		"Sigmoid":         {lossd.Sigmoid(x, nil), func() (*lossd.Result, error) { return c.Sigmoid(background, x, nil) }},
		"LogSigmoid":      {lossd.LogSigmoid(x, nil), func() (*lossd.Result, error) { return c.LogSigmoid(background, x, nil) }},
	} {
		want, err := c.Evaluate(background, one.e)
		got, verbErr := one.verb()
		if err != nil || verbErr != nil || !sameBits(got.Loss, want.Loss) {
			t.Error(name, got, want, err, verbErr)
		}
	}
}

// From a live server, blocks give the bits of one message: with gradients, class weights, row weights; where every row is
// ignored, and where weights add up to nothing.
func TestBlocks(t *testing.T) {
	stream, unary := server(t, &lossd.Options{Transport: lossd.Stream}), server(t, &lossd.Options{Transport: lossd.Unary})
	const n, classes = 150_000, 5 // the targets and row weights are cut, too: they have over 1 MiB
	x, y, r, w := make([]float32, n*classes), make([]int64, n), make([]float64, n), make([]int64, n)
	for i := range x {
		x[i] = float32((i*7919)%10007)/1000 - 5
	}
	for i := range y {
		y[i], r[i], w[i] = int64(i*31%classes), float64(i%17)/16, -100
	}
	input, target := lossd.Float32(x, n, classes), lossd.Int64(y, n)
	weights := lossd.Float32([]float32{.3, 1, 2, .1, .7}, classes)
	none := lossd.Float32(make([]float32, classes), classes)
	for i, e := range []lossd.Evaluation{
		lossd.CrossEntropy(input, target, nil),
		lossd.CrossEntropy(input, target, &lossd.CrossEntropyOptions{Gradients: lossd.Input, Outputs: lossd.OutputArgmax | lossd.OutputCorrect | lossd.OutputLSE}),
		lossd.CrossEntropy(input, target, &lossd.CrossEntropyOptions{Gradients: lossd.Input, Weight: weights, RowWeight: lossd.Float64(r, n), IgnoreIndex: lossd.Ptr(2)}),
		lossd.CrossEntropy(input, target, &lossd.CrossEntropyOptions{Gradients: lossd.Input, Weight: none}),
		lossd.CrossEntropy(input, lossd.Int64(w, n), &lossd.CrossEntropyOptions{Gradients: lossd.Input}),
		lossd.CrossEntropy(input, target, &lossd.CrossEntropyOptions{Reduction: lossd.None, Gradients: lossd.Input, GradOutput: lossd.Float64(r, n)}),
		lossd.NLL(input, target, &lossd.NLLOptions{Gradients: lossd.Input, Weight: weights}),
		lossd.Entropy(input, &lossd.EntropyOptions{Kind: lossd.Logits, Gradients: lossd.Input, RowWeight: lossd.Float64(r, n)}),
		lossd.KLDivergence(input, input, &lossd.KLDivergenceOptions{TargetKind: lossd.Logits, Gradients: lossd.Input | lossd.Target, Reduction: lossd.BatchMean}),
		lossd.BCEWithLogits(input, lossd.Bool(make([]bool, n*classes), n, classes), &lossd.BCEWithLogitsOptions{Gradients: lossd.Input, PosWeight: weights}),
		lossd.BCEWithLogits(input, lossd.Bool(make([]bool, n*classes), n, classes), &lossd.BCEWithLogitsOptions{Gradients: lossd.Input, Weight: input}),
		lossd.LogSoftmax(input, nil), lossd.Sigmoid(input, &lossd.SigmoidOptions{Gradients: lossd.Input}),
	} {
		whole, err := unary.Evaluate(background, e)
		if err != nil {
			t.Fatal(i, err)
		}
		cut, err := stream.Evaluate(background, e)
		if err != nil {
			t.Fatal(i, err)
		}
		cut.Timing, whole.Timing = lossd.Timing{}, lossd.Timing{}
		if a, b := fmt.Sprint(cut.Summary), fmt.Sprint(whole.Summary); a != b {
			t.Error(i, a, b)
		}
		if !sameBits(cut.Loss, whole.Loss) || !sameBits(cut.Gradients.Input, whole.Gradients.Input) || !sameBits(cut.Gradients.Target, whole.Gradients.Target) ||
			!sameBits(cut.Outputs.Argmax, whole.Outputs.Argmax) || !sameBits(cut.Outputs.Correct, whole.Outputs.Correct) || !sameBits(cut.Outputs.LSE, whole.Outputs.LSE) {
			t.Error(i, "other bits")
		}
	}
}

func sameBits(a, b *lossd.Tensor) bool {
	if a == nil || b == nil {
		return a == b
	}
	if a.DType() != b.DType() || !reflect.DeepEqual(a.Shape(), b.Shape()) {
		return false
	}
	want := b.Floats()
	for i, v := range a.Floats() {
		if math.Float64bits(v) != math.Float64bits(want[i]) && !(math.IsNaN(v) && math.IsNaN(want[i])) {
			return false
		}
	}
	return true
}

// An answer that is larger than what the client takes in a message comes in blocks.
func TestSmallMessages(t *testing.T) {
	c, x := server(t, &lossd.Options{MaxResponseBytes: 100_000}), lossd.Float32(make([]float32, 60_000), 600, 100)
	r, err := c.Softmax(background, x, nil)
	if err != nil || r.Loss.Float32()[59_999] != 0.01 {
		t.Error(r, err)
	}
	if _, err := c.Softmax(background, x, &lossd.SoftmaxOptions{Dim: lossd.Ptr(0)}); !errors.Is(err, lossd.ErrTooLarge) {
		t.Error(err)
	}
}

// A file that is mapped into memory is a tensor.
func TestMappedFile(t *testing.T) {
	c := server(t, nil)
	path := filepath.Join(t.TempDir(), "logits")
	if err := os.WriteFile(path, make([]byte, 12<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	memory, err := syscall.Mmap(int(file.Fd()), 0, 12<<20, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Munmap(memory)
	r, err := c.Entropy(background, lossd.Raw(lossd.Float32Type, memory, 3<<10, 1<<10), &lossd.EntropyOptions{Kind: lossd.Logits})
	if err != nil || math.Abs(r.Loss.Value()-math.Log(1<<10)) > 1e-6 {
		t.Error(r, err)
	}
}

// 20,000 evaluations of a live server are right, the wrong ones among them refused.
func TestMap(t *testing.T) {
	c := server(t, nil)
	const n = 20_000
	i, told := 0, 0
	next := func() (lossd.Evaluation, bool) {
		i++
		return lossd.CrossEntropy(lossd.Float32([]float32{float32(i%7) - 3, 0}, 1, 2), lossd.Int([]int{i % 1000 / 998 * (i % 5)}, 1), nil), i <= n
	}
	err := c.Map(background, next, func(index int, r *lossd.Result, err error) error {
		i := index + 1
		want, e := c2(float64(i%7)-3, i%1000/998*(i%5))
		if (err == nil) != e || e && (r.Loss.Value()-want > 1e-6 || want-r.Loss.Value() > 1e-6) {
			return fmt.Errorf("%d: %v %v, not %v", i, r, err, want)
		}
		told++
		return nil
	})
	if err != nil || told != n {
		t.Error(err, told)
	}
}

// c2 is the cross-entropy of (x, 0) with class y; false where there is no such class.
func c2(x float64, y int) (float64, bool) {
	if y > 1 {
		return 0, false
	}
	z := math.Log1p(math.Exp(x))
	if y == 0 {
		z -= x
	}
	return z, true
}
