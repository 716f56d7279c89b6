package lossd

import "context"

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
