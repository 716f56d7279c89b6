# frozen_string_literal: true

# What can go wrong: errors, deadlines, large answers, streams that fail or answer in another order, a server that goes.
# usage: ruby tests.rb ADDRESS

require "open3"
require "tmpdir"
require_relative "lossd"

V1 = Lossd::V1
ADDRESS = ARGV.fetch(0)
STUB = Lossd.connect(ADDRESS)
CODES = GRPC::Core::StatusCodes
COUNTS = { passed: 0, failed: 0 }

def test(fact)
  wrong = yield ? "" : "it is not so"
rescue StandardError => e
  wrong = "#{e.class}: #{e.message}"
ensure
  COUNTS[wrong.empty? ? :passed : :failed] += 1
  puts "FAILED #{fact}: #{wrong}" unless wrong.empty?
end

# What is raised.
def raised(kind = Lossd::Error)
  yield
  raise "nothing was raised"
rescue kind => e
  e
end

def zeros(rows, classes)
  V1::CrossEntropyRequest.new(
    input: Lossd.raw("\0" * (4 * rows * classes), :float32, [rows, classes]),
    target: Lossd.raw("\0" * (8 * rows), :int64, [rows]), gradients: [:GRADIENT_INPUT]
  )
end

def ask(rows, classes, stub = STUB, **how)
  Lossd.call(stub, :cross_entropy, zeros(rows, classes), **how)
end

# 1000 rows of 100 zeros; row `wrong` has a class that there is not.
def in_blocks(wrong, answered, broken: -1)
  labels = Array.new(1000) { |i| i == wrong ? 100 : 0 }
  request = zeros(1000, 100)
  request.normalizer = 1000 # of a gradient whose targets are streamed
  request.input.streamed = V1::Streamed.new
  request.target.streamed = V1::Streamed.new
  open = V1::Open.new(evaluation_id: 7, cross_entropy: request)
  Lossd.evaluate_in_blocks(STUB, open, 1000, 64, answered) do |first, count|
    raise ZeroDivisionError, "mine" if first == broken

    V1::Block.new(
      input: Lossd.raw("\0" * (400 * count), :float32, [count, 100]),
      target: Lossd.tensor(labels[first, count], dtype: :int64)
    )
  end
end

# Answers every second evaluation before the one before it, and loses those from LOST on.
class OtherOrder < V1::LossService::Service
  LOST = [1000]

  def stream(requests, _call)
    Enumerator.new do |out|
      requests.each_slice(2) do |pair|
        pair.reverse.map { |one| one.opens.opens.first.evaluation_id }.each do |id|
          response = V1::CrossEntropyResponse.new(loss: Lossd.tensor(id.to_f))
          result = V1::EvaluationResult.new(evaluation_id: id, cross_entropy: response)
          out << V1::StreamResponse.new(result: result) if id < LOST.first
        end
      end
    end
  end
end

# The answers to a message of a stream: to each evaluation that has come whole.
def answers_to(message)
  ids = message.opens ? message.opens.opens.map(&:evaluation_id) : [message.end&.evaluation_id].compact
  ids.map { |id| V1::StreamResponse.new(result: V1::EvaluationResult.new(evaluation_id: id)) }
end

# Answers the first message of a stream and goes.
class Gone < V1::LossService::Service
  attr_reader :streams

  def stream(requests, _call)
    @streams = (@streams || 0) + 1
    Enumerator.new do |out|
      answers_to(requests.next).each { |one| out << one }
      raise GRPC::Unavailable, "going away"
    end
  end
end

# Refuses the first two calls, streams after so many messages, and remembers what they announced.
class Refusing < V1::LossService::Service
  attr_reader :calls, :announced

  def initialize(refusal, taken = 0)
    super()
    @refusal, @taken, @calls = refusal, taken, 0
  end

  def stream(requests, _call)
    @calls += 1
    if @calls <= 2
      @taken.times { requests.next }
      raise @refusal
    end
    Enumerator.new { |out| requests.each { |message| answers_to(message).each { |one| out << one } } }
  end

  def cross_entropy(_request, call)
    @announced = call.metadata["lossd-request-bytes"]
    @calls += 1
    raise @refusal if @calls <= 2

    V1::CrossEntropyResponse.new(loss: Lossd.tensor(1.0))
  end
end

# after: seconds; nil for good.
def full(after)
  delay = Google::Protobuf::Duration.new(nanos: (after.to_f * 1e9).to_i)
  details = after ? [Google::Protobuf::Any.pack(Google::Rpc::RetryInfo.new(retry_delay: delay))] : []
  status = Google::Rpc::Status.new(code: CODES::RESOURCE_EXHAUSTED, message: "full", details: details)
  GRPC::ResourceExhausted.new("full", { "grpc-status-details-bin" => Google::Rpc::Status.encode(status) })
