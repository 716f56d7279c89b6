# frozen_string_literal: true

# Replays tests/vectors against a server: as unary calls, and in blocks. usage: ruby vectors.rb ADDRESS FILE…

require "json"
require_relative "lossd"

V1 = Lossd::V1
NAMES = GRPC::Core::StatusCodes.constants.to_h { |name| [GRPC::Core::StatusCodes.const_get(name), name.to_s] }
MINIFLOATS = { DATA_TYPE_FLOAT16: [5, 10], DATA_TYPE_BFLOAT16: [8, 7] }.freeze

def snake(name)
  name.gsub(/[A-Z]/) { |letter| "_#{letter.downcase}" }
end

# Tensors by their names on the wire, whichever message they came in.
class Answer
  attr_reader :tensors, :outputs, :summary
  attr_accessor :refusal

  def initialize
    @tensors, @outputs = {}, {}
  end

  def add(message)
    fields(message).each do |name, value|
      case value
      when V1::Tensor then append(@tensors, name, value)
      when V1::Outputs then fields(value).each { |output, tensor| append(@outputs, output, tensor) }
      when V1::Summary then @summary = value
      end
    end
  end

  private

  def fields(message)
    message.class.descriptor.to_h { |field| [field.name, field.get(message)] }.compact
  end

  # The next items of dimension 0.
  def append(to, name, part)
    before = to[name]
    to[name] = before.nil? ? part : V1::Tensor.new(
      dtype: part.dtype, shape: [before.shape[0] + part.shape[0], *part.shape.to_a.drop(1)], data: before.data + part.data
    )
  end
end

def refused(answer, error)
  answer.refusal = [NAMES[error.code], error.reason, error.field]
end

def unary(stub, method, request)
  answer = Answer.new
  answer.add(Lossd.call(stub, method, request))
  answer
rescue Lossd::Error => e
  refused(answer, e)
  answer
end

def in_blocks(stub, how, request)
  answer = Answer.new
  whole = how["tensors"].to_h { |name| [snake(name), request[snake(name)]] }
  opened = request.class.decode(request.class.encode(request))
  whole.each_key do |name|
    opened[name] = V1::Tensor.new(dtype: whole[name].dtype, shape: whole[name].shape.to_a, streamed: V1::Streamed.new)
  end
  field = V1::Open.descriptor.find { |one| one.type == :message && one.subtype == request.class.descriptor }
  open = V1::Open.new(evaluation_id: 1, field.name => opened)
  total = whole.fetch("input").shape[0]
  result = Lossd.evaluate_in_blocks(stub, open, total, how["blockItems"], answer.method(:add)) do |first, count|
    V1::Block.new(whole.transform_values { |tensor| items(tensor, first, count) })
  end
  answer.add(result[result.response.to_s])
  answer
rescue Lossd::Error => e
  refused(answer, e)
  answer
end

def items(tensor, first, count)
  size = tensor.data.bytesize / tensor.shape[0]
  data = tensor.data.byteslice(first * size, count * size)
  V1::Tensor.new(dtype: tensor.dtype, shape: [count, *tensor.shape.to_a.drop(1)], data: data)
end

# ---- Comparison: what is not as the vector says; "" where all is.

def numbers(tensor)
  bits = MINIFLOATS[tensor.dtype]
  bits ? Lossd.values(tensor).map { |one| of_bits(one, *bits) } : Lossd.values(tensor)
end

def of_bits(bits, exponent_bits, mantissa_bits)
  most = (1 << exponent_bits) - 1
  exponent, mantissa = bits >> mantissa_bits & most, bits & ((1 << mantissa_bits) - 1)
  sign = bits >> (exponent_bits + mantissa_bits) == 1 ? -1.0 : 1.0
  return mantissa.zero? ? sign * Float::INFINITY : Float::NAN if exponent == most

  mantissa += 1 << mantissa_bits if exponent.positive?
  sign * Math.ldexp(mantissa, [exponent, 1].max - (most >> 1) - mantissa_bits)
end

def wanted(value)
  { "NaN" => Float::NAN, "Infinity" => Float::INFINITY, "-Infinity" => -Float::INFINITY }.fetch(value, value).to_f
end

def right?(got, want, atol, rtol)
  got == want || (got.to_f.nan? && want.nan?) || (got - want).abs <= atol + rtol * want.abs
end

def compare(vector, got)
  if (error = vector["error"])
    return got.refusal == error.values_at("code", "reason", "field") ? "" : "refused with #{got.refusal.inspect}"
  end
  return "refused with #{got.refusal.inspect}" if got.refusal

  want = vector["response"]
  summary = want["summary"]
  wrong = compare_all(want.reject { |name, _| %w[outputs summary].include?(name) }, got.tensors)
  wrong += compare_all(want["outputs"] || {}, got.outputs)
  return "#{wrong} a summary on one side only" if summary.nil? != got.summary.nil?
  return wrong unless summary

  wrong += " another count" if got.summary.count != summary["count"]
  wrong + compare_numbers("lossSum", summary["lossSum"], [got.summary.loss_sum]) +
    compare_numbers("weightSum", summary["weightSum"], [got.summary.weight_sum])
end

def compare_all(want, got)
  names = want.keys.map { |name| snake(name) }
  return "#{got.keys} instead of #{names}" if names.sort != got.keys.sort

  want.sum("") do |name, expected|
    tensor = got[snake(name)]
    same = tensor.dtype.to_s == expected["dtype"] && tensor.shape.map(&:to_s) == expected["shape"]
    same ? compare_numbers(name, expected, numbers(tensor)) : "#{name} is #{tensor.dtype} of #{tensor.shape.to_a}"
  end
end

def compare_numbers(name, want, got)
  return "#{name} has #{got.length} elements" if got.length != want["values"].length

  got.zip(want["values"]).each_with_index do |(one, value), i|
    return "#{name}[#{i}] is #{one} instead of #{value}" unless right?(one, wanted(value), want["atol"], want["rtol"])
  end
  ""
end

stub = Lossd.connect(ARGV.shift)
counts = { true => 0, false => 0 }
ARGV.each do |path|
  document = JSON.parse(File.read(path))
  rpc = V1::LossService::Service.rpc_descs.fetch(document["rpc"].to_sym)
  method = GRPC::GenericService.underscore(document["rpc"])
  document["cases"].each do |vector|
    request = rpc.input.decode_json(JSON.generate(vector["request"]))
    ways = { "unary" => -> { unary(stub, method, request) } }
    ways["in blocks"] = -> { in_blocks(stub, vector["stream"], request) } if vector["stream"]
    ways.each do |way, ask|
      wrong = compare(vector, ask.call)
      counts[wrong.empty?] += 1
      puts "#{path}: #{vector["name"]}, #{way}: #{wrong}" unless wrong.empty?
    end
  end
end
puts "#{counts[true]} passed, #{counts[false]} failed"
exit(counts[false].zero? && counts[true].positive?)
