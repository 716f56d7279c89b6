package live

import (
	"testing"
	"time"

	"lossd"
)

func cross(n, classes int, gradients lossd.Gradients) lossd.Evaluation {
	x, y := make([]float32, n*classes), make([]int64, n)
	for i := range x {
		x[i] = float32((i*7919)%10007)/1000 - 5
	}
	for i := range y {
		y[i] = int64(i * 31 % classes)
	}
	return lossd.CrossEntropy(lossd.Float32(x, n, classes), lossd.Int64(y, n), &lossd.CrossEntropyOptions{Gradients: gradients})
}

func perSecond(b *testing.B, start time.Time) {
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "calls/s")
}

func benchmarkCalls(b *testing.B, parallel int) {
	c, e := server(b, nil), cross(8, 16, 0)
	b.SetParallelism(parallel)
	b.ResetTimer()
	start := time.Now()
	b.RunParallel(func(turn *testing.PB) {
		for turn.Next() {
			if _, err := c.Evaluate(background, e); err != nil {
				b.Error(err)
			}
		}
	})
	perSecond(b, start)
}

// Calls of (8, 16), one after the other in each of as many goroutines as there are processors, and in 16 times as many.
func BenchmarkCalls(b *testing.B)     { benchmarkCalls(b, 1) }
func BenchmarkCallsMany(b *testing.B) { benchmarkCalls(b, 16) }

// Evaluations of (8, 16) through Map.
func BenchmarkMap(b *testing.B) {
	c, left := server(b, nil), b.N
	b.ResetTimer()
	start := time.Now()
	err := c.Map(background, func() (lossd.Evaluation, bool) {
		left--
		return cross(8, 16, 0), left >= 0
	}, func(_ int, _ *lossd.Result, err error) error { return err })
	if err != nil {
		b.Error(err)
	}
	perSecond(b, start)
}

func benchmarkLarge(b *testing.B, n, classes int, gradients lossd.Gradients) {
	c, e := server(b, nil), cross(n, classes, gradients)
	b.SetBytes(int64(4 * n * classes))
	b.ResetTimer()
	for i := 0; i < b.N; i++ {
		if _, err := c.Evaluate(background, e); err != nil {
			b.Error(err)
		}
	}
}

// MB/s of logits: (1024, 1000) in one message, (8192, 4096) in blocks; without and with the gradient.
func BenchmarkOneMessage(b *testing.B)         { benchmarkLarge(b, 1024, 1000, 0) }
func BenchmarkOneMessageGradient(b *testing.B) { benchmarkLarge(b, 1024, 1000, lossd.Input) }
func BenchmarkBlocks(b *testing.B)             { benchmarkLarge(b, 8192, 4096, 0) }
func BenchmarkBlocksGradient(b *testing.B)     { benchmarkLarge(b, 8192, 4096, lossd.Input) }