end

# Remembers what each call, and stream, shows of its caller.
class Showing < V1::LossService::Service
  attr_reader :shown

  def initialize
    super
    @shown = []
  end

  def cross_entropy(_request, call)
    @shown << call.metadata["authorization"]
    V1::CrossEntropyResponse.new
  end

  def stream(requests, call)
    @shown << call.metadata["authorization"]
    Enumerator.new { |out| requests.each { |message| answers_to(message).each { |one| out << one } } }
  end
end

# Yields a stub of a server with that service. how: arguments of `connect`.
def served(service, **how)
  server = GRPC::RpcServer.new
  port = server.add_http2_port("127.0.0.1:0", :this_port_is_insecure)
  server.handle(service)
  thread = Thread.new { server.run }
  server.wait_till_running
  yield Lossd.connect("127.0.0.1:#{port}", **how)
ensure
  server.stop
  thread.join
end

def many_from(service, count = 100)
  served(service) { |stub| Lossd.evaluate_many(stub, Array.new(count) { { cross_entropy: zeros(1, 2) } }) }
end

# One evaluation in three blocks: its result, and the first items of the blocks that were made.
def three_blocks_from(service)
  made = []
  result = served(service) do |stub|
    Lossd.evaluate_in_blocks(stub, V1::Open.new(evaluation_id: 7), 3, 1, ->(_) {}) do |first, _|
      made << first
      V1::Block.new
    end
  end
  [result, made]
end

test "the example prints what it should" do
  folder = $LOAD_PATH.find { |one| File.exist?("#{one}/lossd/v1/service_pb.rb") }
  said, status = Open3.capture2e("ruby", "-I#{folder}", "#{__dir__}/example.rb", ADDRESS)
  raise said unless status.success?

  ["loss 0.132384, first gradient -0.078103\n", "CLASS_OUT_OF_RANGE, field target: target[0] = 7",
   "the deadline is over\n", "loss of 20,000 rows 8.90846, sum of |gradient| 1.995980\n",
   "1000 results, 1 failed, the last loss 0.551869\n"].all? { |part| said.include?(part) || raise(said) }
end
test("an empty mean is NaN") { Lossd.scalar(ask(0, 3).loss).nan? }
test "NaN in a row is NaN" do
  request = V1::EntropyRequest.new(input: Lossd.tensor([[Float::NAN, 1]]), kind: :KIND_LOGITS)
  Lossd.scalar(Lossd.call(STUB, :entropy, request).loss).nan?
end
test("nested arrays have their shape") { Lossd.tensor([[[1, 2]], [[3, 4]]]).shape.to_a == [2, 1, 2] }
test("a number is a scalar") { Lossd.tensor(1.5).shape.to_a == [] && Lossd.scalar(Lossd.tensor(1.5)) == 1.5 }
test "elements lie little-endian, and come back, in every dtype" do
  Lossd.tensor([258], dtype: :int32).data == "\x02\x01\0\0".b && Lossd.tensor([true, false], dtype: :bool).data == "\1\0" &&
    Lossd::PACKING.each_key.all? { |dtype| Lossd.values(Lossd.tensor([1, 0], dtype: dtype)) == [1, 0] }
end
test("ragged rows are refused") { raised(ArgumentError) { Lossd.tensor([[1, 2], [3]]) } }
test("a wrong shape is refused") { raised(ArgumentError) { Lossd.tensor([1, 2, 3], shape: [2, 2]) } }
test("a dtype that there is not is refused") { raised(KeyError) { Lossd.tensor([1], dtype: :float23) } }
test("a misspelt option is refused") { raised(ArgumentError) { V1::EntropyRequest.new(bases: 2) } }
test("so is a misspelt value") { raised(RangeError) { V1::EntropyRequest.new(kind: :KIND_LOGIT) } }
test("a gradient of 16 MB arrives") { ask(4000, 1000).input_gradient.data.bytesize == 16_000_000 }
test "without `connect` it would not: every gRPC library takes 4 MiB" do
  plain = V1::LossService::Stub.new(ADDRESS, :this_channel_is_insecure)
  raised { ask(4000, 1000, plain) }.code == CODES::RESOURCE_EXHAUSTED
end
test("20 MB in one message are refused") { raised { ask(5000, 1000) }.code == CODES::RESOURCE_EXHAUSTED }
test "where nothing listens a call is UNAVAILABLE" do
  raised { ask(1, 2, Lossd.connect("127.0.0.1:1"), timeout: 0.3) }.code == CODES::UNAVAILABLE
