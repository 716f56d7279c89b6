package main

import (
	"encoding/binary"
	"math"

	pb "lossd/lossdv1"
)

func logits(n, c int) []float32 {
	x := make([]float32, n*c)
	for i := range x {
		x[i] = float32(float64((i*7919)%10007)/1000 - 5)
	}
	return x
}

func rows(x []float32, n, c int) *pb.Tensor {
	data := make([]byte, 4*len(x))
	for i, v := range x {
		binary.LittleEndian.PutUint32(data[4*i:], math.Float32bits(v))
	}
	return &pb.Tensor{Dtype: pb.DataType_DATA_TYPE_FLOAT32, Shape: []int64{int64(n), int64(c)}, Storage: &pb.Tensor_Data{Data: data}}
}

func indices(y []int64) *pb.Tensor {
	data := make([]byte, 8*len(y))
	for i, v := range y {
		binary.LittleEndian.PutUint64(data[8*i:], uint64(v))
	}
	return &pb.Tensor{Dtype: pb.DataType_DATA_TYPE_INT64, Shape: []int64{int64(len(y))}, Storage: &pb.Tensor_Data{Data: data}}
}

func floats(t *pb.Tensor) []float32 {
	data := t.GetData()
	x := make([]float32, len(data)/4)
	for i := range x {
		x[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	return x
}

func request(n, c int) *pb.CrossEntropyRequest {
	y := make([]int64, n)
	for i := range y {
		y[i] = int64(i * 31 % c)
	}
	return &pb.CrossEntropyRequest{Input: rows(logits(n, c), n, c), Target: indices(y), Gradients: []pb.Gradient{pb.Gradient_GRADIENT_INPUT}}
}

// Open, the blocks, End.
func streamed(s shape) []*pb.StreamRequest {
	opened, x := request(s.n, s.c), logits(s.n, s.c)
	opened.Input.Storage = &pb.Tensor_Streamed{Streamed: &pb.Streamed{}}
	open := &pb.Open{EvaluationId: 1, Request: &pb.Open_CrossEntropy{CrossEntropy: opened}}
	messages := []*pb.StreamRequest{{Message: &pb.StreamRequest_Open{Open: open}}}
	for first := 0; first < s.n; first += s.items {
		k := s.items
		if s.n-first < k {
			k = s.n - first
		}
		block := &pb.Block{EvaluationId: 1, FirstItem: int64(first), Input: rows(x[first*s.c:(first+k)*s.c], k, s.c)}
		messages = append(messages, &pb.StreamRequest{Message: &pb.StreamRequest_Block{Block: block}})
	}
	return append(messages, &pb.StreamRequest{Message: &pb.StreamRequest_End{End: &pb.End{EvaluationId: 1}}})
}
