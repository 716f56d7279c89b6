// Package lossd is a client of lossd, a service that computes losses, their gradients and what belongs to them.
//
//	client, err := lossd.Dial("127.0.0.1:50051", nil)
//	…
//	defer client.Close()
//	r, err := client.CrossEntropy(ctx, lossd.Float32(logits, n, c), lossd.Int64(labels, n),
//		&lossd.CrossEntropyOptions{LabelSmoothing: 0.1, Gradients: lossd.Input})
//	…
//	fmt.Println(r.Loss.Value(), r.Gradients.Input.Float32())
//
// Notation: x are logits, p probabilities, y class indices; N rows, C classes. A row is one distribution, along
// dimension 1 (0 of a one-dimensional input). An item is one index of dimension 0.
package lossd
