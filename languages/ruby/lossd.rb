# frozen_string_literal: true

# lossd from Ruby: tensors, errors, large tensors in blocks, many small evaluations. Copy it, or what you need of it.

require "google/protobuf/well_known_types" # Any#unpack
require "google/rpc/error_details_pb"
require "google/rpc/status_pb"
require "grpc"
require "lossd/v1/service_services_pb"
require_relative "connect"

module Lossd
  # Elements are little-endian, whatever this machine is: dtype → how Array#pack says so, and bytes. float16, bfloat16 and
  # 8-bit floats have no letter: give their bits, as :float16, :bfloat16 and so on.
  PACKING = {
    bool: ["C", 1], uint8: ["C", 1], int8: ["c", 1], int16: ["s<", 2], int32: ["l<", 4], int64: ["q<", 8],
    float8_e4m3fn: ["C", 1], float8_e5m2: ["C", 1], float16: ["S<", 2], bfloat16: ["S<", 2],
    float32: ["e", 4], float64: ["E", 8]
  }.freeze

  # A refused or failed call. code: gRPC's number. reason, field: "" where nobody said; a server that cannot be reached
  # gives no reason. retry_after_s: what the server asked to wait; nil where retrying will not help.
  class Error < StandardError
    attr_reader :code, :reason, :field, :retry_after_s

    def initialize(code, message, details)
      super(message)
      @code, @reason, @field = code, "", ""
      details.each do |any|
        if any.is(Google::Rpc::ErrorInfo)
          @reason = any.unpack(Google::Rpc::ErrorInfo).reason
        elsif any.is(Google::Rpc::BadRequest)
          @field = any.unpack(Google::Rpc::BadRequest).field_violations.first&.field || ""
        elsif any.is(Google::Rpc::RetryInfo)
          delay = any.unpack(Google::Rpc::RetryInfo).retry_delay
          @retry_after_s = delay.seconds + delay.nanos / 1e9
        end
      end
    end

    def self.of(failure)
      return new(failure.code, failure.message, failure.details) if failure.is_a?(V1::Failure)

      status = Google::Rpc::Status.decode(failure.metadata.fetch("grpc-status-details-bin", ""))
      said = new(failure.code, failure.details, status.details)
      told = Lossd.advice(failure.details, said.reason)
      told.empty? ? said : new(failure.code, failure.details + told, status.details)
    end
  end

  module_function

  # values: a number, nested arrays whose shape is the tensor's, or a flat array with its shape.
  def tensor(values, dtype: :float32, shape: nil)
    flat = values.is_a?(Array) ? values.flatten : [values]
    flat = flat.map { |one| one == true ? 1 : one || 0 } if dtype == :bool
    shape ||= shape_of(values)
    raise ArgumentError, "#{flat.length} elements do not fill the shape #{shape}" if flat.length != shape.reduce(1, :*)

    raw(flat.pack("#{PACKING.fetch(dtype).first}*"), dtype, shape)
  end

  # Bytes that are little-endian elements already, such as Numo::SFloat#to_binary.
  def raw(bytes, dtype, shape)
    raise ArgumentError, "#{bytes.bytesize} bytes for #{shape} of #{dtype}" if
      bytes.bytesize != shape.reduce(1, :*) * PACKING.fetch(dtype).last

    V1::Tensor.new(dtype: :"DATA_TYPE_#{dtype.upcase}", shape: shape, data: bytes)
  end

  # The elements, flat. Those of float16, bfloat16 and 8-bit floats are bits.
  def values(tensor)
    letter, = PACKING.fetch(tensor.dtype.to_s.delete_prefix("DATA_TYPE_").downcase.to_sym)
    tensor.data.unpack("#{letter}*")
  end

  def scalar(tensor)
    found = values(tensor)
    raise ArgumentError, "the tensor has #{found.length} elements" if found.length != 1

    found.first
  end

  def shape_of(values)
    return [] unless values.is_a?(Array)
    return [values.length] unless values.first.is_a?(Array)
    raise ArgumentError, "rows of different shapes" if values.map { |one| shape_of(one) }.uniq.length > 1

    [values.length, *shape_of(values.first)]
  end

  # The response of `name`, as :cross_entropy, or an Error. It is repeated where that may help. A full server refuses a call by
  # the size that it announces, before it is sent.
  def call(stub, name, request, timeout: 60, patience: 5)
    size = { "lossd-request-bytes" => request.class.encode(request).bytesize.to_s }
    repeated(timeout, patience) do |deadline|
      stub.public_send(name, request, metadata: size, deadline: deadline)
    rescue GRPC::BadStatus => e
      raise Error.of(e)
    end
  end

  # What the block gives, which gets a deadline and runs again where its Error may pass: losses change nothing. UNAVAILABLE may,
  # for `patience` seconds, in which a server starts anew; RESOURCE_EXHAUSTED where the server says after how long; until the
  # deadline. answered: whether something is there that must not come twice.
  def repeated(timeout, patience = 5, answered = -> { false })
    start, wait, deadline = now, 0.05, Time.now + timeout
    begin
      yield deadline
    rescue Error => e
      away = e.code == GRPC::Core::StatusCodes::UNAVAILABLE
      passes = away || (e.code == GRPC::Core::StatusCodes::RESOURCE_EXHAUSTED && e.retry_after_s)
      pause = [wait, e.retry_after_s || 0].max * rand(0.8..1.2)
      raise if !passes || answered.call || now + pause >= start + (away ? [timeout, patience].min : timeout)

      sleep(pause)
      wait = [2 * wait, 2].min
      retry
    end
  end

  def now
    Process.clock_gettime(Process::CLOCK_MONOTONIC)
  end

  # One evaluation in blocks of `items` of dimension 0. open: its request, with `streamed` tensors. answered: gets each
  # BlockResult. The block of code gives a Block with the tensors of items first … first + count − 1; from the first on again
  # where the server refused it before it answered anything.
  #
  # gRPC takes requests from an Enumerator in a thread of its own, the next one when there is room on the wire, and the
  # answers are read here meanwhile: no more than a block or two is in memory.
  def evaluate_in_blocks(stub, open, total, items, answered, timeout: 300)
    id, result, heard = open.evaluation_id, nil, false
    requests = Enumerator.new do |out|
      out << V1::StreamRequest.new(open: open)
      0.step(total - 1, items) do |first|
        block = yield(first, [items, total - first].min)
        block.evaluation_id, block.first_item = id, first
        out << V1::StreamRequest.new(block: block)
      end
      out << V1::StreamRequest.new(end: V1::End.new(evaluation_id: id))
    end
    repeated(timeout, 5, -> { heard }) do |deadline|
      exchange(stub, requests, deadline) do |message|
        raise Error.of(message.failure) if message.message == :failure

        heard = true
        answered.call(message.block) if message.message == :block
        result = message.result if message.message == :result
      end
    end
    result || raise("the stream ended without a result")
  end

  # Small evaluations on one stream, at most `window` of them unanswered. requests: as Open's fields, for example
  # {cross_entropy: request}. The results are in their order, whatever order they came in; a failed one has `failure`. A stream
  # that the server refused before it answered any begins again.
  def evaluate_many(stub, requests, window: 64, timeout: 300)
    results, answered, heard = Array.new(requests.size), 0, false
    lock, changed = Mutex.new, ConditionVariable.new
    put = lambda do |result|
      results[result.evaluation_id] = result
      lock.synchronize { answered += 1 }
      changed.broadcast
    end
    repeated(timeout, 5, -> { heard }) do |deadline|
      ended = false
      sent = Enumerator.new do |out|
        requests.each_with_index do |request, id|
          lock.synchronize { changed.wait(lock) until ended || id - answered < window }
          break if ended

          opens = V1::Opens.new(opens: [V1::Open.new(evaluation_id: id, **request)])
          out << V1::StreamRequest.new(opens: opens)
        end
      end
      exchange(stub, sent, deadline) do |message|
        heard = true
        case message.message
        when :results then message.results.results.each(&put) # the server joins those that are ready together
        when :result then put.call(message.result)
        when :failure
          failure = message.failure
          put.call(V1::EvaluationResult.new(evaluation_id: failure.evaluation_id, failure: failure))
        end
      end
    ensure
      lock.synchronize { ended = true }
      changed.broadcast
    end
    raise "the stream ended without some of the results" if answered != results.length

    results
  end

  # Yields every answer. What the block raises, or `requests`, ends the stream.
  def exchange(stub, requests, deadline)
    mine = nil # gRPC would report it as its own, without its class
    guarded = Enumerator.new do |out|
      requests.each { |message| out << message }
    rescue StandardError => e
      mine = e
      raise
    end
    operation = stub.stream(guarded, deadline: deadline, return_op: true)
    operation.execute.each { |message| yield message }
  rescue StandardError => e
    operation&.cancel
    raise mine || (e.is_a?(GRPC::BadStatus) ? Error.of(e) : e)
  end
end
