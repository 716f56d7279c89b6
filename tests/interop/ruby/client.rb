# Interop client: gRPC's Ruby stub. `ruby client.rb ADDRESS CASE`, with the generated files on its load path.
require 'json'
require 'grpc'
require 'google/protobuf/well_known_types'
require 'google/rpc/status_pb'
require 'google/rpc/error_details_pb'
require 'lossd/v1/service_services_pb'

OPTIONS = { 'grpc.max_receive_message_length' => -1, 'grpc.max_send_message_length' => -1 }.freeze
KEEPALIVE = { 'grpc.keepalive_time_ms' => 10_000, 'grpc.http2.max_pings_without_data' => 0 }.freeze
DEADLINE_S = 0.5
REFUSALS = 2000
# Streams: rows, classes, rows of a block.
WHOLE = [1000, 100, 64].freeze
HALVES = [8, 16, 4].freeze

include Lossd::V1

def logits(from, n, c)
  Array.new(n * c) { |i| (from * c + i) * 7919 % 10_007 / 1000.0 - 5 }
end

def rows(from, n, c)
  Tensor.new(dtype: :DATA_TYPE_FLOAT32, shape: [n, c], data: logits(from, n, c).pack('e*'))
end

def indices(values)
  Tensor.new(dtype: :DATA_TYPE_INT64, shape: [values.size], data: values.pack('q<*'))
end

def floats(tensor)
  tensor.data.unpack('e*')
end

def request(n, c, input = rows(0, n, c))
  target = indices(Array.new(n) { |i| i * 31 % c })
  CrossEntropyRequest.new(input: input, target: target, gradients: [:GRADIENT_INPUT])
end

# Open, the blocks, End.
def streamed(n, c, items)
  input = Tensor.new(dtype: :DATA_TYPE_FLOAT32, shape: [n, c], streamed: Streamed.new)
  open = Open.new(evaluation_id: 1, cross_entropy: request(n, c, input))
  blocks = 0.step(n - 1, items).map do |first|
    Block.new(evaluation_id: 1, first_item: first, input: rows(first, [items, n - first].min, c))
  end
  [StreamRequest.new(open: open), *blocks.map { |block| StreamRequest.new(block: block) },
   StreamRequest.new(end: End.new(evaluation_id: 1))]
end

# The loss, and the gradient as one number that changes with every entry's value and place.
def told(answer, gradient = floats(answer.input_gradient))
  weighted = 0.0
  gradient.each_with_index { |g, i| weighted += g.abs * (1 + i % 97) }
  { loss: floats(answer.loss)[0], gradient: weighted }
end

# Tells the test that this point is reached, and waits until it says to go on.
def pause
  puts 'paused'
  $stdin.gets
end

# The status code that the block ends with.
def code
  yield
  0
rescue GRPC::BadStatus => e
  e.code
end

# A streamed evaluation.
class Evaluation
  attr_reader :operation

  def initialize(stub, shape, deadline: nil)
    @messages = streamed(*shape)
    @requests = Queue.new
    @blocks = []
    @ended = 0
    requests = Enumerator.new { |out| while (message = @requests.pop) do out << message end }
    @operation = stub.stream(requests, deadline: deadline, return_op: true)
    @answers = @operation.execute
  end

  # Stands still after its first block was answered, or the call has ended.
  def half
    @messages[0, 2].each { |message| @requests << message }
    @ended = code { take(@answers.next) }
    self
  end

  # The code that the call ends with.
  def end
    return @ended unless @ended.zero?

    code { loop { take(@answers.next) } } # `next` ends the loop where the answers end
  end

  def finish(from)
    [*@messages[from..], nil].each { |message| @requests << message }
    ended = self.end
    gradient = @blocks.flat_map { |block| floats(block.input_gradient) }
    { **told(@result.cross_entropy, gradient), blocks: @blocks.size, code: ended }
  end

  private

  def take(answer)
    if answer.block then @blocks << answer.block else @result = answer.result end
  end
end

# The cases, by name.
class Cases
  def initialize(address, channel)
    @channel = channel
    @stub = LossService::Stub.new(address, :this_channel_is_insecure, channel_override: channel)
  end

  def unary
    told(@stub.cross_entropy(request(4, 5)))
  end

  def stream
    Evaluation.new(@stub, WHOLE).finish(0)
  end

  def error
    wrong = request(4, 5)
    wrong.target = indices([0, 9, 0, 0])
    @stub.cross_entropy(wrong)
  rescue GRPC::BadStatus => e
    packed = Google::Rpc::Status.decode(e.metadata['grpc-status-details-bin'])
    info, bad = [Google::Rpc::ErrorInfo, Google::Rpc::BadRequest].map do |type|
      packed.details.find { |detail| detail.is(type) }.unpack(type)
    end
    { code: e.code, reason: info.reason, domain: info.domain, fields: bad.field_violations.map(&:field) }
  end

  def deadline
    { code: Evaluation.new(@stub, HALVES, deadline: Time.now + DEADLINE_S).half.end }
  end

  def cancel
    evaluation = Evaluation.new(@stub, HALVES).half
    evaluation.operation.cancel
    { code: evaluation.end, **unary }
  end

  def large
    told(@stub.cross_entropy(request(4096, 1024)))
  end

  def many
    one = request(8, 16)
    answers = Array.new(1000) { told(@stub.cross_entropy(one)) }
    { **answers[0], calls: answers.size, same: answers.uniq.size == 1 }
  end

  def refusals
    large = request(200, 128)
    codes = Array.new(REFUSALS) { code { @stub.cross_entropy(large) } }.uniq
    { code: codes.size == 1 ? codes[0] : codes, **unary }
  end

  def keepalive
    evaluation = Evaluation.new(@stub, HALVES).half
    pause
    evaluation.finish(2)
  end

  def drain
    evaluation = Evaluation.new(@stub, HALVES).half
    pause
    finished = evaluation.finish(2)
    refused = code { unary }
    pause
    reconnect
    { **finished, refused: refused, again: unary[:loss] }
  end

  private

  # Its stub cannot wait for a connection, its channel can.
  def reconnect
    ready = GRPC::Core::ConnectivityStates::READY
    until (state = @channel.connectivity_state(true)) == ready
      @channel.watch_connectivity_state(state, Time.now + 60)
    end
  end
end

address, name = ARGV
options = name == 'keepalive' ? OPTIONS.merge(KEEPALIVE) : OPTIONS
channel = GRPC::Core::Channel.new(address, options, :this_channel_is_insecure)
$stdout.sync = true
puts JSON.generate(Cases.new(address, channel).public_send(name))
