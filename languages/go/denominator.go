package lossd

import (
	"math"

	pb "lossd/lossdv1"
)

// denominator is that of a mean whose targets or row weights come in blocks: Σ r·w[y] over the rows that are not
// ignored. The server must be told, since it divides gradients by it from the first block on. nil: it is not needed.
//
// The wire's normalizer is finite and > 0. Where the sum is not, these tensors leave the blocks: they go whole, with the
// Open, and the server adds them itself.
func (e Evaluation) denominator(p *plan) *float64 {
	var target, weight, rowWeight *pb.Tensor
	var ignored *int64
	switch r := e.request.(type) {
	case *pb.CrossEntropyRequest:
		rowWeight = r.RowWeight
		if r.TargetKind == Indices || r.TargetKind == 0 && r.Target.GetDtype() < Float8E4M3FNType {
			target, weight, ignored = r.Target, r.Weight, r.IgnoreIndex
		}
	case *pb.NLLRequest:
		target, weight, ignored = r.Target, r.Weight, r.IgnoreIndex
	case *pb.EntropyRequest:
		rowWeight = r.RowWeight
	default:
		return nil
	}
	fields, reduction := e.request.ProtoReflect(), e.request.GetReduction()
	isMean := reduction == Mean || reduction == 0
	isCut := target != nil && p.cut["target"] != nil || p.cut["row_weight"] != nil
	if !isCut || !isMean || len(e.request.GetGradients()) == 0 || fields.Has(fields.Descriptor().Fields().ByName("normalizer")) {
		return nil
	}
	if sum := added(e.request.GetInput().Shape, target, weight, rowWeight, *or(ignored, -100)); sum > 0 && !math.IsInf(sum, 1) {
		return &sum
	}
	delete(p.cut, "row_weight")
	if target != nil {
		delete(p.cut, "target")
	}
	return nil
}

// added reads targets and row weights once, some items at a time, and adds as the server does. 0: they do not fit the
// input, which the server will say.
func added(shape []int64, target, weight, rowWeight *pb.Tensor, ignored int64) float64 {
	var byClass []float64
	if weight != nil {
		if byClass = (&Tensor{wire: weight}).Floats(); int64(len(byClass)) != shape[1] {
			return 0
		}
	}
	rows := int64(0)
	for _, one := range []*pb.Tensor{target, rowWeight} {
		if one == nil {
			continue
		}
		count, _ := elements(one.Shape)
		if len(one.Shape) == 0 || one.Shape[0] != shape[0] || rows != 0 && count != rows {
			return 0
		}
		rows = count
	}
	var sum compensated
	step := max(1, (1<<16)*shape[0]/max(1, rows))
	for first := int64(0); first < shape[0]; first += step {
		label, weights, here := func(int) int64 { return 0 }, []float64(nil), min(step, shape[0]-first)
		if target != nil {
			label = integers(&Tensor{wire: items(target, first, here)})
		}
		if rowWeight != nil {
			weights = (&Tensor{wire: items(rowWeight, first, here)}).Floats()
		}
		for row := 0; row < int(here*rows/shape[0]); row++ {
			y, w := label(row), 1.0
			if target != nil && (y == ignored || y < 0 || y >= shape[1]) {
				continue // a label that is no class fails its block on the server, which names it
			}
			if byClass != nil {
				w = byClass[y]
			}
			if weights != nil {
				w *= weights[row]
			}
			sum.add(w)
		}
	}
	return sum.total + sum.lost
}

// integers reads an element of a tensor of integers; of any other, 0.
func integers(t *Tensor) func(int) int64 {
	switch t.wire.Dtype {
	case Int64Type:
		return reading(t.Int64())
	case Int32Type:
		return reading(t.Int32())
	case Int16Type:
		return reading(t.Int16())
	case Int8Type:
		return reading(t.Int8())
	case Uint8Type:
		return reading(t.Uint8())
	}
	return func(int) int64 { return 0 }
}

func reading[T int64 | int32 | int16 | int8 | uint8](from []T) func(int) int64 {
	return func(i int) int64 { return int64(from[i]) }
}

// compensated is a sum from the left with what every addition rounds off (Neumaier).
type compensated struct{ total, lost float64 }

func (s *compensated) add(v float64) {
	sum := s.total + v
	if math.Abs(s.total) >= math.Abs(v) {
		s.lost += (s.total - sum) + v
	} else {
		s.lost += (v - sum) + s.total
	}
	s.total = sum
}
