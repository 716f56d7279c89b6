# frozen_string_literal: true

# One call, alone and in a stream, by whom and to whom the arguments or the environment say.
# usage: ruby ask.rb ADDRESS [ca=FILE] [cert=FILE key=FILE] [token=TOKEN | token_file=FILE] [tls=true]

require_relative "lossd"

address, *given = ARGV
options = given.to_h { |one| one.split("=", 2) }.transform_keys(&:to_sym)
options[:tls] = options[:tls] == "true"
begin
  request = Lossd::V1::CrossEntropyRequest.new(
    input: Lossd.tensor([[2, 0, -1], [0, 3, 0]]), target: Lossd.tensor([0, 1], dtype: :int64)
  )
  stub = Lossd.connect(address, **options)
  response = Lossd.call(stub, :cross_entropy, request, timeout: 3)
  streamed = Lossd.evaluate_many(stub, [{ cross_entropy: request }]).first.cross_entropy
  puts format("loss %.6f, streamed %.6f", Lossd.scalar(response.loss), Lossd.scalar(streamed.loss))
rescue Lossd::Error => e
  puts "#{e.code} #{e.reason} #{e.message}"
  exit 1
rescue ArgumentError => e
  puts "#{GRPC::Core::StatusCodes::INVALID_ARGUMENT} INVALID #{e.message}"
  exit 1
end