end
test "a call, and a stream, shows what the token's file holds then; one that holds none any more changes nothing" do
  service = Showing.new
  Dir.mktmpdir do |folder|
    File.write(file = "#{folder}/token", "first\n")
    served(service, token_file: file) do |stub|
      ["first\n", "other", "", "one\ntwo", nil, " last==\r\n"].each do |content|
        content ? File.write(file, content) : File.delete(file)
        ask(1, 2, stub)
        Lossd.evaluate_many(stub, [{ cross_entropy: zeros(1, 2) }])
      end
    end
  end
  service.shown == %w[first other other other other last==].flat_map { |one| ["Bearer #{one}"] * 2 }
end
test "a file that holds no token is named, and not what it holds; a token and its file are too many" do
  Dir.mktmpdir do |folder|
    refusal = ->(**given) { raised(ArgumentError) { Lossd.connect("127.0.0.1:1", **given) }.message }
    told = ["", "\n", "secret\n2", "=secret", "\0secret", "s" * 20_000].all? do |content|
      File.write(file = "#{folder}/token", content)
      what = content.strip.empty? ? "is empty" : "holds something else than one token"
      refusal.call(token_file: file) == "token_file = #{file} #{what}"
    end
    unread = [folder, "#{folder}/none"].all? { |one| refusal.call(token_file: one).include?("#{one} cannot be read") }
    told && unread && refusal.call(token: "given", token_file: "#{folder}/token").end_with?("not both")
  end
end
test "a server that is full for now, or going, is asked again, with the request's size" do
  [full(0.02), GRPC::Unavailable.new("going away")].all? do |refusal|
    service = Refusing.new(refusal)
    loss = served(service) { |stub| Lossd.scalar(ask(1, 2, stub).loss) }
    [loss, service.calls, service.announced] == [1, 3, V1::CrossEntropyRequest.encode(zeros(1, 2)).bytesize.to_s]
  end
end
test "a refusal for good is not repeated, nor one that outlasts the deadline" do
  [[full(nil), 10], [full(0.9), 0.5]].all? do |refusal, timeout|
    service = Refusing.new(refusal)
    error = served(service) { |stub| raised { ask(1, 2, stub, timeout: timeout) } }
    [error.code, service.calls] == [CODES::RESOURCE_EXHAUSTED, 1]
  end
end
test "blocks give every row its gradient" do
  rows = 0
  result = in_blocks(-1, ->(block) { rows += block.input_gradient.shape[0] })
  rows == 1000 && (Lossd.scalar(result.cross_entropy.loss) - Math.log(100)).abs < 1e-5
end
test "a class that there is not, in a middle block, is an Error with reason and field" do
  error = raised { in_blocks(500, ->(_) {}) }
  [error.code, error.reason, error.field] == [CODES::INVALID_ARGUMENT, "CLASS_OUT_OF_RANGE", "target"]
end
test "what the reader raises ends the stream" do
  raised(ZeroDivisionError) { in_blocks(-1, ->(_) { raise ZeroDivisionError, "mine" }) }
end
test "what the maker of blocks raises ends the stream" do
  raised(ZeroDivisionError) { in_blocks(-1, ->(_) {}, broken: 128) }
end
test "results in another order stand at their places" do
  many_from(OtherOrder).each_with_index.all? { |one, i| Lossd.scalar(one.cross_entropy.loss) == i }
end
test "results that never came are not taken for zeros" do
  OtherOrder::LOST[0] = 98
  raised(RuntimeError) { many_from(OtherOrder) }.message.include?("without some")
end
test("a server that goes in the middle of a stream is UNAVAILABLE, and is not asked again") do
  service = Gone.new
  [raised { many_from(service) }.code, service.streams] == [CODES::UNAVAILABLE, 1]
end
test "a stream that is refused before anything is answered begins again, whatever was taken of it" do
  [full(0.02), GRPC::Unavailable.new("going away")].product([0, 1]).all? do |refusal, taken|
    many, one = Refusing.new(refusal, taken), Refusing.new(refusal, taken)
    results, (_, made) = many_from(many, 5), three_blocks_from(one)
    [results.length, many.calls, one.calls, made.last(3)] == [5, 3, 3, [0, 1, 2]]
  end
end
test "a stream that is refused for good is not repeated" do
  many, one = Refusing.new(full(nil)), Refusing.new(full(nil))
  codes = [raised { many_from(many, 5) }, raised { three_blocks_from(one) }].map(&:code)
  [codes, many.calls, one.calls] == [[CODES::RESOURCE_EXHAUSTED] * 2, 1, 1]
end
puts "#{COUNTS[:passed]} passed, #{COUNTS[:failed]} failed"
exit(COUNTS[:failed].zero? && COUNTS[:passed].positive?)
