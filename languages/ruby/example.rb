# frozen_string_literal: true

# Every way to ask lossd from Ruby. usage: ruby example.rb 127.0.0.1:50051

require_relative "lossd"

include Lossd::V1 # the messages

def one_call(stub)
  request = CrossEntropyRequest.new(
    input: Lossd.tensor([[2, 0, -1], [0, 3, 0]]), target: Lossd.tensor([0, 1], dtype: :int64),
    gradients: [:GRADIENT_INPUT]
  )
  response = Lossd.call(stub, :cross_entropy, request, timeout: 5)
  gradient = Lossd.values(response.input_gradient)
  puts format("loss %.6f, first gradient %.6f", Lossd.scalar(response.loss), gradient.first)
end

def an_error(stub)
  request = CrossEntropyRequest.new(input: Lossd.tensor([[2, 0, -1]]), target: Lossd.tensor([7], dtype: :int64))
  Lossd.call(stub, :cross_entropy, request)
rescue Lossd::Error => e
  puts "#{e.reason}, field #{e.field}: #{e.message}"
end

def a_deadline(stub)
  input = Lossd.raw("\0" * 12_000_000, :float32, [3000, 1000])
  Lossd.call(stub, :entropy, EntropyRequest.new(input: input, kind: :KIND_LOGITS), timeout: 0.001)
rescue Lossd::Error => e
  puts e.code == GRPC::Core::StatusCodes::DEADLINE_EXCEEDED ? "the deadline is over" : e.message
end

# 40 MB of logits, which no single message takes, with their gradient: 524 rows are about 1 MiB.
def large(stub)
  rows, classes, items = 20_000, 500, 524
  logits = Array.new(rows * classes) { |i| i * 7919 % 10_007 / 1000.0 - 5 }.pack("e*")
  labels = Array.new(rows) { |i| i * 31 % classes }

  input = Tensor.new(dtype: :DATA_TYPE_FLOAT32, shape: [rows, classes], streamed: Streamed.new)
  request = CrossEntropyRequest.new(
    input: input, target: Lossd.tensor(labels, dtype: :int64), gradients: [:GRADIENT_INPUT]
  )
  sum = 0.0
  answered = ->(block) { sum += Lossd.values(block.input_gradient).sum(&:abs) }
  row = 4 * classes
  result = Lossd.evaluate_in_blocks(
    stub, Open.new(evaluation_id: 1, cross_entropy: request), rows, items, answered
  ) do |first, count|
    Block.new(input: Lossd.raw(logits.byteslice(first * row, count * row), :float32, [count, classes]))
  end
  loss = Lossd.scalar(result.cross_entropy.loss)
  puts format("loss of 20,000 rows %.5f, sum of |gradient| %.6f", loss, sum)
end

# Small evaluations: on one stream they cost no round trip each. One that fails is alone with it.
def many(stub)
  requests = Array.new(1000) do |i|
    target = Lossd.tensor([i == 500 ? 9 : 0], dtype: :int64)
    { cross_entropy: CrossEntropyRequest.new(input: Lossd.tensor([[i / 1000.0, 0, 0]]), target: target) }
  end
  results = Lossd.evaluate_many(stub, requests)
  failed = results.count { |one| one.response == :failure }
  last = Lossd.scalar(results.last.cross_entropy.loss)
  puts format("%d results, %d failed, the last loss %.6f", results.length, failed, last)
end

stub = Lossd.connect(ARGV.fetch(0, "127.0.0.1:50051"))
one_call(stub)
an_error(stub)
a_deadline(stub)
large(stub)
many(stub)
